"""Agreement of grades equals figures computed by hand and by a naive loop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score

from raylevance.errors import RaylevanceError
from raylevance.evaluation.agreement import (
    accuracy_by_coverage,
    agreement_by_slice,
    agreement_with_people,
    calibration,
    confusion_metrics,
)

HUMAN = np.array([2, 2, 1, 0, 0, 1, 2, 0])
PREDICTED = np.array([2, 1, 1, 0, 2, 0, 2, 0])
QUERIES = ["a", "a", "a", "b", "b", "c", "c", "c"]


def naive_kappa(predicted: np.ndarray, human: np.ndarray, power: int) -> float:
    """Return 1 - observed / expected disagreement, which is the distance of grades to the `power` (0: always 1)."""

    def distance(one: int, other: int) -> float:
        return float(one != other) if power == 0 else abs(one - other) ** power

    observed = np.mean([distance(p, h) for p, h in zip(predicted, human, strict=True)])
    expected = np.mean([distance(p, h) for p in predicted for h in human])
    return float(1 - observed / expected)


def test_agreement_by_hand() -> None:
    figures = agreement_with_people(PREDICTED, HUMAN, QUERIES)
    assert figures["pairs"] == 8
    assert figures["accuracy"] == 5 / 8
    assert figures["within_1"] == 7 / 8
    assert figures["kappa"] == pytest.approx(naive_kappa(PREDICTED, HUMAN, 0))
    assert figures["quadratic_kappa"] == pytest.approx(naive_kappa(PREDICTED, HUMAN, 2))
    assert figures["confusion"] == [[2, 0, 1], [1, 1, 0], [0, 1, 2]]
    f1 = [2 * 2 / (3 + 3), 2 * 1 / (2 + 2), 2 * 2 / (3 + 3)]
    assert figures["macro_f1"] == pytest.approx(np.mean(f1))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=60))
@settings(max_examples=50, deadline=None)
def test_the_figures_are_sklearns(pairs: list[tuple[int, int]]) -> None:
    human, predicted = np.array(pairs).T
    confusion = np.zeros((3, 3))
    np.add.at(confusion, (human, predicted), 1)
    values = confusion_metrics(confusion)
    f1 = f1_score(human, predicted, labels=[0, 1, 2], average="macro", zero_division=0)
    assert values["macro_f1"] == pytest.approx(f1)
    if len(set(human) | set(predicted)) > 1:
        for name, weights in (("kappa", None), ("quadratic_kappa", "quadratic")):
            expected = cohen_kappa_score(human, predicted, labels=[0, 1, 2], weights=weights)
            assert values[name] == pytest.approx(expected)


def test_a_majority_judge_scores_no_kappa() -> None:
    figures = agreement_with_people(np.full(8, 2), HUMAN, QUERIES)
    assert figures["kappa"] == figures["quadratic_kappa"] == 0
    assert agreement_with_people(np.full(8, 2), np.full(8, 2), QUERIES)["quadratic_kappa"] == 0


def test_the_interval_is_over_queries() -> None:
    """One query is all correct and one all wrong: pairs would give a narrow interval, queries give 0 to 1."""
    right = np.array([True] * 50 + [False] * 50)
    figures = agreement_with_people(np.where(right, 2, 0), np.full(100, 2), ["a"] * 50 + ["b"] * 50)
    assert figures["accuracy"] == 0.5
    assert figures["ci95"]["accuracy"] == [0, 1]
    one = agreement_with_people(np.full(9, 1), np.full(9, 1), [str(number) for number in range(9)])
    assert one["ci95"]["accuracy"] == [1, 1]


def test_abstaining_keeps_the_confident() -> None:
    confidence = np.array([0.9, 0.4, 0.8, 0.7, 0.3, 0.35, 0.95, 0.6])
    rows = accuracy_by_coverage(PREDICTED, HUMAN, confidence)
    assert rows[0] == {"coverage": 1, "threshold": 0.3, "accuracy": 5 / 8}
    half = next(row for row in rows if row["coverage"] == 0.5)
    assert half == {"coverage": 0.5, "threshold": 0.7, "accuracy": 1}
    for row in rows:
        kept = confidence >= row["threshold"]
        assert row["accuracy"] == np.mean(PREDICTED[kept] == HUMAN[kept])


def test_calibration() -> None:
    confidence = np.array([0.75, 0.75, 0.75, 0.75, 0.35, 0.35, 1.0, 1.0])
    figures = calibration(PREDICTED, HUMAN, confidence)
    assert [row["pairs"] for row in figures["bins"]] == [2, 4, 2]
    assert [row["accuracy"] for row in figures["bins"]] == [0, 0.75, 1]
    assert figures["ece"] == pytest.approx(2 / 8 * 0.35)


def test_slices_with_few_pairs_are_left_out() -> None:
    figures = agreement_by_slice(np.tile(PREDICTED, 8), np.tile(HUMAN, 8), QUERIES * 8)
    assert list(figures) == ["a", "c"]
    assert figures["a"]["accuracy"] == pytest.approx(2 / 3)


def test_no_pairs() -> None:
    nothing = np.empty(0, np.int64)
    with pytest.raises(RaylevanceError, match="no judged pair"):
        agreement_with_people(nothing, nothing, [])
