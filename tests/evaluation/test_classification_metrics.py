"""Metrics of query classification equal naive float64 loops and scikit-learn's F1."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import f1_score

from raylevance.errors import RaylevanceError
from raylevance.evaluation import classification_metrics as module
from raylevance.evaluation.classification_metrics import (
    Predictions,
    confusion_by_parent,
    correct_at,
    evaluate_predictions,
    frequency_groups,
    join_predictions,
    label_matrix,
    metric_differences,
    predictions_of,
    top_label_calibration,
)
from raylevance.evaluation.intervals import bootstrap_mean, resampled_counts

Case = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Scores [n, labels], truth bool [n, labels], training queries [labels]."""


def draw_case(seed: int, queries: int = 40, labels: int = 12) -> Case:
    """Scores on a coarse grid, so that some are equal; a skew of frequencies; one or two labels a query."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, labels + 1)
    truth = np.zeros((queries, labels), bool)
    for row in truth:
        row[rng.choice(labels, rng.integers(1, 3), replace=False, p=weights / weights.sum())] = True
    scores = np.round(rng.random((queries, labels)) * 0.6 + truth * rng.random((queries, labels)) * 0.5, 1)
    return scores.astype(np.float32), truth, rng.integers(0, 6, labels) * np.arange(labels, 0, -1)


def sparse_truth(truth: np.ndarray) -> Any:
    return sparse.csr_matrix(truth.astype(np.int8))


def naive_f1(chosen: np.ndarray, truth: np.ndarray, labels: list[int]) -> tuple[float, float, float]:
    """Micro F1, macro F1 over the labels with a query or a prediction, and over all labels, by loops."""
    right = wrong = missed = 0
    values = []
    for label in labels:
        tp = sum(1 for p, t in zip(chosen[:, label], truth[:, label], strict=True) if p and t)
        fp = sum(1 for p, t in zip(chosen[:, label], truth[:, label], strict=True) if p and not t)
        fn = sum(1 for p, t in zip(chosen[:, label], truth[:, label], strict=True) if t and not p)
        right, wrong, missed = right + tp, wrong + fp, missed + fn
        values.append((tp + fp + fn > 0, 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0))
    present = [value for there, value in values if there]
    micro = 2 * right / (2 * right + wrong + missed)
    return micro, sum(present) / len(present), sum(value for _, value in values) / len(labels)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_figures_equal_loops_and_scikit_learn(seed: int) -> None:
    scores, truth, training = draw_case(seed)
    thresholds = np.random.default_rng(seed).choice([0.4, 0.5, 0.7], scores.shape[1]).astype(np.float32)
    figures = evaluate_predictions(predictions_of(scores, thresholds), sparse_truth(truth), training)
    chosen = scores >= thresholds
    micro, macro, every = naive_f1(chosen, truth, list(range(truth.shape[1])))
    assert figures["micro_f1"] == pytest.approx(micro, abs=1e-12)
    assert figures["macro_f1"] == pytest.approx(macro, abs=1e-12)
    assert figures["macro_f1_all_labels"] == pytest.approx(every, abs=1e-12)
    present = [label for label in range(truth.shape[1]) if truth[:, label].any() or chosen[:, label].any()]
    assert micro == pytest.approx(f1_score(truth, chosen, average="micro"))
    assert macro == pytest.approx(f1_score(truth, chosen, average="macro", labels=present))
    assert every == pytest.approx(f1_score(truth, chosen, average="macro", zero_division=0))
    for k in (1, 3):
        ranked = [sorted(range(len(row)), key=lambda label: (-row[label], label))[:k] for row in scores]
        hits = [any(truth[query, label] for label in best) for query, best in enumerate(ranked)]
        assert figures[f"accuracy@{k}"] == pytest.approx(np.mean(hits))
        assert correct_at(predictions_of(scores), sparse_truth(truth), k).tolist() == hits
    assert figures["answered"] == pytest.approx(np.mean([any(row) for row in chosen]))
    for name, members in frequency_groups(training).items():
        own = [label for label in range(truth.shape[1]) if members[label]]
        there = [label for label in own if label in present]
        if there:
            micro, macro, _ = naive_f1(chosen, truth, own)
            assert figures[name]["micro_f1"] == pytest.approx(micro, abs=1e-12)
            assert figures[name]["macro_f1"] == pytest.approx(macro, abs=1e-12)
        else:
            assert figures[name]["macro_f1"] is None and figures["ci95"][name]["macro_f1"] is None
        assert figures[name]["labels"] == len(own)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_order_of_queries_and_labels_does_not_matter(seed: int) -> None:
    scores, truth, training = draw_case(seed)
    scores += np.random.default_rng(seed).random(scores.shape, np.float32) / 100  # equal scores rank by column
    rows, columns = (np.random.default_rng(seed).permutation(size) for size in truth.shape)
    straight = evaluate_predictions(predictions_of(scores), sparse_truth(truth), training)
    mixed = predictions_of(scores[rows][:, columns]), sparse_truth(truth[rows][:, columns])
    shuffled = evaluate_predictions(*mixed, training[columns])
    for name, value in straight.items():
        if name in ("head", "middle", "tail"):
            assert shuffled[name] == {key: pytest.approx(each) for key, each in value.items()}
        elif name != "ci95":
            assert shuffled[name] == pytest.approx(value)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_groups_part_the_queries(seed: int) -> None:
    """Accuracy is the mean of the groups' accuracies by their queries, and each query is in one group."""
    scores, truth, training = draw_case(seed)
    figures = evaluate_predictions(predictions_of(scores), sparse_truth(truth), training)
    groups = [figures[name] for name in ("head", "middle", "tail")]
    assert sum(group["queries"] for group in groups) == figures["queries"]
    assert sum(group["labels"] for group in groups) == truth.shape[1]
    right = sum(group["queries"] * (group["accuracy@1"] or 0) for group in groups)
    assert right / figures["queries"] == pytest.approx(figures["accuracy@1"])


def test_the_groups_by_frequency() -> None:
    groups = frequency_groups(np.array([5, 90, 7, 40, 6, 80]))
    assert [np.flatnonzero(groups[name]).tolist() for name in ("head", "middle", "tail")] == [[1, 5], [2, 3], [0, 4]]
    most_are_rare = frequency_groups(np.array([1, 1, 9, 1, 1, 1]))
    assert most_are_rare["tail"].sum() == 5 and most_are_rare["head"].tolist().index(True) == 2
    assert frequency_groups(np.full(4, 3))["tail"].all(), "labels that are equally frequent are in one group"
    assert frequency_groups(np.array([], int))["head"].shape == (0,)


def test_a_query_belongs_to_the_group_of_its_rarest_label() -> None:
    """Query 0 has a head and a tail label, of which the head label is answered."""
    truth = np.array([[1, 0, 1], [1, 0, 0], [0, 1, 0]], bool)
    scores = np.array([[0.9, 0.1, 0.2], [0.9, 0.1, 0.2], [0.9, 0.1, 0.2]], np.float32)
    figures = evaluate_predictions(predictions_of(scores), sparse_truth(truth), np.array([30, 20, 10]))
    assert (figures["tail"]["queries"], figures["tail"]["accuracy@1"]) == (1, 1.0)
    assert figures["tail"]["macro_f1"] == 0
    assert figures["middle"] == {
        "labels": 1,
        "training_queries": [20, 20],
        "queries": 1,
        "accuracy@1": 0.0,
        "micro_f1": 0.0,
        "macro_f1": 0.0,
    }


def test_labels_that_the_classifier_does_not_know_stay_in_the_truth() -> None:
    truth = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 1]], bool)
    given = predictions_of(np.array([[0.9, 0.2], [0.1, 0.3], [0.6, 0.1]], np.float32))
    figures = evaluate_predictions(given, sparse_truth(truth), np.array([4, 2]))
    assert figures["accuracy@1"] == figures["accuracy@3"] == pytest.approx(1 / 3)
    assert figures["micro_f1"] == pytest.approx(2 * 1 / (2 + 3)), "label 0 is chosen twice, and 2 is never found"
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert (figures["tail"]["labels"], figures["tail"]["queries"]) == (2, 2), "an unknown label is in the tail"


def test_intervals_hold_the_figures_and_are_those_of_the_resamples() -> None:
    scores, truth, training = draw_case(3, queries=60)
    given, matrix = predictions_of(scores), sparse_truth(truth)
    figures = evaluate_predictions(given, matrix, training, seed=5)
    assert "macro_f1_all_labels" not in figures["ci95"]
    for name in ("accuracy@1", "accuracy@3", "micro_f1", "macro_f1", "answered"):
        low, high = figures["ci95"][name]
        assert low <= figures[name] <= high
    for group in ("head", "tail"):
        low, high = figures["ci95"][group]["macro_f1"]
        assert low < figures[group]["macro_f1"] < high
    chosen, drawn = scores >= 0.5, []
    for counts in np.concatenate(list(resampled_counts(60, module.RESAMPLES, 5)))[:200]:
        rows = np.repeat(np.arange(60), counts)
        present = [label for label in range(12) if truth[rows, label].any() or chosen[rows, label].any()]
        drawn.append(f1_score(truth[rows], chosen[rows], average="macro", labels=present))
    measured = module._Measured.of(given, matrix, training).resampled(5)["", "macro_f1"]
    assert measured[:200] == pytest.approx(drawn)
    assert figures["ci95"]["macro_f1"] == pytest.approx(np.quantile(measured, [0.025, 0.975]))
    mean = bootstrap_mean(correct_at(given, matrix, 1))
    assert figures["ci95"]["accuracy@1"] == pytest.approx([mean.low, mean.high], abs=0.04)


def test_resamples_do_not_depend_on_how_many_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, truth, training = draw_case(4)
    whole = evaluate_predictions(predictions_of(scores), sparse_truth(truth), training)
    monkeypatch.setattr("raylevance.evaluation.intervals.DRAWN_AT_ONCE", 1000)
    assert evaluate_predictions(predictions_of(scores), sparse_truth(truth), training) == whole


def test_blocks_of_queries_give_the_answers_of_all() -> None:
    scores, truth, training = draw_case(6)
    joined = join_predictions(predictions_of(scores[start : start + 7]) for start in range(0, len(scores), 7))
    matrix = sparse_truth(truth)
    assert evaluate_predictions(joined, matrix, training) == evaluate_predictions(
        predictions_of(scores), matrix, training
    )
    assert joined.confidence.tolist() == scores.max(axis=1).tolist()


def test_a_label_of_score_minus_infinity_is_never_chosen() -> None:
    given = predictions_of(np.array([[-np.inf, 0.2]], np.float32), thresholds=-np.inf)
    assert given.chosen.toarray().tolist() == [[0, 1]]
    assert given.best[0, 0] == 1


def test_differences_are_paired_means_over_runs() -> None:
    truth = draw_case(7)[1]
    matrix, training = sparse_truth(truth), draw_case(7)[2]
    runs = [predictions_of(draw_case(7)[0] + np.float32(0.01) * seed) for seed in range(2)]
    same = metric_differences(runs, runs, matrix, training)
    zero = [estimate for estimate in same.values() if estimate is not None]
    assert zero and all(estimate == (0, 0, 0) for estimate in zero)
    perfect = [predictions_of(truth.astype(np.float32))]
    better = metric_differences(perfect, runs, matrix, training)
    plain = [evaluate_predictions(run, matrix, training) for run in runs]
    estimate = better["", "macro_f1"]
    assert estimate is not None
    assert estimate.mean == pytest.approx(1 - np.mean([each["macro_f1"] for each in plain]))
    assert 0 < estimate.low < estimate.mean < estimate.high
    tail = better["tail", "macro_f1"]
    assert tail is not None
    assert tail.mean == pytest.approx(1 - np.mean([each["tail"]["macro_f1"] for each in plain]))


def test_calibration_of_the_best_label() -> None:
    probabilities = np.array([[0.95, 0.1], [0.85, 0.2], [0.15, 0.35], [0.3, 0.32]], np.float32)
    truth = np.array([[1, 0], [0, 1], [0, 1], [1, 0]], bool)
    measured = top_label_calibration(predictions_of(probabilities), sparse_truth(truth))
    by_bin = {9: [(0.95, 1)], 8: [(0.85, 0)], 3: [(0.35, 1), (0.32, 0)]}
    expected = sum(abs(sum(c for c, _ in rows) - sum(r for _, r in rows)) for rows in by_bin.values()) / 4
    assert measured["ece"] == pytest.approx(expected)
    assert sum(row["pairs"] for row in measured["bins"]) == 4


def test_confusion_by_parent() -> None:
    """Labels 0 and 1 are children of parent 0, 2 and 3 of parent 1, and 4 of parent 2."""
    parents = np.array([0, 0, 1, 1, 2])
    truth = label_matrix([[0], [0], [0, 2], [0, 2], [3, 4], [2]], 5)
    best = np.array([0, 1, 3, 4, 0, 2])[:, None]
    given = Predictions(best, np.ones(6, np.float32), truth)
    # Right; a sibling; the parent of one of two; none of two; none of two; right.
    expected = [[2, 0, 0.5], [0.5, 2, 0.5], [0.5, 0, 0]]
    assert confusion_by_parent(given, truth, parents).toarray().tolist() == expected


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.large_list(pa.int32())])
def test_label_lists_as_a_matrix(kind: pa.DataType) -> None:
    lists = pa.array([[9, 9], [2, 0, 2], [], None, [1]], kind)
    expected = [[1, 0, 1], [0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert label_matrix(lists.slice(1), 3).toarray().tolist() == expected
    assert label_matrix(pa.chunked_array([lists.slice(1, 1), lists.slice(2)]), 3).toarray().tolist() == expected


def test_what_can_not_be_measured() -> None:
    with pytest.raises(RaylevanceError, match="query 2: has a score that is not a number"):
        predictions_of(np.array([[0.5], [np.nan]], np.float32))
    given = predictions_of(np.array([[0.5], [0.6]], np.float32))
    with pytest.raises(RaylevanceError, match="query 2: has no label to measure by"):
        evaluate_predictions(given, label_matrix([[0], []], 1))
    with pytest.raises(RaylevanceError, match="no query to measure"):
        evaluate_predictions(predictions_of(np.zeros((0, 1), np.float32)), label_matrix([], 1))
