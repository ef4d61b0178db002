"""Tests of fusion: values computed by hand, ties, and missing rows."""

import numpy as np

from raylevance.index.fusion import (
    FusionSettings,
    fuse,
    fuse_graded,
    fuse_reciprocal_rank,
    fuse_standardised,
    fuse_weighted,
)
from raylevance.index.grades import GradeBands

DENSE_ROWS = np.array([[3, 1, 2], [5, -1, -1]])
LEXICAL_ROWS = np.array([[1, 4, -1], [-1, -1, -1]])
DENSE_SCORES = np.array([[0.9, 0.7, 0.5], [0.4, -np.inf, -np.inf]], np.float32)
LEXICAL_SCORES = np.array([[8.0, 6.0, -np.inf], [-np.inf] * 3], np.float32)


def test_reciprocal_rank_by_hand() -> None:
    scores, rows = fuse_reciprocal_rank([DENSE_ROWS, LEXICAL_ROWS], 5)
    assert rows.tolist() == [[1, 3, 4, 2, -1], [5, -1, -1, -1, -1]]
    np.testing.assert_allclose(scores[0, :4], [1 / 62 + 1 / 61, 1 / 61, 1 / 62, 1 / 63], rtol=1e-6)
    assert np.isneginf(scores[0, 4])


def test_weighted_by_hand() -> None:
    scores, rows = fuse_weighted([(DENSE_SCORES, DENSE_ROWS), (LEXICAL_SCORES, LEXICAL_ROWS)], [0.6, 0.4], 4)
    assert rows.tolist() == [[1, 3, 2, 4], [5, -1, -1, -1]]
    np.testing.assert_allclose(scores[0], [0.6 * 0.5 + 0.4, 0.6, 0, 0], atol=1e-6)
    np.testing.assert_allclose(scores[1, 0], 0.6, rtol=1e-6)


def test_graded_by_hand() -> None:
    """Grade 1 begins at 0.5 and grade 2 at 0.7: 0.9 counts 1.5, 0.7 counts 1, 0.5 counts 1/2, and 0.4 counts 1/4."""
    bands = GradeBands(moderately=0.5, relevant=0.7)
    dense, lexical = (DENSE_SCORES, DENSE_ROWS), (LEXICAL_SCORES, LEXICAL_ROWS)
    scores, rows = fuse_graded(dense, lexical, (0.6, 0.4), bands, 4)
    assert rows.tolist() == [[1, 3, 2, 4], [5, -1, -1, -1]]
    np.testing.assert_allclose(scores[0], [0.6 + 0.4, 0.6 * 1.5, 0.6 * 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(scores[1, 0], 0.6 * 0.25, atol=1e-6)
    step = GradeBands(moderately=0.5, relevant=0.5)
    assert np.isfinite(fuse_graded(dense, lexical, (0.6, 0.4), step, 4)[0][0]).all()


def test_equal_scores_are_ordered_by_row() -> None:
    forth = fuse_reciprocal_rank([np.array([[7, 2]]), np.array([[2, 7]])], 2)
    back = fuse_reciprocal_rank([np.array([[2, 7]]), np.array([[7, 2]])], 2)
    assert forth[1].tolist() == back[1].tolist() == [[2, 7]]


def test_k_cuts() -> None:
    scores, rows = fuse_reciprocal_rank([DENSE_ROWS, LEXICAL_ROWS], 1)
    assert rows.tolist() == [[1], [5]] and scores.shape == (2, 1)


def test_settings_choose_the_method_and_its_weights() -> None:
    dense, lexical = (DENSE_SCORES, DENSE_ROWS), (LEXICAL_SCORES, LEXICAL_ROWS)
    bands, weights = GradeBands(moderately=0.2, relevant=0.5), (0.75, 0.25)
    expected = {
        "standardised": fuse_standardised([dense, lexical], weights, 3, 2),
        "weighted": fuse_weighted([dense, lexical], weights, 3),
        "graded": fuse_graded(dense, lexical, weights, bands, 3),
        "reciprocal_rank": fuse_reciprocal_rank([DENSE_ROWS, LEXICAL_ROWS], 3, 7),
    }
    for method, (scores, rows) in expected.items():
        settings = FusionSettings(method=method, dense_weight=0.75, standard_depth=2, constant=7)
        found = fuse(dense, lexical, 3, settings, bands)
        assert found[1].tolist() == rows.tolist()
        np.testing.assert_array_equal(found[0], scores)
    assert len({str(scores.tolist()) for scores, _ in expected.values()}) == 4


def test_no_queries() -> None:
    none = np.empty((0, 3), np.int64)
    assert fuse_reciprocal_rank([none, none], 2)[1].shape == (0, 2)
