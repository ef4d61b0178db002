"""A judge that grades by a few features of a query and a product's text, by a regression that is fitted in seconds.

Its parameters can be learned from a few hundred human grades; a transformer that reads both texts together needs the
grades of many more queries. The model is our choice and does not come from a paper.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import model_validator

from raylevance.config import Settings
from raylevance.hugging_face import one_line_errors
from raylevance.judges.grader import LogProbabilities
from raylevance.judges.match_features import CatalogueFacts, Feature, Floats, MatchFeatures
from raylevance.models.encoder import Encoder

ENCODER_FOLDER, REGRESSION = "encoder", "regression.json"
CANDIDATE_CUTS = 100
"""The number of quantiles of the score that are tried as cuts."""
FEATURES: tuple[Feature, ...] = ("coverage", "feedback", "category", "other_brand", "exclusion")
"""The features of a new judge: those that raise its agreement with people out of fold (docs/decisions/0015)."""


class Regression(Settings):
    """A linear score of features, and the cuts between the grades on that score."""

    features: tuple[Feature, ...] = ("cosine", "coverage")
    """The features, in the order of their weights. The default is that of files that do not name them."""
    weights: tuple[float, ...]
    """The weight of each feature in the score."""
    moderately: float
    """The score above which a pair has grade 1."""
    relevant: float
    """The score above which a pair has grade 2."""

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if len(self.features) != len(self.weights):
            raise ValueError(f"{len(self.features)} features, {len(self.weights)} weights")
        return self

    @classmethod
    def fit(cls, features: Floats, grades: npt.NDArray[np.integer], names: Sequence[Feature] = FEATURES) -> Self:
        """Fit the weights by least squares on the grades [n], then the cuts by quadratic kappa.

        `features` [n, f] are those of `names`.

        Both the squared error and quadratic kappa count a grade that is off by two four times as much as one that is
        off by one.
        """
        centred = features - features.mean(axis=0)
        weights, *_ = np.linalg.lstsq(centred, grades - grades.mean(), rcond=None)
        moderately, relevant = best_cuts(features @ weights, grades)
        return cls(features=tuple(names), weights=tuple(weights.tolist()), moderately=moderately, relevant=relevant)

    def __call__(self, features: Floats) -> Floats:
        """Return logits float64 [n, 3] of features [n, f]: 0, s - a and 2s - a - b for the score s and the cuts a <= b.

        Each grade is the most likely one between its cuts (adjacent-categories logit; Agresti 2010, section 4.1).
        """
        score = features @ np.array(self.weights)
        return np.stack([np.zeros_like(score), score - self.moderately, 2 * score - self.moderately - self.relevant], 1)


class MatchRegression:
    """A model that gives log-probabilities of the grades 0, 1, 2 to pairs of a query and a product text."""

    def __init__(self, read: MatchFeatures, regression: Regression) -> None:
        """Combine the features of pairs with a regression on them."""
        self._read, self.regression = read, regression

    @classmethod
    def fit(
        cls,
        encoder: Encoder,
        catalogue: Sequence[str],
        queries: Sequence[str],
        texts: Sequence[str],
        grades: npt.NDArray[np.integer],
    ) -> Self:
        """Fit the regression to the human `grades` [n] of pairs of `queries` and `texts`.

        `catalogue` holds the text of every product, from which the rarity of words is computed.
        """
        fitted = cls.unfitted(encoder, catalogue)
        fitted.regression = Regression.fit(fitted.features(queries, texts), grades)
        return fitted

    @classmethod
    def unfitted(
        cls, encoder: Encoder, catalogue: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> Self:
        """Return a judge with `features` for the texts of `catalogue`, whose `regression` is still to be set."""
        unset = Regression(features=FEATURES, weights=(0.0,) * len(FEATURES), moderately=0, relevant=0)
        facts = CatalogueFacts.read(catalogue, encoder, progress)
        whole = facts.vectors is not None and len(facts.vectors) == len(catalogue)
        return cls(MatchFeatures(encoder, facts, catalogue if whole else ()), unset)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a judge that `save` wrote. Raises `RaylevanceError` if `path` is not such a folder."""
        folder = Path(path)
        with one_line_errors(str(path), "match regression"):
            regression = Regression.model_validate_json((folder / REGRESSION).read_text(encoding="utf-8"))
            read = MatchFeatures(Encoder.load(folder / ENCODER_FOLDER), CatalogueFacts.load(folder))
            return cls(read, regression)

    def save(self, path: str | Path) -> None:
        """Write the judge to the folder `path`, replacing its content."""
        folder = Path(path)
        shutil.rmtree(folder, ignore_errors=True)
        self._read.encoder.save(folder / ENCODER_FOLDER)
        self._read.catalogue.save(folder)
        (folder / REGRESSION).write_text(self.regression.model_dump_json(indent=1), encoding="utf-8")

    def to(self, device: str | torch.device) -> Self:
        """Move the encoder to a device, and return the judge."""
        self._read.encoder.to(device)
        return self

    def tokenize(self, queries: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids that the encoder reads for each pair: those of the query, then those of the text."""
        query_ids, text_ids = self._read.encoder.tokenize(queries, "query"), self._read.encoder.tokenize(texts, "item")
        return [query + text for query, text in zip(query_ids, text_ids, strict=True)]

    def log_probabilities(
        self, queries: Sequence[str], texts: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> LogProbabilities:
        """Return the log-probabilities float32 [n, 3] of the grades 0, 1, 2 of n pairs.

        `progress` is called with the number of texts encoded since its last call.
        """
        logits = torch.from_numpy(self.regression(self.features(queries, texts, progress)))
        values: LogProbabilities = logits.log_softmax(dim=-1).float().numpy()
        return values

    def features(
        self, queries: Sequence[str], texts: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> Floats:
        """Return the features of the regression for each pair, float64 [n, f] (see `MatchFeatures`)."""
        return self._read(queries, texts, self.regression.features, progress)


def out_of_fold(
    features: Floats,
    grades: npt.NDArray[np.integer],
    folds: npt.NDArray[np.integer],
    *,
    fitted_to: npt.NDArray[np.bool_] | None = None,
) -> LogProbabilities:
    """Return log-probabilities float32 [n, 3] of the grades of each pair, by a `Regression` fitted to the other folds.

    `fitted_to` bool [n] says which pairs have a grade to learn from; None for all.

    `features` is [n, f], `grades` [n], and `folds` [n] the number of each pair's fold. Put all pairs of a query in one
    fold: then no pair is graded by a regression that learned from its query.
    """
    logits = np.empty((len(grades), 3))
    for fold in np.unique(folds):
        held_out = folds == fold
        learned = ~held_out if fitted_to is None else ~held_out & fitted_to
        names = FEATURES[: features.shape[1]]
        logits[held_out] = Regression.fit(features[learned], grades[learned], names)(features[held_out])
    values: LogProbabilities = torch.from_numpy(logits).log_softmax(dim=-1).float().numpy()
    return values


def best_cuts(scores: Floats, grades: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the cuts a <= b on `scores` [n] whose grades have the highest quadratic kappa with `grades` [n].

    Quadratic kappa is 2 cov(x, y) / (var x + var y + (mean x - mean y)^2).
    """
    cuts = np.quantile(scores, np.linspace(0, 1, CANDIDATE_CUTS))
    low, high = np.triu_indices(len(cuts))
    above = (scores[:, None] > cuts).astype(np.float64)
    mean, with_grade = above.mean(axis=0), grades @ above / len(grades)
    # A grade is the sum of two indicators, "above a" and "above b"; the second implies the first.
    predicted = mean[low] + mean[high]
    variance = mean[low] + 3 * mean[high] - predicted**2
    covariance = with_grade[low] + with_grade[high] - grades.mean() * predicted
    spread = variance + grades.var() + (grades.mean() - predicted) ** 2
    best = int(np.argmax(covariance / np.maximum(spread, 1e-12)))
    return float(cuts[low[best]]), float(cuts[high[best]])
