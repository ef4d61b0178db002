"""Mixed negatives against a loop over anchors, with vectors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.losses.mixed_negatives import mixed_negatives


@given(seed=st.integers(0, 10_000), m=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_products_equal_those_of_the_mixed_vectors(seed: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    anchors, candidates = rng.normal(size=(5, 6)), rng.normal(size=(9, 6))
    anchors, candidates = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (anchors, candidates))
    cosines = anchors @ candidates.T
    kind = rng.integers(0, 3, cosines.shape)
    positives = np.where(kind == 1, rng.integers(1, 4, cosines.shape), 0).astype(float)
    negatives = np.where(kind == 2, rng.choice([0.3, 1.0], cosines.shape), 0.0)
    draws = rng.random((5, m, 2))
    tensors = [torch.from_numpy(part) for part in (cosines, positives, negatives, draws)]
    mixed, weights = mixed_negatives(*tensors)
    for t in range(5):
        near = [n for n in np.argsort(-cosines[t]) if negatives[t, n] > 0][:m]
        if not positives[t].any():
            near = []
        assert (weights[t] > 0).sum() == len(near)
        for place, n in enumerate(near):
            shares = positives[t].cumsum() / positives[t].sum()
            p = int(np.argmax(shares > draws[t, place, 1]))
            c = 0.4 + 0.2 * draws[t, place, 0]
            vector = c * candidates[p] + (1 - c) * candidates[n]
            assert mixed[t, place].item() == pytest.approx(anchors[t] @ vector)
            assert weights[t, place].item() == negatives[t, n]


def test_positives_are_drawn_by_their_weights() -> None:
    cosines = torch.tensor([[0.9, 0.1, 0.0]]).repeat(2000, 1)
    positives, negatives = torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    draws = torch.rand(2000, 1, 2, generator=torch.Generator().manual_seed(0))
    mixed, _ = mixed_negatives(cosines, positives.repeat(2000, 1), negatives.repeat(2000, 1), draws)
    assert (mixed > 0.2).float().mean().item() == pytest.approx(0.75, abs=0.04)
