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
"""Candidates for a threshold looked at together: where there are more distinct scores, coarse first, then fine."""


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
    by_grade = [np.sort(scores[grades == grade]) for grade in range(3)]
    candidates = np.append(np.unique(scores), NEVER)
    while len(candidates) > MOST_THRESHOLDS:
        some = np.linspace(0, len(candidates) - 1, MOST_THRESHOLDS).astype(np.int64)
        beside = [some[max(0, at - 1) : at + 2] for at in _best(candidates[some], by_grade, present)]
        near = [np.arange(places[0], places[-1] + 1) for places in beside]
        candidates = candidates[np.unique(np.concatenate(near))]
    low, high = _best(candidates, by_grade, present)
    return GradeBands(moderately=float(candidates[low]), relevant=float(candidates[high]))


def _best(thresholds: npt.NDArray[Any], by_grade: list[npt.NDArray[Any]], present: npt.NDArray[Any]) -> tuple[int, int]:
    """The places of the two `thresholds` (rising) of the highest macro F1; `by_grade`: each grade's scores, sorted."""
    size = np.array([len(group) for group in by_grade])
    above = np.stack([len(group) - np.searchsorted(group, thresholds) for group in by_grade])
    total = above.sum(axis=0)
    low, high = np.triu_indices(len(thresholds))
    correct = np.stack([size[0] - above[0, low], above[1, low] - above[1, high], above[2, high]])
    predicted = np.stack([size.sum() - total[low], total[low] - total[high], total[high]])
    f1 = 2 * correct / np.maximum(predicted + size[:, None], 1)
    best = int(np.argmax(f1[present].mean(axis=0)))
    return int(low[best]), int(high[best])
