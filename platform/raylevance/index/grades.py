"""Bands of the cosine that stand for grades: how a retriever's score says relevant, moderately relevant or not."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import model_validator

from raylevance.config import Settings
from raylevance.errors import RaylevanceError

NEVER = 2.0
"""A threshold beyond every cosine: of grades that no judged pair has."""

MOST_THRESHOLDS = 400
"""Candidates for a threshold: quantiles of the scores where there are more distinct scores than this."""


class GradeBands(Settings):
    """Grade 2 from a cosine of `relevant` up, 1 from `moderately` up, 0 below."""

    moderately: float
    relevant: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.moderately <= self.relevant:
            raise ValueError(f"moderately ({self.moderately}) must not exceed relevant ({self.relevant})")
        return self

    def grade(self, scores: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
        """The grade of each score, same shape."""
        return (scores >= self.moderately).astype(np.int8) + (scores >= self.relevant)


def fit_grade_bands(scores: npt.NDArray[Any], grades: npt.NDArray[Any]) -> GradeBands:
    """The bands with the highest macro F1 on judged pairs: cosines [n] and grades [n], 0 to 2.

    Macro F1, since the grades are of unequal size and none should be given up (our choice); over the grades present.
    Where no pair has grade 2 no cosine gets it. Raises `RaylevanceError` for fewer than two different grades.
    """
    present = np.unique(grades)
    if len(present) < 2:
        raise RaylevanceError(f"grade bands are fitted on two grades or more, got {present.tolist()}")
    thresholds = _thresholds(scores)
    by_grade = [np.sort(scores[grades == grade]) for grade in range(3)]
    size = np.array([len(group) for group in by_grade])
    above = np.stack([len(group) - np.searchsorted(group, thresholds) for group in by_grade])
    total = above.sum(axis=0)
    low, high = np.triu_indices(len(thresholds))
    correct = np.stack([size[0] - above[0, low], above[1, low] - above[1, high], above[2, high]])
    predicted = np.stack([size.sum() - total[low], total[low] - total[high], total[high]])
    f1 = 2 * correct / np.maximum(predicted + size[:, None], 1)
    best = int(np.argmax(f1[present].mean(axis=0)))
    return GradeBands(moderately=float(thresholds[low[best]]), relevant=float(thresholds[high[best]]))


def _thresholds(scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
    distinct = np.unique(scores)
    if len(distinct) > MOST_THRESHOLDS:
        distinct = np.unique(np.quantile(scores, np.linspace(0, 1, MOST_THRESHOLDS), method="nearest"))
    return np.append(distinct, NEVER)
