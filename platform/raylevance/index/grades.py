"""Grade bands: ranges of the cosine that stand for the grades 0 (irrelevant), 1 (moderately relevant), 2 (relevant)."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import model_validator

from raylevance.config import Settings
from raylevance.errors import RaylevanceError

ABOVE_ALL_COSINES = 2.0
"""A threshold that no cosine reaches, for grades that no judged pair has."""

MAX_THRESHOLDS = 400
"""Number of candidate thresholds that are compared at once. If there are more, the search goes from coarse to fine."""


class GradeBands(Settings):
    """The cosines at which the grades begin. Below `moderately` the grade is 0."""

    moderately: float
    """Cosine from which the grade is 1."""
    relevant: float
    """Cosine from which the grade is 2."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.moderately <= self.relevant:
            raise ValueError(f"moderately ({self.moderately}) must not exceed relevant ({self.relevant})")
        return self

    def grade(self, scores: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
        """Return the grade of each of `scores`, in the same shape."""
        return (scores >= self.moderately).astype(np.int8) + (scores >= self.relevant)


def fit_grade_bands(scores: npt.NDArray[Any], grades: npt.NDArray[Any]) -> GradeBands:
    """Return the bands with the highest macro F1 on judged pairs with cosines `scores` [n] and `grades` [n], 0 to 2.

    Macro F1 over the grades that are present is used because grades are unequal in number and none should be neglected
    (our choice). A grade that no pair has is given to no cosine between those of the pairs.

    Raises `RaylevanceError` if there are fewer than two different grades.
    """
    present = np.unique(grades)
    if len(present) < 2:
        raise RaylevanceError(
            f"grade bands need judged pairs of two grades or more, got {present.tolist()}; add judgements"
        )
    by_grade = [np.sort(scores[grades == grade]) for grade in range(3)]
    candidates = np.append(np.unique(scores), ABOVE_ALL_COSINES)
    while len(candidates) > MAX_THRESHOLDS:
        coarse = np.linspace(0, len(candidates) - 1, MAX_THRESHOLDS).astype(np.int64)
        around_best = [coarse[max(0, best - 1) : best + 2] for best in _best(candidates[coarse], by_grade, present)]
        ranges = [np.arange(positions[0], positions[-1] + 1) for positions in around_best]
        candidates = candidates[np.unique(np.concatenate(ranges))]
    low, high = _best(candidates, by_grade, present)
    return GradeBands(moderately=float(candidates[low]), relevant=float(candidates[high]))


def _best(thresholds: npt.NDArray[Any], by_grade: list[npt.NDArray[Any]], present: npt.NDArray[Any]) -> tuple[int, int]:
    """Return the positions of the two `thresholds` (ascending) with the highest macro F1.

    `by_grade` has the scores of each grade, sorted.
    """
    size = np.array([len(group) for group in by_grade])
    above = np.stack([len(group) - np.searchsorted(group, thresholds) for group in by_grade])
    total = above.sum(axis=0)
    low, high = np.triu_indices(len(thresholds))
    correct = np.stack([size[0] - above[0, low], above[1, low] - above[1, high], above[2, high]])
    predicted = np.stack([size.sum() - total[low], total[low] - total[high], total[high]])
    f1 = 2 * correct / np.maximum(predicted + size[:, None], 1)
    allowed = np.ones(len(low), np.bool_)
    if 0 not in present:
        allowed &= low == 0
    if 1 not in present:
        allowed &= low == high
    if 2 not in present:
        allowed &= high == len(thresholds) - 1
    best = int(np.argmax(np.where(allowed, f1[present].mean(axis=0), -1.0)))
    return int(low[best]), int(high[best])
