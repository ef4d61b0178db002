"""Thresholds of labels are those with the best F1, by a search through every score."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import f1_score

from raylevance.errors import RaylevanceError
from raylevance.evaluation import label_thresholds
from raylevance.evaluation.label_thresholds import choose_thresholds


def best_by_search(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the highest of the thresholds with the best F1."""
    values = [(f1_score(truth, scores >= threshold), threshold) for threshold in np.unique(scores)]
    best = max(value for value, _ in values)
    return float(max(threshold for value, threshold in values if value > best - 1e-12))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_thresholds_equal_a_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random((30, 4)), 1).astype(np.float32)
    truth = rng.random((30, 4)) < [0.6, 0.5, 0.1, 0.0]
    truth[0] = [True, True, True, False]
    chosen = choose_thresholds(scores, sparse.csr_matrix(truth), fallback_below=8)
    common = best_by_search(scores.ravel(), truth.ravel())
    for label in range(4):
        own = truth[:, label].sum() >= 8
        assert chosen[label] == np.float32(best_by_search(scores[:, label], truth[:, label]) if own else common)
    assert chosen.dtype == np.float32


def test_a_rare_label_takes_the_common_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Label 1 has 9 queries that score low; with one more it has its own threshold."""
    monkeypatch.setattr(label_thresholds, "CELLS_AT_ONCE", 64)
    scores = np.tile(np.array([0.9, 0.1], np.float32), (100, 1))
    scores[:50, 0] = 0.4
    truth = np.zeros((100, 2), bool)
    truth[50:, 0], truth[:9, 1] = True, True
    scores[:10, 1] = 0.2
    assert choose_thresholds(scores, sparse.csr_matrix(truth)).tolist() == pytest.approx([0.9, 0.9])
    truth[9, 1] = True
    assert choose_thresholds(scores, sparse.csr_matrix(truth)).tolist() == pytest.approx([0.9, 0.2])


def test_thresholds_need_a_labelled_query() -> None:
    with pytest.raises(RaylevanceError, match="no validation query has a label"):
        choose_thresholds(np.zeros((2, 2), np.float32), sparse.csr_matrix((2, 2)))
