"""The cross-encoder: the logits that sentence-transformers gives from the same folder, and one-line errors."""

from pathlib import Path

import numpy as np
import pytest
import sentence_transformers
import torch

from raylevance.errors import RaylevanceError
from raylevance.judges.cross_encoder import CrossEncoder, load_pair_tokenizer

QUERIES = ["red running shoe", "usb charger", "lamp", "", "desk chair " * 30]
TEXTS = ["blue sock", "charger cable for laptop " * 20, "", "red lamp", "desk"]
"""Short and long on either side, and empty."""


def perturbed(backbone: Path, max_tokens: int = 24) -> CrossEncoder:
    """A cross-encoder that is far from its fresh head."""
    model = CrossEncoder.from_backbone(backbone, max_tokens)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def test_sentence_transformers_gives_the_same_logits(tiny_backbone: Path, tmp_path: Path) -> None:
    model = perturbed(tiny_backbone)
    model.save(tmp_path / "model")
    peer = sentence_transformers.CrossEncoder(str(tmp_path / "model"))
    logits = torch.from_numpy(peer.predict(list(zip(QUERIES, TEXTS, strict=True))))
    assert logits.std() > 0.1
    np.testing.assert_allclose(model.log_probabilities(QUERIES, TEXTS), logits.log_softmax(dim=-1), atol=1e-5)


def test_load_gives_back_what_was_saved(tiny_backbone: Path, tmp_path: Path) -> None:
    model = perturbed(tiny_backbone)
    model.save(tmp_path / "model")
    again = CrossEncoder.load(tmp_path / "model")
    np.testing.assert_array_equal(again.log_probabilities(QUERIES, TEXTS), model.log_probabilities(QUERIES, TEXTS))
    assert max(map(len, load_pair_tokenizer(tmp_path / "model")(QUERIES, TEXTS))) == 24


def test_probabilities_keep_their_order_for_any_budget(tiny_backbone: Path) -> None:
    model = perturbed(tiny_backbone)
    done: list[int] = []
    whole = model.log_probabilities(QUERIES * 10, TEXTS * 10, progress=done.append)
    alone = [model.log_probabilities([query], [text]) for query, text in zip(QUERIES, TEXTS, strict=True)]
    np.testing.assert_allclose(whole, np.concatenate(alone * 10), atol=1e-5)
    np.testing.assert_allclose(np.exp(whole).sum(axis=1), 1, atol=1e-5)
    assert whole.dtype == np.float32 and sum(done) == len(whole)
    assert model.log_probabilities([], []).shape == (0, 3)


def test_a_fresh_head_is_of_its_seed_alone(tiny_backbone: Path) -> None:
    heads = [CrossEncoder.from_backbone(tiny_backbone, 24, seed).network.classifier.weight for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_unreadable_models_are_one_line(tiny_backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(RaylevanceError, match=r"^/no/such: no such folder"):
        CrossEncoder.from_backbone("/no/such", 24)
    with pytest.raises(RaylevanceError, match="reads at most 64 tokens, got max_tokens=65"):
        CrossEncoder.from_backbone(tiny_backbone, 65)
    with pytest.raises(RaylevanceError, match="has 2 labels, expected 3, one per grade"):
        CrossEncoder.load(tiny_backbone)
    CrossEncoder.from_backbone(tiny_backbone, 24).save(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RaylevanceError, match="not a readable cross-encoder folder") as caught:
        CrossEncoder.load(tmp_path / "model")
    assert "\n" not in str(caught.value)
