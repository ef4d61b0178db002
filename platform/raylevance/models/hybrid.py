"""The calibrated hybrid: one probability from the scores of a relevance model and of the item's neighbour queries.

Source: the CIKM 2022 paper (DOI 10.1145/3511808.3557143) names the combination of both but prints no formula. A
logistic regression is our reading of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from raylevance.config import Settings
from raylevance.errors import RaylevanceError
from raylevance.hugging_face import one_line_errors

Values = npt.NDArray[np.float64]
HybridParts = Literal["hybrid", "fine_tuned", "transfer"]

SCORES: dict[HybridParts, tuple[str, ...]] = {
    "hybrid": ("fine_tuned", "transfer", "highest"),
    "fine_tuned": ("fine_tuned",),
    "transfer": ("transfer", "highest"),
}
"""The scores of `Evidence` that each kind of hybrid uses for items with neighbour queries."""

INVERSE_PENALTY = 1_000.0
"""The inverse of the penalty on the weights.

The penalty is almost zero, but it keeps the weights finite if a score separates the labels.
"""


@dataclass(frozen=True)
class Evidence:
    """The scores of n pairs, each float64 [n].

    - `fine_tuned` is the log-odds of the relevance model.
    - `transfer` is the weighted sum of the query's cosines with the item's neighbour queries, nan without neighbours.
    - `highest` is the maximum of these cosines, nan without neighbours.
    """

    fine_tuned: Values
    transfer: Values
    highest: Values

    @property
    def has_neighbours(self) -> npt.NDArray[np.bool_]:
        """Whether the item of each pair has neighbour queries, [n]."""
        return np.isfinite(self.transfer)

    def columns(self, names: Sequence[str]) -> Values:
        """Return the scores `names` as columns, [n, len(names)]."""
        return np.stack([getattr(self, name) for name in names], axis=1) if names else np.empty((len(self.transfer), 0))


class Logistic(Settings):
    """A fitted logistic regression, sigma(weights . x + intercept)."""

    weights: tuple[float, ...]
    intercept: float

    @classmethod
    def fit(cls, scores: Values, labels: npt.NDArray[np.integer]) -> Self:
        """Fit by maximum likelihood on `scores` [n, k] and `labels` [n], which are 0 or 1 and include both.

        With k = 0, the probability is the share of relevant pairs.
        """
        if not scores.shape[1]:
            return cls(weights=(), intercept=float(logit(labels.mean())))
        spread = np.where(scores.std(axis=0) > 0, scores.std(axis=0), 1)
        fitted = LogisticRegression(C=INVERSE_PENALTY, max_iter=1_000).fit(scores / spread, labels)
        return cls(weights=tuple((fitted.coef_[0] / spread).tolist()), intercept=float(fitted.intercept_[0]))

    def __call__(self, scores: Values) -> Values:
        """Return the probabilities, float64 [n], of `scores` [n, k]."""
        probabilities: Values = expit(scores @ np.array(self.weights) + self.intercept)
        return probabilities


class Hybrid(Settings):
    """The probability that an item is relevant to a query.

    It is sigma(a * fine_tuned + b * transfer + c * highest + d) if the item has neighbour queries, and
    sigma(a' * fine_tuned + d') if it has none.
    """

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    parts: HybridParts
    """The scores in use: hybrid (all), fine_tuned, or transfer.

    With transfer, items without neighbour queries get the share of relevant pairs as their probability.
    """

    with_neighbours: Logistic | None = Field(alias="related")
    """The regression for items with neighbour queries. None uses `without_neighbours` for these items too."""

    without_neighbours: Logistic = Field(alias="alone")
    """The regression for items without neighbour queries."""

    @classmethod
    def fit(cls, evidence: Evidence, labels: npt.NDArray[np.integer], parts: HybridParts = "hybrid") -> Self:
        """Fit on validation pairs with `labels` [n], 0 or 1.

        The regression for items without neighbour queries is fitted on all pairs. If the pairs whose items have
        neighbour queries are all of one class, or if there are none, neighbour queries are not used.

        Raises `RaylevanceError` if all pairs are of one class.
        """
        if len(np.unique(labels)) < 2:
            raise RaylevanceError(f"the {len(labels)} validation pairs are of one class: fitting needs both")
        without = Logistic.fit(evidence.columns(_scores_without_neighbours(parts)), labels)
        chosen = evidence.has_neighbours
        if parts == "fine_tuned" or len(np.unique(labels[chosen])) < 2:
            return cls(parts=parts, with_neighbours=None, without_neighbours=without)
        with_ = Logistic.fit(evidence.columns(SCORES[parts])[chosen], labels[chosen])
        return cls(parts=parts, with_neighbours=with_, without_neighbours=without)

    @classmethod
    def load(cls, file: Path) -> Self:
        """Return the hybrid that `save` wrote. Raises `RaylevanceError` if `file` is not a readable hybrid."""
        with one_line_errors(str(file), "hybrid"):
            return cls.model_validate_json(file.read_text(encoding="utf-8"))

    def save(self, file: Path) -> None:
        """Write the hybrid as a JSON file."""
        file.write_text(self.model_dump_json(indent=1), encoding="utf-8")

    def __call__(self, evidence: Evidence) -> Values:
        """Return the probability that each pair is relevant, float64 [n]."""
        probabilities = self.without_neighbours(evidence.columns(_scores_without_neighbours(self.parts)))
        if self.with_neighbours is not None:
            chosen = evidence.has_neighbours
            probabilities[chosen] = self.with_neighbours(evidence.columns(SCORES[self.parts])[chosen])
        return probabilities


def _scores_without_neighbours(parts: HybridParts) -> tuple[str, ...]:
    return () if parts == "transfer" else ("fine_tuned",)
