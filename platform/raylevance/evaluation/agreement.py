"""How well a judge's grades agree with human ones: what a labelling run has to reach before its labels are published.

Accuracy and within-1 are Mine and Refine's figures of its annotator (arXiv 2602.17654);
kappa, macro F1, calibration and accuracy against coverage are our choice.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from raylevance.errors import RaylevanceError
from raylevance.evaluation.intervals import CONFIDENCE

Grades = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]

GRADES = 3
RESAMPLES = 5000
COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
BINS = 10
LEAST_IN_SLICE = 20
"""Pairs; fewer say nothing about a slice."""

_DISTANCE = np.abs(np.subtract.outer(np.arange(GRADES), np.arange(GRADES)))


def agreement(predicted: Grades, human: Grades, queries: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """`metrics` of the pairs, their 95% intervals under `ci95`, and the `confusion` matrix (rows human).

    `predicted`, `human` [pairs]: grades 0 to 2; `queries` [pairs]: the query of each. The interval is by bootstrap over
    queries, not pairs: a judge that misreads a query errs on all its products. Raises `RaylevanceError` without pairs.
    """
    if not len(human):
        raise RaylevanceError("no judged pair to agree on: every pair was quarantined or abstained from")
    _, query = np.unique(np.asarray(queries, dtype=str), return_inverse=True)
    by_query = np.zeros((query.max() + 1, GRADES, GRADES))
    np.add.at(by_query, (query, human, predicted), 1)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(by_query), np.full(len(by_query), 1 / len(by_query)), RESAMPLES)
    resampled = metrics(np.tensordot(drawn, by_query, 1))
    tail = (1 - CONFIDENCE) / 2
    confusion = by_query.sum(axis=0)
    return {
        "pairs": len(human),
        **{name: float(value) for name, value in metrics(confusion).items()},
        "ci95": {name: np.quantile(values, [tail, 1 - tail]).tolist() for name, values in resampled.items()},
        "confusion": confusion.astype(int).tolist(),
    }


def metrics(confusion: npt.NDArray[Any]) -> dict[str, Any]:
    """accuracy, within_1, macro_f1, kappa (Cohen 1960), quadratic_kappa (Cohen 1968) of counts [..., 3, 3], each [...].

    Rows are human grades, columns predicted. A grade that neither side has scores F1 0; a kappa without any expected
    disagreement is 0.
    """
    pairs = confusion.sum(axis=(-2, -1))
    human, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    f1 = 2 * right / np.maximum(human + predicted, 1e-12)
    by_chance = human[..., :, None] * predicted[..., None, :] / pairs[..., None, None]
    return {
        "accuracy": right.sum(axis=-1) / pairs,
        "within_1": (confusion * (_DISTANCE <= 1)).sum(axis=(-2, -1)) / pairs,
        "macro_f1": f1.mean(axis=-1),
        "kappa": _kappa(confusion, by_chance, _DISTANCE > 0),
        "quadratic_kappa": _kappa(confusion, by_chance, _DISTANCE**2),
    }


def accuracy_by_coverage(predicted: Grades, human: Grades, confidence: Floats) -> list[dict[str, float]]:
    """Accuracy on the most confident share of the pairs, for each of `COVERAGES`, with the `threshold` that keeps them.

    What abstaining below a threshold buys. `confidence` [pairs] in 0..1.
    """
    order = np.argsort(-confidence, kind="stable")
    right = (predicted == human)[order]
    rows = []
    for coverage in COVERAGES:
        kept = max(1, round(coverage * len(order)))
        threshold = float(confidence[order[kept - 1]])
        rows.append({"coverage": kept / len(order), "threshold": threshold, "accuracy": float(right[:kept].mean())})
    return rows


def calibration(predicted: Grades, human: Grades, confidence: Floats) -> dict[str, Any]:
    """Accuracy beside mean confidence in `BINS` equal bins, and `ece`, their mean distance weighted by pairs."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = []
    for number in np.unique(place):
        inside = place == number
        accuracy, mean = float((predicted == human)[inside].mean()), float(confidence[inside].mean())
        bins.append({"confidence": mean, "accuracy": accuracy, "pairs": int(inside.sum())})
    ece = sum(row["pairs"] * abs(row["accuracy"] - row["confidence"]) for row in bins) / len(human)
    return {"ece": float(ece), "bins": bins}


def by_slice(predicted: Grades, human: Grades, slices: Sequence[str]) -> Mapping[str, dict[str, float]]:
    """Pairs, accuracy and quadratic kappa of each of `slices` [pairs] (a category, a query length) that has enough."""
    names = np.asarray(slices, dtype=str)
    found = {}
    for name in np.unique(names):
        inside = names == name
        if inside.sum() >= LEAST_IN_SLICE:
            confusion = np.zeros((GRADES, GRADES))
            np.add.at(confusion, (human[inside], predicted[inside]), 1)
            values = metrics(confusion)
            shown = {key: float(values[key]) for key in ("accuracy", "quadratic_kappa")}
            found[str(name)] = {"pairs": int(inside.sum()), **shown}
    return found


def _kappa(confusion: npt.NDArray[Any], by_chance: Floats, weights: Any) -> Any:
    """1 - observed / expected disagreement."""
    observed, expected = ((counts * weights).sum(axis=(-2, -1)) for counts in (confusion, by_chance))
    return np.where(expected > 0, 1 - observed / np.maximum(expected, 1e-12), 0.0)
