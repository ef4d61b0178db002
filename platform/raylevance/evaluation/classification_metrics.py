"""Metrics of multi-label query classification: accuracy at k, micro and macro F1, head and tail apart, confusion.

A classifier's scores become `Predictions` block by block, so the whole array [queries, labels] need never be in memory.
The true labels are a sparse matrix [queries, labels] of 0 and 1. Its columns are those of the scores; more columns
behind them are labels that the classifier does not know, which it therefore always misses.

Source: SSUF (arXiv 2506.21049), evaluation, for micro and macro F1. Over which labels the macro mean goes, accuracy at
k, the groups by frequency and the intervals are our choice.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from raylevance.errors import RaylevanceError
from raylevance.evaluation.agreement import calibration
from raylevance.evaluation.intervals import CONFIDENCE, Estimate, resampled_counts

Floats: TypeAlias = npt.NDArray[np.floating]
Labels: TypeAlias = "sparse.csr_matrix[Any]"
"""Sparse [queries, labels]: 1 where the query has the label."""
Key = tuple[str, str]
"""A group of labels ("" for all of them) and the name of a metric."""
Values = dict[Key, npt.NDArray[np.float64]]

CUTOFFS = (1, 3)
"""The numbers of best labels at which accuracy is measured."""
THRESHOLD = 0.5
RESAMPLES = 1000
NO_INTERVAL = "macro_f1_all_labels"
"""The metric without an interval: labels that a resample happens to leave out would count as 0 and bias it."""


class Predictions(NamedTuple):
    """The predicted labels of n queries, without the scores of the others."""

    best: npt.NDArray[np.int64]
    """The columns of the labels with the highest scores, [n, k], best first; of equal scores the lower column first."""
    confidence: npt.NDArray[np.float32]
    """The score of the best label, [n]."""
    chosen: Labels
    """The labels whose scores reach their thresholds, [n, labels]; a query without any is one it abstains from."""


def predictions_of(scores: Floats, thresholds: Floats | float = THRESHOLD, k: int = max(CUTOFFS)) -> Predictions:
    """Return the predictions that `scores` [n, labels] give: the `k` best labels, and those that reach `thresholds`.

    `thresholds` is one number or [labels]. -inf is a label that is never chosen. The best labels need no threshold.
    Raises `RaylevanceError` if a score is NaN.
    """
    broken = np.isnan(scores).any(axis=1)
    if broken.any():
        raise RaylevanceError(f"query {np.flatnonzero(broken)[0] + 1}: has a score that is not a number; train again")
    chosen = sparse.csr_matrix((scores >= thresholds) & (scores > -np.inf), dtype=np.int8)
    left, rows = np.array(scores), np.arange(len(scores))
    best = np.empty((len(scores), min(k, scores.shape[1])), np.int64)
    for rank in range(best.shape[1]):
        best[:, rank] = left.argmax(axis=1)
        left[rows, best[:, rank]] = -np.inf
    return Predictions(best, scores[rows, best[:, 0]].astype(np.float32), chosen)


def join_predictions(blocks: Iterable[Predictions]) -> Predictions:
    """Return the predictions for several blocks of queries, in their order, as one."""
    best, confidence, chosen = zip(*blocks, strict=True)
    return Predictions(np.concatenate(best), np.concatenate(confidence), sparse.vstack(chosen, format="csr"))


def label_matrix(columns: pa.Array | pa.ChunkedArray | Sequence[Sequence[int]], size: int) -> Labels:
    """Return the label columns of each query, a list array or lists of int, as a sparse matrix int8 [queries, `size`].

    A label that a query has twice counts once.
    """
    if not isinstance(columns, (pa.Array, pa.ChunkedArray)):
        columns = pa.array(columns, pa.list_(pa.int64()))
    lists = columns.combine_chunks() if isinstance(columns, pa.ChunkedArray) else columns
    indices = pc.list_flatten(lists).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(lists)), pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False))
    matrix = sparse.csr_matrix((np.ones(len(rows), np.int64), (rows, indices)), shape=(len(lists), size))
    return matrix.sign().astype(np.int8)


def correct_at(predictions: Predictions, truth: Labels, k: int) -> npt.NDArray[np.float64]:
    """Return 1 for each query that has one of its `k` best labels, else 0: [n], whose mean is accuracy at k."""
    best = predictions.best[:, :k]
    rows = np.repeat(np.arange(len(best)), best.shape[1])
    found = np.asarray(truth[rows, best.ravel()]).reshape(best.shape) > 0
    return np.asarray(found.any(axis=1), np.float64)


def evaluate_predictions(
    predictions: Predictions, truth: Labels, training_queries: npt.NDArray[np.integer] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Return the metrics of `predictions` against `truth` [n, labels], with 95% percentile intervals over queries.

    - `accuracy@1` and `accuracy@3`: the share of queries for which one of the best labels is right.
    - `micro_f1`: F1 of all chosen labels together. `macro_f1`: the mean F1 of the labels that a query has or that are
      chosen. `macro_f1_all_labels`: the mean over all labels, where one without either has F1 0; it has no interval.
    - `answered`: the share of queries with a chosen label.
    - `head`, `middle` and `tail`, if the `training_queries` [known labels] of each label are given: the same for the
      `frequency_groups`. `accuracy@1` is over the queries whose rarest label is in the group; F1 is over its labels. An
      unknown label is in the tail. A value is None where the group is empty.
    - `ci95`: the intervals, by metric, and by metric within each group. A resample's macro F1 goes over the labels in
      that resample.

    Raises `RaylevanceError` if there is no query, or one without a label.
    """
    measured = _Measured.of(predictions, truth, training_queries)
    point = measured.metrics(np.ones((1, truth.shape[0])))
    drawn = measured.resampled(seed)
    outcome: dict[str, Any] = {"queries": truth.shape[0]}
    outcome |= {name: _number(value[0]) for (group, name), value in point.items() if not group}
    outcome |= {group: measured.description(group) for group in measured.groups}
    intervals: dict[str, Any] = {}
    for (group, name), values in drawn.items():
        interval = _interval(values)
        if group:
            outcome[group][name] = _number(point[group, name][0])
            intervals.setdefault(group, {})[name] = interval
        elif name != NO_INTERVAL:
            intervals[name] = interval
    return outcome | {"ci95": intervals}


def metric_differences(
    runs: Sequence[Predictions],
    baseline: Sequence[Predictions],
    truth: Labels,
    training_queries: npt.NDArray[np.integer] | None = None,
    seed: int = 0,
) -> dict[Key, Estimate | None]:
    """Return the mean of each metric over `runs` minus that over `baseline`, with its 95% interval.

    Both are predictions for the same queries, such as those of several training seeds. Each resample of the queries is
    the same for all of them, so the intervals are paired. The keys are ("", metric) and, with `training_queries`,
    (group, metric), as `evaluate_predictions` names them. None is a group without labels or queries.
    """
    points: list[Values] = []
    draws: list[Values] = []
    for side in (runs, baseline):
        measured = [_Measured.of(each, truth, training_queries) for each in side]
        points.append(_mean([each.metrics(np.ones((1, truth.shape[0]))) for each in measured]))
        draws.append(_mean([each.resampled(seed) for each in measured]))
    differences: dict[Key, Estimate | None] = {}
    for key in points[0]:
        interval = _interval(draws[0][key] - draws[1][key])
        mean = float(points[0][key][0] - points[1][key][0])
        differences[key] = None if interval is None or np.isnan(mean) else Estimate(mean, *interval)
    return differences


def frequency_groups(training_queries: npt.NDArray[np.integer]) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which labels are `head`, `middle` and `tail` by their number of training queries [labels]: bool [labels].

    The tail is the third of the labels with the fewest queries, the head the third with the most. Labels with equal
    numbers are in one group, the rarer of the two in question, so the tail may be larger (our choice).
    """
    if not len(training_queries):
        none = np.zeros(0, np.bool_)
        return {"head": none, "middle": none, "tail": none}
    ordered, third = np.sort(training_queries), -(-len(training_queries) // 3)
    tail = training_queries <= ordered[third - 1]
    head = (training_queries > ordered[-third - 1]) & ~tail if len(ordered) > third else ~tail
    return {"head": head, "middle": ~head & ~tail, "tail": tail}


def top_label_calibration(predictions: Predictions, truth: Labels) -> dict[str, Any]:
    """Return the expected calibration error `ece` of the best label's probability, and its `bins`.

    The confidences must be probabilities. Source: Guo et al. 2017 (arXiv 1706.04599), with ten equal bins.
    """
    right = correct_at(predictions, truth, 1).astype(np.int64)
    return calibration(right, np.ones_like(right), predictions.confidence.astype(np.float64))


def confusion_by_parent(
    predictions: Predictions, truth: Labels, parents: npt.NDArray[np.integer]
) -> "sparse.csr_array[Any]":
    """Return how many queries of each true parent were answered with each parent, sparse float64 [parents, parents].

    `parents` [labels] numbers the parent of each label from 0. A query with a label of the predicted parent counts
    there. Another counts in equal parts for the parents of its own labels. The sum is the number of queries.
    """
    queries, size = truth.shape[0], int(parents.max()) + 1
    belongs = sparse.csr_matrix((np.ones(len(parents)), (np.arange(len(parents)), parents)), shape=(len(parents), size))
    own = sparse.csr_array(truth.astype(np.float64) @ belongs)
    own.data[:] = 1
    predicted = parents[predictions.best[:, 0]]
    right = np.asarray(own[np.arange(queries), predicted]).ravel() > 0
    lengths = np.diff(own.indptr)
    rows = np.repeat(np.arange(queries), lengths)
    wrong = ~right[rows]
    shares = 1 / lengths[rows[wrong]]
    true = np.concatenate([predicted[right], own.indices[wrong]])
    answered = np.concatenate([predicted[right], predicted[rows[wrong]]])
    weights = np.concatenate([np.ones(int(right.sum())), shares])
    return sparse.csr_array((weights, (true, answered)), shape=(size, size))


class _Measured(NamedTuple):
    """Predictions beside the truth, from which the metrics of any weighting of the queries are computed."""

    by_query: Mapping[Key, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]
    """The numerator and the denominator of each metric that is a share of queries, both [n]."""
    counts: tuple[Any, Any]
    """Sparse float64 [labels, n]: labels chosen and right; and labels chosen or true, 2 where both."""
    groups: Mapping[str, npt.NDArray[np.bool_]]
    training_queries: npt.NDArray[np.integer]

    @classmethod
    def of(
        cls, predictions: Predictions, truth: Labels, training_queries: npt.NDArray[np.integer] | None
    ) -> "_Measured":
        _check(predictions, truth)
        known, every = predictions.chosen, np.ones(truth.shape[0])
        chosen = sparse.csr_matrix((known.data, known.indices, known.indptr), shape=truth.shape)
        correct = {k: correct_at(predictions, truth, k) for k in CUTOFFS}
        by_query = {("", f"accuracy@{k}"): (values, every) for k, values in correct.items()}
        by_query["", "answered"] = ((np.diff(chosen.indptr) > 0).astype(np.float64), every)
        groups: dict[str, npt.NDArray[np.bool_]] = {}
        padded = np.zeros(truth.shape[1], np.int64)
        if training_queries is not None:
            unknown = truth.shape[1] - len(training_queries)
            padded[: len(training_queries)] = training_queries
            for name, labels in frequency_groups(training_queries).items():
                groups[name] = np.append(labels, np.full(unknown, name == "tail"))
                members = groups[name][_rarest(truth, padded)].astype(np.float64)
                by_query[name, "accuracy@1"] = (correct[1] * members, members)
        right = chosen.multiply(truth).T.tocsr().astype(np.float64)
        both = (chosen.astype(np.float64) + truth.astype(np.float64)).T.tocsr()
        return cls(by_query, (right, both), groups, padded)

    def metrics(self, weights: npt.NDArray[Any]) -> Values:
        """Return each metric [draws] under `weights` [draws, n], how often each query counts; NaN where undefined."""
        values: Values = {}
        for key, (part, whole) in self.by_query.items():
            values[key] = _divided(weights @ part, weights @ whole)
        # [labels, draws], so that a group of labels is a slice of whole rows.
        right, both = (np.asarray(matrix @ weights.T.astype(np.float64)) for matrix in self.counts)
        f1 = np.nan_to_num(_divided(2 * right, both))
        values["", "micro_f1"] = _divided(2 * right.sum(axis=0), both.sum(axis=0))
        values["", "macro_f1"] = _divided(f1.sum(axis=0), (both > 0).sum(axis=0))
        values["", NO_INTERVAL] = f1.mean(axis=0)
        for name, labels in self.groups.items():
            values[name, "micro_f1"] = _divided(2 * right[labels].sum(axis=0), both[labels].sum(axis=0))
            values[name, "macro_f1"] = _divided(f1[labels].sum(axis=0), (both[labels] > 0).sum(axis=0))
        return values

    def resampled(self, seed: int) -> Values:
        """Return each metric of `RESAMPLES` resamples of the queries."""
        labels, queries = self.counts[0].shape
        drawn = resampled_counts(queries, RESAMPLES, seed, width=max(labels, queries))
        blocks = [self.metrics(weights) for weights in drawn]
        return {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}

    def description(self, group: str) -> dict[str, Any]:
        """Return how many labels a group has, the fewest and most training queries of one, and its queries."""
        counts = self.training_queries[self.groups[group]]
        span = [int(counts.min()), int(counts.max())] if len(counts) else None
        queries = int(self.by_query[group, "accuracy@1"][1].sum())
        return {"labels": len(counts), "training_queries": span, "queries": queries}


def _check(predictions: Predictions, truth: Labels) -> None:
    if not truth.shape[0]:
        raise RaylevanceError("no query to measure: give at least one with a label")
    assert predictions.chosen.shape[0] == truth.shape[0], "one row for each query"
    assert predictions.chosen.shape[1] <= truth.shape[1], "labels that are not known come last"
    empty = np.flatnonzero(np.diff(truth.indptr) == 0)
    if len(empty):
        raise RaylevanceError(f"query {empty[0] + 1}: has no label to measure by; leave it out")


def _rarest(truth: Labels, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the column of the label of each query that has the fewest training queries, [n]."""
    place = np.empty(len(counts), np.int64)
    order = np.argsort(counts, kind="stable")
    place[order] = np.arange(len(counts))
    rarest: npt.NDArray[np.int64] = order[np.minimum.reduceat(place[truth.indices], truth.indptr[:-1])]
    return rarest


def _divided(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    ratio: npt.NDArray[np.float64] = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return ratio


def _mean(runs: Sequence[Values]) -> Values:
    return {key: np.mean([run[key] for run in runs], axis=0) for key in runs[0]}


def _interval(values: npt.NDArray[np.float64]) -> list[float] | None:
    """Return the ends of the interval, without the resamples in which the metric is undefined."""
    defined = values[~np.isnan(values)]
    tail = (1 - CONFIDENCE) / 2
    return np.quantile(defined, [tail, 1 - tail]).tolist() if len(defined) else None


def _number(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
