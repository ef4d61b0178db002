"""The relevance model: its features equal those of a naive loop, and an untrained model ranks like the cosine."""

from pathlib import Path

import numpy as np
import pytest
import torch

from raylevance.errors import RaylevanceError
from raylevance.models import relevance
from raylevance.models.encoder import Encoder, EncoderSettings
from raylevance.models.pair_features import pair_features
from raylevance.models.relevance import RelevanceModel, RelevanceModelSettings, load_relevance_tokenizer

QUERIES = ["red running shoe", "usb charger", "lamp", "", "desk lamp", "usb charger"]
TEXTS = ["running sock blue", "charger cable for laptop " * 8, "", "red lamp", "desk lamp", "blue chair zz"]
"""Short and long on either side, empty, and one of letters that are no word."""


@pytest.fixture(scope="module")
def start(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder with different heads for queries and items."""
    settings = EncoderSettings(backbone=str(tiny_backbone), projection=16, max_query_tokens=12, max_item_tokens=20)
    encoder = Encoder.from_backbone(settings)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("start") / "encoder"
    encoder.save(folder)
    return folder


def perturbed(start: Path, **settings: bool) -> RelevanceModel:
    """Return a model whose head is far from an untrained one."""
    model = RelevanceModel.from_encoder(start, RelevanceModelSettings(hidden=8, **settings))
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def words(encoder: Encoder, text: str, side: str) -> np.ndarray:
    """Return the unit states [t, d] of the text's tokens without [CLS] and [SEP], by Hugging Face's forward pass."""
    tower, head = (getattr(encoder, f"{side}_{part}") for part in ("tower", "head"))
    limit = encoder.tokenize.limits[side]  # type: ignore[index]
    given = encoder.tokenize.tokenizer(text, return_tensors="pt", truncation=True, max_length=limit)
    with torch.inference_mode():
        states = head(tower(**given).last_hidden_state[0, 1:-1]).numpy()
    return states / np.linalg.norm(states, axis=1, keepdims=True)


def naive_features(encoder: Encoder, query: str, text: str) -> np.ndarray:
    u, v = encoder.encode_queries([query])[0], encoder.encode_items([text])[0]
    own, other = words(encoder, query, "query"), words(encoder, text, "item")
    nearest = [max(float(one @ two) for two in other) for one in own if len(other)]
    return np.concatenate([u, v, abs(u - v), u * v, [u @ v], [np.mean(nearest) if nearest else 0]])


def test_features_equal_the_naive_ones(start: Path) -> None:
    """Texts encoded together, with padding, have the features of texts encoded one by one."""
    model = perturbed(start)
    queries, query_rows = model._encode_distinct(QUERIES, "query", None)
    items, item_rows = model._encode_distinct(TEXTS, "item", None)
    assert len(queries.vectors) == 5 and query_rows.tolist() == [0, 1, 2, 3, 4, 1]
    features, cosines = pair_features(queries.take(query_rows), items.take(item_rows))
    naive = np.array([naive_features(model.encoder, *pair) for pair in zip(QUERIES, TEXTS, strict=True)])
    np.testing.assert_allclose(features, naive, atol=1e-5)
    np.testing.assert_allclose(cosines, naive[:, -2], atol=1e-5)
    assert naive[[2, 3], -1].tolist() == [0, 0] and naive[[0, 1, 4, 5], -1].std() > 0.01


@pytest.mark.parametrize("token_interaction", [True, False])
def test_an_untrained_head_ranks_as_the_cosine(start: Path, token_interaction: bool) -> None:
    model = RelevanceModel.from_encoder(start, RelevanceModelSettings(token_interaction=token_interaction))
    encoder = Encoder.load(start)
    cosines = (encoder.encode_queries(QUERIES) * encoder.encode_items(TEXTS)).sum(axis=1)
    np.testing.assert_allclose(model.score(QUERIES, TEXTS), 10 * (cosines - 0.5), atol=1e-5)


@pytest.mark.parametrize("token_interaction", [True, False])
def test_load_gives_back_what_was_saved(start: Path, tmp_path: Path, token_interaction: bool) -> None:
    model = perturbed(start, token_interaction=token_interaction)
    model.save(tmp_path / "model")
    again = RelevanceModel.load(tmp_path / "model")
    scores = model.score(QUERIES, TEXTS)
    np.testing.assert_array_equal(again.score(QUERIES, TEXTS), scores)
    assert scores.dtype == np.float32 and scores.std() > 0.01
    vectors = Encoder.load(tmp_path / "model" / "encoder").encode_items(TEXTS)
    np.testing.assert_array_equal(vectors, Encoder.load(start).encode_items(TEXTS))
    assert load_relevance_tokenizer(tmp_path / "model")(TEXTS, "item") == model.encoder.tokenize(TEXTS, "item")


@pytest.mark.parametrize("token_interaction", [True, False])
def test_scores_keep_their_order_for_any_budget(
    start: Path, monkeypatch: pytest.MonkeyPatch, token_interaction: bool
) -> None:
    monkeypatch.setattr(relevance, "READ_PAIRS", 7)
    monkeypatch.setattr(relevance, "COMPARED_PAIRS", 3)
    model, done = perturbed(start, token_interaction=token_interaction), []
    whole = model.score(QUERIES * 4, TEXTS * 4, batch_tokens=30, progress=done.append)
    alone = [model.score([query], [text]) for query, text in zip(QUERIES, TEXTS, strict=True)]
    np.testing.assert_allclose(whole, np.concatenate(alone * 4), atol=1e-5)
    assert sum(done) == 24 and model.score([], []).shape == (0,)


@pytest.mark.parametrize("freeze_encoder", [True, False])
def test_a_frozen_encoder_gets_no_gradient(start: Path, freeze_encoder: bool) -> None:
    """A frozen encoder has no gradient, and stays without dropout while the head trains."""
    model = perturbed(start, freeze_encoder=freeze_encoder).train()
    assert model.head.training and model.encoder.training is not freeze_encoder
    ids = torch.tensor([[2, 5, 6, 3]])
    model(model.encode_tokens(ids, None, "query"), model.encode_tokens(ids, None, "item")).sum().backward()
    assert all(parameter.grad is not None for parameter in model.head.parameters())
    assert any(parameter.grad is not None for parameter in model.encoder.parameters()) is not freeze_encoder


def test_unreadable_models_are_one_line(start: Path, tmp_path: Path) -> None:
    with pytest.raises(RaylevanceError, match=r"^/no/such: no such folder, and no relevance model"):
        RelevanceModel.load("/no/such")
    with pytest.raises(RaylevanceError, match="not a readable relevance model folder"):
        RelevanceModel.load(start)
    perturbed(start).save(tmp_path / "model")
    perturbed(start, token_interaction=False).save(tmp_path / "other")
    (tmp_path / "other" / "head.safetensors").replace(tmp_path / "model" / "head.safetensors")
    with pytest.raises(RaylevanceError, match="not a readable relevance model folder") as caught:
        RelevanceModel.load(tmp_path / "model")
    assert "\n" not in str(caught.value)
