"""Tests of excluded words and of categories in fused scores, each against a loop in plain Python."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylevance.index.rescoring import (
    BEST_PRODUCTS,
    ExcludedWords,
    category_agreement,
    demote_excluded,
    promote_categories,
)

ROWS = 60
PATHS = [("Home", "Kitchen", "Kettles"), ("Home", "Kitchen"), ("Home", "Bath"), (), ("Garden",)]


def agreement_by_loop(paths: list[tuple[str, ...]], best: int) -> list[float]:
    first = [path for path in paths[:best] if path]
    values: list[float | None] = []
    for path in paths:
        total = 0.0
        for other in first:
            shared = 0
            while shared < min(len(path), len(other)) and path[: shared + 1] == other[: shared + 1]:
                shared += 1
            total += shared / max(len(path), len(other))
        values.append(total / len(first) if path and first else None)
    known = [value for value in values[:best] if value is not None]
    mean = sum(known) / len(known) if known else 0.0
    return [mean if value is None else value for value in values]


@given(st.lists(st.sampled_from(PATHS), max_size=30), st.integers(1, 12))
def test_agreement_is_that_of_a_loop(paths: list[tuple[str, ...]], best: int) -> None:
    found = category_agreement(paths, best)
    assert found.tolist() == pytest.approx(agreement_by_loop(paths, best))
    assert len(found) == len(paths) and ((found >= 0) & (found <= 1)).all()


def test_agreement_of_paths() -> None:
    kettles, kitchen, bath, nothing, garden = PATHS
    assert category_agreement([kettles, kitchen, bath, garden, nothing], 1).tolist() == pytest.approx(
        [1, 2 / 3, 1 / 3, 0, 1]
    )
    assert category_agreement([("a", "b"), ("c", "b")], 1).tolist() == [1, 0]


def test_excluded_words_change_scores_as_a_loop_does() -> None:
    rng = np.random.default_rng(5)
    titles = ["lamp with cord", "lamp", "cordless lamp", "red lamp, cord and plug"] * (ROWS // 4)
    queries = ["lamp without cord", "lamp", "lamp without cord, no plug"]
    excluded = ExcludedWords(queries, pa.chunked_array([titles[:7], titles[7:]]))
    rows = np.stack([rng.permutation(ROWS)[:12] for _ in range(3)])
    rows[2, 9:] = -1
    scores = np.where(rows < 0, -np.inf, np.sort(rng.random((3, 12)))[:, ::-1]).astype(np.float32)
    excluded.shares(0, rows[0, :4])
    found = demote_excluded((scores, rows), excluded, 2)
    shares = {0: [1, 0, -1, 1], 1: [0, 0, 0, 0], 2: [0.5, 0, -0.5, 1]}
    for query in range(3):
        expected = sorted(
            (-(float(score) - 2 * shares[query][row % 4]), row)
            for score, row in zip(scores[query], rows[query], strict=True)
            if row >= 0
        )
        present = found[1][query] >= 0
        assert found[1][query][present].tolist() == [row for _, row in expected]
        assert found[0][query][present].tolist() == pytest.approx([-score for score, _ in expected])


def test_categories_change_scores_as_a_loop_does() -> None:
    rng = np.random.default_rng(6)
    paths = [PATHS[place] for place in rng.integers(0, len(PATHS), ROWS)]
    rows = np.stack([rng.permutation(ROWS)[:25] for _ in range(3)])
    rows[1, 4:], rows[2] = -1, -1
    scores = np.where(rows < 0, -np.inf, np.sort(rng.random((3, 25)))[:, ::-1]).astype(np.float32)
    column = pa.chunked_array([pa.array([list(path) or None for path in part]) for part in (paths[:9], paths[9:])])
    found = promote_categories((scores, rows), column, 0.7)
    for query in range(3):
        present = rows[query] >= 0
        agreement = agreement_by_loop([paths[row] for row in rows[query][present]], BEST_PRODUCTS)
        expected = sorted(
            (-(float(score) + 0.7 * agrees), int(row))
            for score, agrees, row in zip(scores[query][present], agreement, rows[query][present], strict=True)
        )
        assert found[1][query][present].tolist() == [row for _, row in expected]
        assert found[0][query][present].tolist() == pytest.approx([-score for score, _ in expected])
        assert (found[1][query][~present] == -1).all() and (found[0][query][~present] == -np.inf).all()
