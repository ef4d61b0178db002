"""Knowledge fusion, semi-supervised labels and soft targets against loops in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.losses.binary_cross_entropy import multi_label_cross_entropy
from raylevance.losses.semi_labels import fuse_knowledge, place_knowledge, semi_labels, soft_targets


def vectors(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.normal(size=shape))


def fused_by_hand(query: list[float], texts: list[list[float]]) -> list[float]:
    """Return q + sum_j alpha_j K_j with alpha = softmax(q K^T), one number at a time."""
    scores = [sum(a * b for a, b in zip(query, text, strict=True)) for text in texts]
    powers = [math.exp(score - max(scores)) for score in scores] if texts else []
    return [
        value + sum(power / sum(powers) * text[place] for power, text in zip(powers, texts, strict=True))
        for place, value in enumerate(query)
    ]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(0, 1000))
def test_fusion_equals_the_formula_for_any_number_of_texts(counts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, knowledge = vectors(rng, len(counts), 3), vectors(rng, len(counts), max(counts), 3)
    mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    fused = fuse_knowledge(queries, knowledge, mask)
    for row, count in enumerate(counts):
        by_hand = fused_by_hand(queries[row].tolist(), knowledge[row, :count].tolist())
        np.testing.assert_allclose(fused[row].numpy(), by_hand, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.text("ab", max_size=2), max_size=4), max_size=5))
def test_places_lead_back_to_the_texts(known: list[list[str]]) -> None:
    texts, places = place_knowledge(known)
    assert len(set(texts)) == len(texts) and places.shape == (len(known), max(map(len, known), default=0))
    assert [[texts[place] for place in row if place >= 0] for row in places.tolist()] == known
    assert all(sorted(row, key=lambda place: place < 0) == row for row in places.tolist()), "padding comes last"


def test_padding_never_reaches_the_gradient() -> None:
    """A query without knowledge has a finite gradient, and what stands in its padding has none."""
    rng = np.random.default_rng(0)
    queries, knowledge = vectors(rng, 2, 3).requires_grad_(), vectors(rng, 2, 2, 3).requires_grad_()
    fuse_knowledge(queries, knowledge, torch.tensor([[True, False], [False, False]])).square().sum().backward()
    assert queries.grad is not None and knowledge.grad is not None
    assert torch.isfinite(queries.grad).all() and torch.isfinite(knowledge.grad).all()
    assert knowledge.grad[0, 0].abs().sum() > 0
    assert knowledge.grad[0, 1].abs().sum() == 0 and knowledge.grad[1].abs().sum() == 0


def test_labels_pass_from_tau_on_with_their_cosine() -> None:
    rng = np.random.default_rng(1)
    fused, labels = vectors(rng, 6, 4), vectors(rng, 5, 4)
    tau = 0.2
    passed = semi_labels(fused, labels, tau)
    for i, q in enumerate(fused.tolist()):
        for j, c in enumerate(labels.tolist()):
            cosine = sum(a * b for a, b in zip(q, c, strict=True)) / (math.hypot(*q) * math.hypot(*c))
            assert float(passed[i, j]) == pytest.approx(cosine if cosine >= tau else 0.0, abs=1e-6)
    assert 0 < int((passed > 0).sum()) < passed.numel()


def test_targets_are_added_up_to_one() -> None:
    click, semi = torch.tensor([[1.0, 0.0, 0.4, 0.0]]), torch.tensor([[0.9, 0.8, 0.7, 0.0]])
    torch.testing.assert_close(soft_targets(click, semi), torch.tensor([[1.0, 0.8, 1.0, 0.0]]))


def test_cross_entropy_of_soft_labels_equals_a_loop() -> None:
    rng = np.random.default_rng(2)
    logits, targets, weights = vectors(rng, 4, 3), torch.from_numpy(rng.random((4, 3))), torch.from_numpy(rng.random(4))
    total = 0.0
    for row in range(4):
        for label in range(3):
            z, y = float(logits[row, label]), float(targets[row, label])
            p = 1 / (1 + math.exp(-z))
            total -= float(weights[row]) * (y * math.log(p) + (1 - y) * math.log(1 - p))
    assert float(multi_label_cross_entropy(logits, targets, weights)) == pytest.approx(total, rel=1e-12)
