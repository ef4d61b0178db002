"""The calibrated hybrid: one probability from what a relevance model and the item's neighbour queries say.

Source: the combination of both is named in the CIKM 2022 paper (DOI 10.1145/3511808.3557143), which prints no formula;
a logistic regression is our reading of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from raylevance.config import Settings
from raylevance.errors import RaylevanceError
from raylevance.hugging_face import one_line_errors

Values = npt.NDArray[np.float64]
Parts = Literal["hybrid", "fine_tuned", "transfer"]

SCORES: dict[Parts, tuple[str, ...]] = {
    "hybrid": ("fine_tuned", "transfer", "highest"),
    "fine_tuned": ("fine_tuned",),
    "transfer": ("transfer", "highest"),
}
SLACK = 1_000.0
"""Inverse of the penalty on the weights: next to none, and finite weights where a score separates the labels."""


@dataclass(frozen=True)
class Evidence:
    """What is known of n pairs, each float64 [n].

    `fine_tuned`: the log-odds of the relevance model. `transfer` and `highest`: the weighted sum and the maximum of the
    cosines with the item's neighbour queries, nan where it has none.
    """

    fine_tuned: Values
    transfer: Values
    highest: Values

    @property
    def related(self) -> npt.NDArray[np.bool_]:
        """[n]: whether the item has neighbour queries."""
        return np.isfinite(self.transfer)

    def columns(self, names: Sequence[str]) -> Values:
        """The scores `names` as [n, len(names)]."""
        return np.stack([getattr(self, name) for name in names], axis=1) if names else np.empty((len(self.transfer), 0))


class Logistic(Settings):
    """sigma(weights . x + intercept)."""

    weights: tuple[float, ...]
    intercept: float

    @classmethod
    def fit(cls, scores: Values, labels: npt.NDArray[np.integer]) -> Self:
        """By maximum likelihood on `scores` [n, k] and `labels` [n] (0 or 1, both among them).

        With k = 0 it is the share of relevant pairs.
        """
        if not scores.shape[1]:
            return cls(weights=(), intercept=float(logit(labels.mean())))
        spread = np.where(scores.std(axis=0) > 0, scores.std(axis=0), 1)
        fitted = LogisticRegression(C=SLACK, max_iter=1_000).fit(scores / spread, labels)
        return cls(weights=tuple((fitted.coef_[0] / spread).tolist()), intercept=float(fitted.intercept_[0]))

    def __call__(self, scores: Values) -> Values:
        """Probabilities float64 [n] of `scores` [n, k]."""
        probabilities: Values = expit(scores @ np.array(self.weights) + self.intercept)
        return probabilities


class Hybrid(Settings):
    """sigma(a * s_ft + b * s_tr + c * max_tr + d) where the item has neighbour queries, else sigma(a' * s_ft + d').

    `parts`: what is used: all, fine_tuned alone, or transfer alone, which gives items without neighbours the share of
    relevant pairs.
    """

    parts: Parts
    related: Logistic | None
    """None where neighbours are not used."""
    alone: Logistic

    @classmethod
    def fit(cls, evidence: Evidence, labels: npt.NDArray[np.integer], parts: Parts = "hybrid") -> Self:
        """On validation pairs with `labels` [n], 0 or 1. What serves items without neighbours is fitted on all pairs.

        Where the pairs whose items have neighbours are of one class, or none, neighbours are not used. Raises
        `RaylevanceError` where all pairs are of one class.
        """
        if len(np.unique(labels)) < 2:
            raise RaylevanceError(f"the {len(labels)} validation pairs are of one class: fitting needs both")
        alone = Logistic.fit(evidence.columns(_without_neighbours(parts)), labels)
        chosen = evidence.related
        if parts == "fine_tuned" or len(np.unique(labels[chosen])) < 2:
            return cls(parts=parts, related=None, alone=alone)
        related = Logistic.fit(evidence.columns(SCORES[parts])[chosen], labels[chosen])
        return cls(parts=parts, related=related, alone=alone)

    @classmethod
    def load(cls, file: Path) -> Self:
        """What `save` wrote. Raises `RaylevanceError` where `file` is none."""
        with one_line_errors(str(file), "hybrid"):
            return cls.model_validate_json(file.read_text(encoding="utf-8"))

    def save(self, file: Path) -> None:
        """Write the hybrid as JSON."""
        file.write_text(self.model_dump_json(indent=1), encoding="utf-8")

    def __call__(self, evidence: Evidence) -> Values:
        """The probability that each pair is relevant, float64 [n]."""
        probabilities = self.alone(evidence.columns(_without_neighbours(self.parts)))
        if self.related is not None:
            chosen = evidence.related
            probabilities[chosen] = self.related(evidence.columns(SCORES[self.parts])[chosen])
        return probabilities


def _without_neighbours(parts: Parts) -> tuple[str, ...]:
    return () if parts == "transfer" else ("fine_tuned",)
