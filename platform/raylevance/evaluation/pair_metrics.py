"""Metrics of scores on labelled pairs: AUC, F1 and KS.

Source: Alimama's CIKM 2022 paper (DOI 10.1145/3511808.3557143), which reports these three.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from raylevance.errors import RaylevanceError

GRADED_RELEVANT = 2
PAIR_METRICS = ("auc", "f1", "ks")
RESAMPLES = 500


def evaluate_pairs(
    scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], threshold: float | None = None
) -> dict[str, float]:
    """Return `auc`, `f1`, `f1_threshold`, and `ks`, the Kolmogorov-Smirnov statistic max |TPR - FPR|.

    A pair counts as predicted positive from a score of `threshold`, which `best_threshold` chooses on validation pairs.
    None takes the threshold with the best F1 on these pairs themselves, which overstates F1 on new pairs. `labels` [n]
    are 0 and 1, or grades 0 to 2 of which 2 is positive.

    Raises `RaylevanceError` for other labels, and if all pairs are positive or all are negative.
    """
    positive = _positive(labels)
    if threshold is None:
        threshold = best_threshold(scores, labels)
    predicted = scores >= threshold
    false_rate, true_rate, _ = roc_curve(positive, scores)
    return {
        "auc": float(roc_auc_score(positive, scores)),
        "f1": float(2 * np.sum(predicted & positive) / (np.sum(predicted) + np.sum(positive))),
        "f1_threshold": threshold,
        "ks": float(np.max(np.abs(true_rate - false_rate))),
    }


def best_threshold(scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """Return the threshold on `scores` [n] with the best F1: the score from which a pair counts as positive.

    Choose it on validation pairs, and measure F1 on others. `labels` [n] are those of `evaluate_pairs`, which also says
    what is raised.
    """
    precision, recall, thresholds = precision_recall_curve(_positive(labels), scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[int(np.argmax(f1[:-1]))])


def _positive(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Return which of `labels` are positive, [n]. Raises `RaylevanceError` as `evaluate_pairs` does."""
    present = set(np.unique(labels).tolist())
    if not present <= {0, 1, 2}:
        raise RaylevanceError(f"labels {sorted(present)}: expected 0 and 1, or grades 0, 1 and 2")
    positive: npt.NDArray[np.bool_] = labels >= (GRADED_RELEVANT if GRADED_RELEVANT in present else 1)
    if positive.all() or not positive.any():
        raise RaylevanceError("the pairs are all of one class: AUC, F1 and KS need both")
    return positive


def bootstrap_pairs(
    scores: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    queries: Sequence[str],
    seed: int = 0,
    threshold: float | None = None,
) -> dict[str, list[float]]:
    """Return each of `PAIR_METRICS` with its 95% percentile interval, as value, low and high.

    `queries` [n] are resampled together with their pairs, because the pairs of one query are not independent. The
    `threshold` of F1, which is that of `evaluate_pairs`, stays the same in every draw.
    """
    labels = _positive(labels).astype(np.int64)  # a draw without grade 2 has the same positives
    if threshold is None:
        threshold = best_threshold(scores, labels)
    value = evaluate_pairs(scores, labels, threshold)
    drawn = _resampled_rows(labels, queries, seed)
    resampled = [evaluate_pairs(scores[rows], labels[rows], threshold) for rows in drawn]
    low, high = np.percentile([[each[metric] for metric in PAIR_METRICS] for each in resampled], [2.5, 97.5], axis=0)
    return {metric: [value[metric], float(low[at]), float(high[at])] for at, metric in enumerate(PAIR_METRICS)}


def auc_difference(
    scores: npt.NDArray[np.floating],
    baseline: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    queries: Sequence[str],
    seed: int = 0,
) -> list[float]:
    """Return `mean_auc` of `scores` minus that of `baseline`, both [runs, n], and its 95% interval over queries."""
    _, group = np.unique(np.asarray(queries), return_inverse=True)
    groups = int(group.max()) + 1
    win_difference = _wins(scores, labels, group) - _wins(baseline, labels, group)
    positives, negatives = (np.bincount(group[labels == label], minlength=groups) for label in (1, 0))
    resampled = []
    for drawn in np.random.default_rng(seed).integers(0, groups, (RESAMPLES, groups)):
        times = np.bincount(drawn, minlength=groups)
        compared = (times @ positives) * (times @ negatives)
        if compared:
            resampled.append(times @ win_difference @ times / compared)
    return [mean_auc(scores, labels) - mean_auc(baseline, labels), *map(float, np.percentile(resampled, [2.5, 97.5]))]


def _wins(
    scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], group: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    """Return how often a positive pair of one query scores above a negative pair of another, [groups, groups].

    A tie counts half. The counts are means over the runs of `scores` [runs, n]. The AUC of any resampled queries is a
    weighted sum of these counts divided by the number of pairs compared.
    """
    groups, positive = int(group.max()) + 1, labels == 1
    wins = np.zeros((groups, groups))
    for run in scores:
        for other in range(groups):
            negatives = np.sort(run[(group == other) & ~positive])
            below, upto = (np.searchsorted(negatives, run[positive], side) for side in ("left", "right"))
            wins[:, other] += np.bincount(group[positive], (below + upto) / 2, groups)
    return wins / len(scores)


def mean_auc(scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """Return the mean over runs of the AUC of `scores` [runs, n] on `labels` [n], which are 0 or 1."""
    return float(np.mean([roc_auc_score(labels, run) for run in scores]))


def _resampled_rows(
    labels: npt.NDArray[np.integer], queries: Sequence[str], seed: int
) -> Iterator[npt.NDArray[np.integer]]:
    """Yield the rows of each of `RESAMPLES` draws of queries, except those whose pairs are all of one class."""
    _, group = np.unique(np.asarray(queries), return_inverse=True)
    members = [np.flatnonzero(group == number) for number in range(group.max() + 1)]
    random = np.random.default_rng(seed)
    for _ in range(RESAMPLES):
        rows = np.concatenate([members[number] for number in random.integers(0, len(members), len(members))])
        if len(np.unique(labels[rows])) > 1:
            yield rows
