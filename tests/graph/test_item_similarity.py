"""Swing, item-CF and EASE against loops over a small log."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from raylevance.graph.csr import Csr
from raylevance.graph.item_similarity import ease, item_cf
from raylevance.graph.swing import SwingSettings, swing


@pytest.fixture
def choices() -> sp.csr_matrix:
    rng = np.random.default_rng(4)
    return sp.csr_matrix((rng.random((12, 8)) < 0.35).astype(float))


def dense(graph: Csr) -> np.ndarray:
    table = np.zeros((graph.rows, graph.columns))
    table[graph.edge_rows(), graph.indices] = graph.weights
    return table


def test_swing_equals_a_loop_over_pairs_of_users(choices: sp.csr_matrix) -> None:
    settings = SwingSettings(alpha=2.0, user_alpha=3.0, user_beta=0.4)
    owned = [set(np.flatnonzero(row)) for row in choices.toarray()]
    expected = np.zeros((8, 8))
    for u, v in itertools.combinations(range(12), 2):
        both = owned[u] & owned[v]
        weights = [(settings.user_alpha + len(owned[user])) ** -settings.user_beta for user in (u, v)]
        for i, j in itertools.permutations(both, 2):
            expected[i, j] += weights[0] * weights[1] / (settings.alpha + len(both))
    users = Csr.from_edges(*choices.nonzero(), np.ones(choices.nnz), choices.shape)
    np.testing.assert_allclose(dense(swing(users, settings)), expected, rtol=1e-5)
    top = dense(swing(users, settings.model_copy(update={"top": 2})))
    assert (np.count_nonzero(top, axis=1) <= 2).all()
    assert (top.max(axis=1) == dense(swing(users, settings)).max(axis=1)).all()


def test_item_cf_equals_a_loop_over_pairs_of_items(choices: sp.csr_matrix) -> None:
    x = choices.toarray()
    expected = np.zeros((8, 8))
    for i, j in itertools.permutations(range(8), 2):
        expected[i, j] = x[:, i] @ x[:, j] / (np.sqrt(x[:, i].sum() * x[:, j].sum()) + 1.5)
    np.testing.assert_allclose(item_cf(choices, 1.5, 8).toarray(), expected)
    kept = item_cf(choices, 1.5, 2).toarray()
    for row, whole in zip(kept, expected, strict=True):
        assert sorted(row[row > 0]) == pytest.approx(sorted(np.sort(whole[whole > 0])[-2:]))


def test_ease_is_the_best_linear_model_without_a_diagonal(choices: sp.csr_matrix) -> None:
    """B minimises |X - X B|^2 + lambda |B|^2 with a zero diagonal: its gradient is 0 off the diagonal."""
    weights, items = ease(choices, 5.0, most_items=8)
    x = choices.toarray()[:, items]
    gradient = x.T @ (x @ weights - x) + 5.0 * weights
    np.testing.assert_allclose(np.diag(weights), 0)
    np.testing.assert_allclose(gradient[~np.eye(len(items), dtype=bool)], 0, atol=1e-4)
    assert ease(choices, 5.0, most_items=3)[1].tolist() == sorted(np.argsort(-x.sum(0), kind="stable")[:3].tolist())
