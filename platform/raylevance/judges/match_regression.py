"""A judge of two numbers: how near an encoder finds query and text, and how many of the query's words the text has.

Its four parameters are learned from a few hundred human grades, where a transformer that reads both texts together
needs the grades of many more queries. Our choice; no paper of ours describes it.
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

Values = npt.NDArray[np.float64]

ENCODER_FOLDER, REGRESSION, FREQUENCIES = "encoder", "regression.json", "document_frequencies.json"
CUTS = 100
"""Candidates for a cut: quantiles of the score."""


class Regression(Settings):
    """score = weights . [cosine, coverage]; grade 1 above a score of `moderately`, grade 2 above `relevant`."""

    weights: tuple[float, float]
    moderately: float
    relevant: float

    @classmethod
    def fit(cls, features: Values, grades: npt.NDArray[np.integer]) -> Self:
        """Least squares on the grade, then the two cuts with the highest quadratic kappa: features [n, 2], grades [n].

        Squared error on the grade, and quadratic kappa, count a grade that is off by two four times as much.
        """
        centred = features - features.mean(axis=0)
        weights, *_ = np.linalg.lstsq(centred, grades - grades.mean(), rcond=None)
        moderately, relevant = best_cuts(features @ weights, grades)
        return cls(weights=(float(weights[0]), float(weights[1])), moderately=moderately, relevant=relevant)

    def __call__(self, features: Values) -> Values:
        """Logits float64 [n, 3]: 0, s - a, 2s - a - b for a score s and the cuts a <= b.

        The adjacent-categories logit (Agresti 2010, section 4.1): each grade is the most likely one between its cuts.
        """
        score = features @ np.array(self.weights)
        return np.stack([np.zeros_like(score), score - self.moderately, 2 * score - self.moderately - self.relevant], 1)


class MatchRegression:
    """Pairs of a query and a product's text to log-probabilities of the grades 0, 1, 2."""

    def __init__(self, encoder: Encoder, frequencies: dict[str, int], texts: int, regression: Regression) -> None:
        """`frequencies`: in how many of the catalogue's `texts` each stem is."""
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
        """Learned from the human `grades` [n] of pairs of `queries` and `texts`.

        `catalogue`: every product's text; it says which words are rare.
        """
        frequencies = Counter(stem for text in catalogue for stem in stems(text))
        untrained = Regression(weights=(0, 0), moderately=0, relevant=0)
        fitted = cls(encoder, dict(frequencies), len(catalogue), untrained)
        fitted.regression = Regression.fit(fitted.features(queries, texts), grades)
        return fitted

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """What `save` wrote. Raises `RaylevanceError` where `path` is none."""
        folder = Path(path)
        with one_line_errors(str(path), "match regression"):
            counted = json.loads((folder / FREQUENCIES).read_text(encoding="utf-8"))
            regression = Regression.model_validate_json((folder / REGRESSION).read_text(encoding="utf-8"))
            return cls(Encoder.load(folder / ENCODER_FOLDER), counted["stems"], counted["texts"], regression)

    def save(self, path: str | Path) -> None:
        """Write the judge to the folder `path`, replacing what it holds."""
        folder = Path(path)
        shutil.rmtree(folder, ignore_errors=True)
        self._encoder.save(folder / ENCODER_FOLDER)
        counted = {"texts": self._texts, "stems": self._frequencies}
        (folder / FREQUENCIES).write_text(json.dumps(counted, ensure_ascii=False), encoding="utf-8")
        (folder / REGRESSION).write_text(self.regression.model_dump_json(indent=1), encoding="utf-8")

    def to(self, device: str | torch.device) -> Self:
        self._encoder.to(device)
        return self

    def tokenize(self, queries: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
        """What the encoder reads of each pair."""
        sides = self._encoder.tokenize(queries, "query"), self._encoder.tokenize(texts, "item")
        return [query + text for query, text in zip(*sides, strict=True)]

    def log_probabilities(
        self, queries: Sequence[str], texts: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> LogProbabilities:
        """Of the grades 0, 1, 2 for each pair: float32 [n, 3]; `progress` gets the number of texts just encoded."""
        logits = torch.from_numpy(self.regression(self.features(queries, texts, progress)))
        answers: LogProbabilities = logits.log_softmax(dim=-1).float().numpy()
        return answers

    def features(
        self, queries: Sequence[str], texts: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> Values:
        """[cosine, coverage] of each pair, float64 [n, 2]."""
        read, query = np.unique(np.asarray(queries, dtype=object), return_inverse=True)
        shown, text = np.unique(np.asarray(texts, dtype=object), return_inverse=True)
        u = self._encoder.encode_queries(list(read))
        v = self._encoder.encode_items(list(shown), progress=progress)
        asked, found = [stems(words) for words in read], [stems(words) for words in shown]
        covered = [self._coverage(asked[row], found[other]) for row, other in zip(query, text, strict=True)]
        return np.stack([np.einsum("nd,nd->n", u[query], v[text]).astype(np.float64), np.array(covered, float)], axis=1)

    def _coverage(self, query: frozenset[str], text: frozenset[str]) -> float:
        """The share of the query's stems that the text has, weighted by BM25's idf; 0 for a query without words."""
        total = math.fsum(map(self._idf, query))
        return math.fsum(map(self._idf, query & text)) / total if total else 0.0

    def _idf(self, stem: str) -> float:
        having = self._frequencies.get(stem, 0)
        return math.log(1 + (self._texts - having + 0.5) / (having + 0.5))


def stems(text: str) -> frozenset[str]:
    """The distinct words of `text` in lower case, by Snowball's English stems."""
    return frozenset(Stemmer.Stemmer("english").stemWords(words(text.lower())))


def best_cuts(scores: Values, grades: npt.NDArray[Any]) -> tuple[float, float]:
    """The cuts a <= b on `scores` [n] whose grades agree best with `grades` [n] by quadratic kappa.

    Quadratic kappa is 2 cov(x, y) / (var x + var y + (mean x - mean y)^2).
    """
    cuts = np.quantile(scores, np.linspace(0, 1, CUTS))
    low, high = np.triu_indices(len(cuts))
    above = (scores[:, None] > cuts).astype(np.float64)
    mean, with_grade = above.mean(axis=0), grades @ above / len(grades)
    # A grade is the sum of two indicators, of which the second is never without the first.
    predicted = mean[low] + mean[high]
    variance = mean[low] + 3 * mean[high] - predicted**2
    covariance = with_grade[low] + with_grade[high] - grades.mean() * predicted
    spread = variance + grades.var() + (grades.mean() - predicted) ** 2
    best = int(np.argmax(covariance / np.maximum(spread, 1e-12)))
    return float(cuts[low[best]]), float(cuts[high[best]])
