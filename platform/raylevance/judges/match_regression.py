"""A judge of two features: the cosine of query and text by an encoder, and the share of query words in the text.

Its four parameters can be learned from a few hundred human grades; a transformer that reads both texts together needs
the grades of many more queries. The model is our choice and does not come from a paper.
"""

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import Stemmer
import torch

from raylevance.config import Settings
from raylevance.data.words import words
from raylevance.hugging_face import one_line_errors
from raylevance.judges.grader import LogProbabilities
from raylevance.models.encoder import Encoder

Floats = npt.NDArray[np.float64]

ENCODER_FOLDER, REGRESSION, FREQUENCIES = "encoder", "regression.json", "document_frequencies.json"
CANDIDATE_CUTS = 100
"""The number of quantiles of the score that are tried as cuts."""


class Regression(Settings):
    """A linear score of the features [cosine, coverage], and the cuts between the grades on that score."""

    weights: tuple[float, float]
    """The weights of the two features in the score."""
    moderately: float
    """The score above which a pair has grade 1."""
    relevant: float
    """The score above which a pair has grade 2."""

    @classmethod
    def fit(cls, features: Floats, grades: npt.NDArray[np.integer]) -> Self:
        """Fit the weights by least squares on the grades [n], then the cuts by quadratic kappa; `features` is [n, 2].

        Both the squared error and quadratic kappa count a grade that is off by two four times as much as one that is
        off by one.
        """
        centred = features - features.mean(axis=0)
        weights, *_ = np.linalg.lstsq(centred, grades - grades.mean(), rcond=None)
        moderately, relevant = best_cuts(features @ weights, grades)
        return cls(weights=(float(weights[0]), float(weights[1])), moderately=moderately, relevant=relevant)

    def __call__(self, features: Floats) -> Floats:
        """Return logits float64 [n, 3] of features [n, 2]: 0, s - a and 2s - a - b for the score s and the cuts a <= b.

        Each grade is the most likely one between its cuts (adjacent-categories logit; Agresti 2010, section 4.1).
        """
        score = features @ np.array(self.weights)
        return np.stack([np.zeros_like(score), score - self.moderately, 2 * score - self.moderately - self.relevant], 1)


class MatchRegression:
    """A model that gives log-probabilities of the grades 0, 1, 2 to pairs of a query and a product text."""

    def __init__(self, encoder: Encoder, frequencies: dict[str, int], texts: int, regression: Regression) -> None:
        """Combine an encoder, the document frequencies of stems and a regression.

        `texts` is the number of texts in the catalogue, `frequencies` the number of those that contain each stem.
        """
        self._encoder, self._frequencies, self._texts = encoder, frequencies, texts
        self.regression = regression

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
    def unfitted(cls, encoder: Encoder, catalogue: Sequence[str]) -> Self:
        """Return a judge with `features` for the texts of `catalogue`, whose `regression` is still to be set."""
        frequencies = Counter(stem for text in catalogue for stem in stems(text))
        return cls(encoder, dict(frequencies), len(catalogue), Regression(weights=(0, 0), moderately=0, relevant=0))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a judge that `save` wrote. Raises `RaylevanceError` if `path` is not such a folder."""
        folder = Path(path)
        with one_line_errors(str(path), "match regression"):
            counts = json.loads((folder / FREQUENCIES).read_text(encoding="utf-8"))
            regression = Regression.model_validate_json((folder / REGRESSION).read_text(encoding="utf-8"))
            return cls(Encoder.load(folder / ENCODER_FOLDER), counts["stems"], counts["texts"], regression)

    def save(self, path: str | Path) -> None:
        """Write the judge to the folder `path`, replacing its content."""
        folder = Path(path)
        shutil.rmtree(folder, ignore_errors=True)
        self._encoder.save(folder / ENCODER_FOLDER)
        counts = {"texts": self._texts, "stems": self._frequencies}
        (folder / FREQUENCIES).write_text(json.dumps(counts, ensure_ascii=False), encoding="utf-8")
        (folder / REGRESSION).write_text(self.regression.model_dump_json(indent=1), encoding="utf-8")

    def to(self, device: str | torch.device) -> Self:
        """Move the encoder to a device, and return the judge."""
        self._encoder.to(device)
        return self

    def tokenize(self, queries: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids that the encoder reads for each pair: those of the query, then those of the text."""
        query_ids, text_ids = self._encoder.tokenize(queries, "query"), self._encoder.tokenize(texts, "item")
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
        """Return the features [cosine, coverage] of each pair, float64 [n, 2]."""
        distinct_queries, query = np.unique(np.asarray(queries, dtype=object), return_inverse=True)
        distinct_texts, text = np.unique(np.asarray(texts, dtype=object), return_inverse=True)
        u = self._encoder.encode_queries(list(distinct_queries))
        v = self._encoder.encode_items(list(distinct_texts), progress=progress)
        cosine = np.einsum("nd,nd->n", u[query], v[text]).astype(np.float64)
        query_stems, text_stems = [stems(q) for q in distinct_queries], [stems(t) for t in distinct_texts]
        coverage = [self._coverage(query_stems[row], text_stems[other]) for row, other in zip(query, text, strict=True)]
        return np.stack([cosine, np.array(coverage, float)], axis=1)

    def _coverage(self, query: frozenset[str], text: frozenset[str]) -> float:
        """Return the share of the query's stems that are in the text, weighted by BM25's idf; 0 without stems."""
        total = math.fsum(map(self._idf, query))
        return math.fsum(map(self._idf, query & text)) / total if total else 0.0

    def _idf(self, stem: str) -> float:
        frequency = self._frequencies.get(stem, 0)
        return math.log(1 + (self._texts - frequency + 0.5) / (frequency + 0.5))


def out_of_fold(features: Floats, grades: npt.NDArray[np.integer], folds: npt.NDArray[np.integer]) -> LogProbabilities:
    """Return log-probabilities float32 [n, 3] of the grades of each pair, by a `Regression` fitted to the other folds.

    `features` is [n, 2], `grades` [n], and `folds` [n] the number of each pair's fold. Put all pairs of a query in one
    fold: then no pair is graded by a regression that learned from its query.
    """
    logits = np.empty((len(grades), 3))
    for fold in np.unique(folds):
        held_out = folds == fold
        logits[held_out] = Regression.fit(features[~held_out], grades[~held_out])(features[held_out])
    values: LogProbabilities = torch.from_numpy(logits).log_softmax(dim=-1).float().numpy()
    return values


def stems(text: str) -> frozenset[str]:
    """Return the distinct words of `text` in lower case, as stems by Snowball's English stemmer."""
    return frozenset(Stemmer.Stemmer("english").stemWords(words(text)))


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
