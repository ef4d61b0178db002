"""Measure how well a judge's grades agree with human grades. A labelling run publishes its labels only above a limit.

Source: Mine and Refine (arXiv 2602.17654) for accuracy and within-1, which it reports for its annotator. Kappa, macro
F1, calibration and accuracy by coverage are our choice.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from raylevance.errors import RaylevanceError
from raylevance.evaluation.intervals import CONFIDENCE, resampled_counts

Grades = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]

GRADES = 3
RESAMPLES = 5000
COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
BINS = 10
LEAST_IN_SLICE = 20
"""The fewest pairs in a slice that is reported."""

_DISTANCE = np.abs(np.subtract.outer(np.arange(GRADES), np.arange(GRADES)))


def agreement_with_people(predicted: Grades, human: Grades, queries: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Return the `confusion_metrics` of the pairs, their 95% intervals, and the confusion matrix.

    `predicted` and `human` [pairs] are grades 0 to 2, and `queries` [pairs] are their queries. The intervals,
    under `ci95`, are by bootstrap over queries, not pairs, because a judge that misreads a query errs on all of its
    products. The rows of the matrix, under `confusion`, are human grades.

    Raises `RaylevanceError` if there are no pairs.
    """
    if not len(human):
        raise RaylevanceError("no judged pair to compare: every pair is in quarantine, or the judge abstained from it")
    _, query = np.unique(np.asarray(queries, dtype=str), return_inverse=True)
    by_query = np.zeros((query.max() + 1, GRADES, GRADES))
    np.add.at(by_query, (query, human, predicted), 1)
    draws = [np.tensordot(drawn, by_query, 1) for drawn in resampled_counts(len(by_query), RESAMPLES, seed)]
    resampled = confusion_metrics(np.concatenate(draws))
    tail = (1 - CONFIDENCE) / 2
    confusion = by_query.sum(axis=0)
    return {
        "pairs": len(human),
        **{name: float(value) for name, value in confusion_metrics(confusion).items()},
        "ci95": {name: np.quantile(values, [tail, 1 - tail]).tolist() for name, values in resampled.items()},
        "confusion": confusion.astype(int).tolist(),
    }


def confusion_metrics(confusion: npt.NDArray[Any]) -> dict[str, Any]:
    """Return metrics [...] of confusion matrices [..., 3, 3], with human grades in rows and predicted ones in columns.

    The metrics are accuracy, within_1, macro_f1, kappa (Cohen 1960) and quadratic_kappa (Cohen 1968). The F1 of a grade
    that neither side has is 0, and so is a kappa if no disagreement is expected.
    """
    pairs = confusion.sum(axis=(-2, -1))
    human, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)
    f1 = 2 * correct / np.maximum(human + predicted, 1e-12)
    by_chance = human[..., :, None] * predicted[..., None, :] / pairs[..., None, None]
    return {
        "accuracy": correct.sum(axis=-1) / pairs,
        "within_1": (confusion * (_DISTANCE <= 1)).sum(axis=(-2, -1)) / pairs,
        "macro_f1": f1.mean(axis=-1),
        "kappa": _kappa(confusion, by_chance, _DISTANCE > 0),
        "quadratic_kappa": _kappa(confusion, by_chance, _DISTANCE**2),
    }


def accuracy_by_coverage(predicted: Grades, human: Grades, confidence: Floats) -> list[dict[str, float]]:
    """Return the accuracy on the most confident share of the pairs, for each share in `COVERAGES`.

    This shows the gain in accuracy of a judge that abstains if its confidence is below a `threshold`. `confidence`
    [pairs] is between 0 and 1.
    """
    order = np.argsort(-confidence, kind="stable")
    correct = (predicted == human)[order]
    rows = []
    for coverage in COVERAGES:
        count = max(1, round(coverage * len(order)))
        threshold = float(confidence[order[count - 1]])
        rows.append({"coverage": count / len(order), "threshold": threshold, "accuracy": float(correct[:count].mean())})
    return rows


def calibration(predicted: Grades, human: Grades, confidence: Floats) -> dict[str, Any]:
    """Return the accuracy and mean confidence in each of `BINS` equal bins, and the expected calibration error `ece`.

    The error is the mean difference of the two, weighted by pairs.
    """
    bin_of_pair = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = []
    for number in np.unique(bin_of_pair):
        inside = bin_of_pair == number
        accuracy, mean = float((predicted == human)[inside].mean()), float(confidence[inside].mean())
        bins.append({"confidence": mean, "accuracy": accuracy, "pairs": int(inside.sum())})
    ece = sum(row["pairs"] * abs(row["accuracy"] - row["confidence"]) for row in bins) / len(human)
    return {"ece": float(ece), "bins": bins}


def agreement_by_slice(predicted: Grades, human: Grades, slices: Sequence[str]) -> Mapping[str, dict[str, float]]:
    """Return the number of pairs, accuracy and quadratic kappa of each slice that has `LEAST_IN_SLICE` pairs.

    `slices` [pairs] is the slice of each pair, such as a category or a query length.
    """
    names = np.asarray(slices, dtype=str)
    by_slice = {}
    for name in np.unique(names):
        inside = names == name
        if inside.sum() >= LEAST_IN_SLICE:
            confusion = np.zeros((GRADES, GRADES))
            np.add.at(confusion, (human[inside], predicted[inside]), 1)
            values = confusion_metrics(confusion)
            shown = {key: float(values[key]) for key in ("accuracy", "quadratic_kappa")}
            by_slice[str(name)] = {"pairs": int(inside.sum()), **shown}
    return by_slice


def _kappa(confusion: npt.NDArray[Any], by_chance: Floats, weights: Any) -> Any:
    """Return 1 - observed / expected disagreement."""
    observed, expected = ((counts * weights).sum(axis=(-2, -1)) for counts in (confusion, by_chance))
    return np.where(expected > 0, 1 - observed / np.maximum(expected, 1e-12), 0.0)
