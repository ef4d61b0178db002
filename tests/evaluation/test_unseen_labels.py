"""The offset of labels that no training query has, against a search of the loss."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from raylevance.evaluation.unseen_labels import LARGEST_OFFSET, choose_unseen_offset


def loss(logits: np.ndarray, truth: np.ndarray, offset: float) -> float:
    shifted = logits.astype(np.float64) + offset
    return float((np.log1p(np.exp(shifted)) - truth * shifted).sum())


@given(seed=st.integers(0, 10_000), lowered=st.floats(-2, 12))
@settings(max_examples=50, deadline=None)
def test_no_other_offset_has_a_lower_loss(seed: int, lowered: float) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(-2, 2, (40, 6)).astype(np.float32)
    truth = rng.random((40, 6)) < 1 / (1 + np.exp(-logits))
    logits -= np.float32(lowered)
    found = choose_unseen_offset(logits, sparse.csr_matrix(truth))
    assert 0 <= found <= LARGEST_OFFSET
    least = min(loss(logits, truth, offset) for offset in np.linspace(0, LARGEST_OFFSET, 201))
    assert loss(logits, truth, found) <= least + 1e-6


def test_an_offset_that_was_taken_away_is_found_again() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(-3, 1, (4000, 10))
    truth = sparse.csr_matrix(rng.random(logits.shape) < 1 / (1 + np.exp(-logits)))
    assert choose_unseen_offset(logits - 3, truth) == pytest.approx(3, abs=0.1)
    assert choose_unseen_offset(logits + 3, truth) == 0.0, "labels are never lowered"


def test_queries_without_such_a_label_ask_for_no_offset() -> None:
    logits = np.full((5, 3), -40.0)
    assert choose_unseen_offset(logits, sparse.csr_matrix((5, 3))) == 0.0
    assert choose_unseen_offset(np.empty((5, 0)), sparse.csr_matrix((5, 0))) == 0.0
    assert choose_unseen_offset(logits, sparse.csr_matrix(np.ones((5, 3)))) == LARGEST_OFFSET
