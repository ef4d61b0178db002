"""Intervals of pair metrics are over queries."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from raylevance.evaluation import pair_metrics
from raylevance.evaluation.pair_metrics import PAIR_METRICS, auc_difference, bootstrap_pairs, evaluate_pairs, mean_auc

RANDOM = np.random.default_rng(0)
QUERIES = [f"q{number}" for number in np.repeat(np.arange(30), 20)]
LABELS = RANDOM.integers(0, 2, 600)
GOOD = LABELS + RANDOM.normal(0, 1, 600)
NOISE = RANDOM.normal(0, 1, 600)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_metrics, "RESAMPLES", 80)


def test_a_value_lies_in_its_interval_and_one_query_has_no_spread() -> None:
    found = bootstrap_pairs(GOOD, LABELS, QUERIES)
    assert [found[metric][0] for metric in PAIR_METRICS] == [
        evaluate_pairs(GOOD, LABELS)[name] for name in PAIR_METRICS
    ]
    assert all(low < value < high for value, low, high in found.values())
    alone = bootstrap_pairs(GOOD, LABELS, ["q"] * 600)
    assert all(low == pytest.approx(value) == high for value, low, high in alone.values())


def test_an_interval_of_f1_keeps_its_threshold() -> None:
    """Above every score, F1 is 0 in every draw; a threshold that is chosen anew in each draw never gives 0."""
    assert bootstrap_pairs(GOOD, LABELS, QUERIES, threshold=float(GOOD.max()) + 1)["f1"] == [0, 0, 0]
    low = bootstrap_pairs(GOOD, LABELS, QUERIES, threshold=float(GOOD.min()))["f1"]
    assert low[0] == pytest.approx(2 * LABELS.sum() / (len(LABELS) + LABELS.sum()))


def test_the_difference_is_paired_and_a_mean_over_runs() -> None:
    runs = np.stack([GOOD, NOISE])
    expected = (roc_auc_score(LABELS, GOOD) + roc_auc_score(LABELS, NOISE)) / 2 - roc_auc_score(LABELS, NOISE)
    difference, low, high = auc_difference(runs, NOISE[None], LABELS, QUERIES)
    assert difference == pytest.approx(expected) and 0 < low < difference < high
    assert auc_difference(runs, runs, LABELS, QUERIES) == [0, 0, 0]
    assert mean_auc(runs, LABELS) == pytest.approx(expected + roc_auc_score(LABELS, NOISE))


def test_the_interval_is_that_of_areas_of_drawn_queries() -> None:
    """Compare with the AUC of each draw by scikit-learn, with ties and with a query that has no positive pair."""
    labels = np.where(np.array(QUERIES) == "q3", 0, LABELS)
    runs, baseline = np.stack([GOOD, NOISE]).round(1), NOISE[None].round(1)
    _, group = np.unique(np.asarray(QUERIES), return_inverse=True)
    again = []
    for drawn in np.random.default_rng(7).integers(0, 30, (80, 30)):
        rows = np.concatenate([np.flatnonzero(group == query) for query in drawn])
        again.append(mean_auc(runs[:, rows], labels[rows]) - mean_auc(baseline[:, rows], labels[rows]))
    _, low, high = auc_difference(runs, baseline, labels, QUERIES, seed=7)
    assert [low, high] == pytest.approx(np.percentile(again, [2.5, 97.5]))


def test_a_draw_without_grade_2_has_the_same_positives() -> None:
    """Grade 1 is negative in all draws if any pair has grade 2."""
    grades = np.concatenate([np.tile([2, 0], 10), np.tile([1, 0], 290)])
    scores = np.concatenate([np.tile([2.0, 0.0], 10), np.tile([1.0, 0.0], 290)])
    queries = ["with grade 2"] * 20 + [f"q{number}" for number in np.repeat(np.arange(29), 20)]
    found = bootstrap_pairs(scores, grades, queries, threshold=1.5)
    assert all(value == [1, 1, 1] for value in found.values())
