"""Tests of the transfer to neighbour queries against a naive loop."""

import numpy as np
import pytest

from raylevance.index import transfer
from raylevance.index.transfer import NeighbourQueries


def unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    vectors = rng.normal(size=(rows, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_transfer_equals_the_naive_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs come in batches of 7. Some items have no neighbours, the first and the last included, or are unknown."""
    monkeypatch.setattr(transfer, "PAIRS_PER_BATCH", 7)
    rng = np.random.default_rng(0)
    degree = np.array([0, 3, 1, 0, 0, 5, 2, 0])
    indptr = np.concatenate([[0], np.cumsum(degree)])
    neighbours = NeighbourQueries(indptr, rng.integers(0, 6, 11), rng.random(11).astype(np.float32), unit(rng, 6))
    vectors, items = unit(rng, 100), rng.integers(-1, 8, 100)
    total, highest = neighbours.transfer(vectors, items)
    for pair, item in enumerate(items):
        edges = range(indptr[item], indptr[item + 1]) if item >= 0 else range(0)
        cosines = [float(vectors[pair] @ neighbours.vectors[neighbours.queries[edge]]) for edge in edges]
        if not cosines:
            assert np.isnan(total[pair]) and np.isnan(highest[pair])
            continue
        weighted = sum(float(neighbours.weights[edge]) * cosine for edge, cosine in zip(edges, cosines, strict=True))
        assert total[pair] == pytest.approx(weighted, abs=1e-6)
        assert highest[pair] == pytest.approx(max(cosines), abs=1e-6)


def test_no_item_has_neighbours() -> None:
    rng = np.random.default_rng(0)
    empty = NeighbourQueries(np.zeros(3, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), unit(rng, 0))
    total, highest = empty.transfer(unit(rng, 4), np.array([0, 1, -1, 0]))
    assert np.isnan(total).all() and np.isnan(highest).all() and total.shape == (4,)
