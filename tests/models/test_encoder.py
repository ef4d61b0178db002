"""The encoder gives the same vectors as sentence-transformers from the same folder, and one-line errors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from raylevance.errors import RaylevanceError
from raylevance.models.batching import length_groups, pad
from raylevance.models.encoder import Encoder, EncoderSettings, load_encoder_tokenizer

QUERIES = ["red running shoes", "usb charger", "a", "desk lamp"]
"""Within the limit: a tied encoder has one in sentence-transformers, that of items."""
ITEMS = ["red running shoe with wool sock", "charger cable for laptop " * 8, "desk", "", "desk lamp"]
FORMS = [(tied, projection) for tied in (True, False) for projection in (None, 16)]


def random_encoder(backbone: Path, tied: bool, projection: int | None) -> Encoder:
    """Return an encoder whose sides differ as far as its settings allow."""
    settings = EncoderSettings(
        backbone=str(backbone),
        tied=tied,
        projection=projection,
        max_query_tokens=12,
        max_item_tokens=20,
        query_prompt="for ",
        item_prompt="with ",
    )
    encoder = Encoder.from_backbone(settings)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


@pytest.mark.parametrize(("tied", "projection"), FORMS)
def test_sentence_transformers_gives_the_same_vectors(
    tiny_backbone: Path, tmp_path: Path, tied: bool, projection: int | None
) -> None:
    encoder = random_encoder(tiny_backbone, tied, projection)
    encoder.save(tmp_path / "encoder")
    peer = SentenceTransformer(str(tmp_path / "encoder"))
    np.testing.assert_allclose(encoder.encode_queries(QUERIES), peer.encode_query(QUERIES), atol=1e-6)
    np.testing.assert_allclose(encoder.encode_items(ITEMS), peer.encode_document(ITEMS), atol=1e-6)


@pytest.mark.parametrize(("tied", "projection"), FORMS)
def test_load_gives_back_what_was_saved(
    tiny_backbone: Path, tmp_path: Path, tied: bool, projection: int | None
) -> None:
    encoder = random_encoder(tiny_backbone, tied, projection)
    encoder.save(tmp_path / "encoder")
    again = Encoder.load(tmp_path / "encoder")
    assert again.settings == encoder.settings
    np.testing.assert_array_equal(again.encode_queries(QUERIES), encoder.encode_queries(QUERIES))
    np.testing.assert_array_equal(again.encode_items(ITEMS), encoder.encode_items(ITEMS))


@pytest.mark.parametrize(("tied", "projection"), FORMS)
def test_two_towers_start_where_the_encoder_is_and_move_apart(
    tiny_backbone: Path, tmp_path: Path, tied: bool, projection: int | None
) -> None:
    encoder = random_encoder(tiny_backbone, tied, projection)
    encoder.with_two_towers().save(tmp_path / "encoder")
    apart = Encoder.load(tmp_path / "encoder")
    assert not apart.settings.tied
    np.testing.assert_array_equal(apart.encode_queries(QUERIES), encoder.encode_queries(QUERIES))
    items = encoder.encode_items(ITEMS)
    np.testing.assert_array_equal(apart.encode_items(ITEMS), items)
    with torch.no_grad():
        for parameter in apart.query_tower.parameters():
            parameter.mul_(0.5)
    np.testing.assert_array_equal(apart.encode_items(ITEMS), items)


def test_an_untied_item_limit_is_the_peers_too(tiny_backbone: Path, tmp_path: Path) -> None:
    encoder = random_encoder(tiny_backbone, tied=False, projection=None)
    encoder.save(tmp_path / "encoder")
    long_query = ["lamp desk chair " * 30]
    peer = SentenceTransformer(str(tmp_path / "encoder"))
    np.testing.assert_allclose(encoder.encode_queries(long_query), peer.encode_query(long_query), atol=1e-6)
    assert len(load_encoder_tokenizer(tmp_path / "encoder")(long_query, "query")[0]) == 12


def test_a_plain_folder_loads_with_its_own_limit(minilm: Path) -> None:
    texts = ["red running shoes", "usb c charger " * 200, "Nike Air Zoom, size 10"]
    encoder = Encoder.load(minilm)
    assert encoder.settings.max_item_tokens == 256
    np.testing.assert_allclose(encoder.encode_items(texts), SentenceTransformer(str(minilm)).encode(texts), atol=1e-6)


def test_a_hugging_face_folder_without_modules_loads(tiny_backbone: Path) -> None:
    assert Encoder.load(tiny_backbone).encode_items(["desk"]).shape == (1, 32)


def test_vectors_keep_the_order_and_the_norm_for_any_budget(tiny_backbone: Path) -> None:
    encoder = Encoder.load(tiny_backbone)
    done: list[int] = []
    vectors = encoder.encode_items(ITEMS * 10, batch_tokens=40, progress=done.append)
    alone = np.concatenate([encoder.encode_items([text]) for text in ITEMS * 10])
    np.testing.assert_allclose(vectors, alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors.dtype == np.float32 and sum(done) == len(vectors)
    assert encoder.encode_items([]).shape == (0, 32)


def test_new_heads_agree(tiny_backbone: Path) -> None:
    encoder = Encoder.from_backbone(EncoderSettings(backbone=str(tiny_backbone), projection=8))
    np.testing.assert_array_equal(encoder.encode_queries(QUERIES), encoder.encode_items(QUERIES))


def test_dropout_is_the_settings_own(tiny_backbone: Path) -> None:
    ids = torch.arange(6).reshape(1, 6)
    still = Encoder.from_backbone(EncoderSettings(backbone=str(tiny_backbone))).train()
    assert torch.equal(still(ids, None, "item"), still(ids, None, "item"))
    noisy = Encoder.from_backbone(EncoderSettings(backbone=str(tiny_backbone), dropout=0.3)).train()
    assert not torch.equal(noisy(ids, None, "item"), noisy(ids, None, "item"))


@pytest.mark.parametrize("path", ["/no/such/folder", "nobody/no-such-model"])
def test_a_missing_backbone_is_one_line(path: str) -> None:
    with pytest.raises(RaylevanceError, match=f"^{path}: no such folder") as caught:
        Encoder.load(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(RaylevanceError, match="no such folder"):
        Encoder.from_backbone(EncoderSettings(backbone=path))


def test_torn_and_missing_weights_are_one_line(tiny_backbone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    Encoder.load(tiny_backbone).save(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RaylevanceError, match="not a readable encoder folder") as caught:
        Encoder.load(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    weights.unlink()
    with pytest.raises(RaylevanceError, match="not a readable encoder folder"):
        Encoder.load(folder)


def test_a_limit_beyond_the_positions_is_refused(tiny_backbone: Path) -> None:
    with pytest.raises(RaylevanceError, match="reads 64 tokens at most, got a limit of 100"):
        Encoder.from_backbone(EncoderSettings(backbone=str(tiny_backbone), max_item_tokens=100))


def test_an_encoder_that_pools_otherwise_is_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    Encoder.load(tiny_backbone).save(folder)
    (folder / "encoder.json").unlink()
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text().replace("mean_tokens", "cls_token").replace("cls_token", "mean_tokens", 1))
    with pytest.raises(RaylevanceError, match="pools by"):
        Encoder.load(folder)


def test_length_groups_hold_every_row_once_within_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 500)
    groups = length_groups(lengths, batch_tokens=256, max_texts=20)
    assert sorted(np.concatenate(groups).tolist()) == list(range(500))
    assert all(len(rows) * lengths[rows].max() <= 256 and len(rows) <= 20 for rows in groups)
    assert len(length_groups(np.array([1000]), batch_tokens=10)) == 1


def test_pad_masks_only_where_something_is_padded() -> None:
    ids, mask = pad([[1, 2, 3], [4]], pad_id=9)
    assert ids.tolist() == [[1, 2, 3], [4, 9, 9]]
    assert mask is not None and mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert pad([[1, 2], [3, 4]], pad_id=9)[1] is None
