"""Baselines of query classification: what one gets without training a query classifier.

Each has `scores(train, space, task, queries)`: it learns from `train` (labelled queries in the schema `QUERY_LABELS`),
if it learns at all, and returns the scores float32 [queries, labels] of the labels that the task predicts, in their
order in the space. A higher score is a better label. Only those of `Majority` and `LinearTfIdf` are probabilities, so
choose the thresholds of all of them on validation queries (`raylevance.evaluation.choose_thresholds`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse
from scipy.special import expit

from raylevance.data.label_space import LabelSpace
from raylevance.data.normal_form import normal_form
from raylevance.data.product_labels import labels_of_products
from raylevance.errors import RaylevanceError
from raylevance.index.vectors import IndexSettings, VectorIndex
from raylevance.inference.encoder import NamedEncoder
from raylevance.inference.encoding import encode_texts
from raylevance.progress import progress_bar

Scores = npt.NDArray[np.float32]

NEIGHBOURS = 20
TIE = 1e-3
"""The weight of a neighbour's cosine beside its vote: it decides only between labels with equal votes."""

FEWEST_NEGATIVES = 2000
NEGATIVES_PER_POSITIVE = 10
"""A label learns from all queries that have it and this many that don't, or FEWEST_NEGATIVES, so that the cost of a
label does not grow with the queries of the others (our choice)."""
PRUNED_BELOW = 0.01
"""Weights nearer to 0 are left out, which keeps 10,000 labels in memory. Source: DiSMEC (arXiv 1609.02521), 3.2."""


class Baseline(Protocol):
    """The interface of every baseline."""

    def scores(self, train: pa.Table, space: LabelSpace, task: str, queries: Sequence[str]) -> Scores:
        """Return the scores of the labels that `task` predicts for `queries`, float32 [queries, labels]."""


@dataclass(frozen=True)
class Majority:
    """The labels of most training queries, the same for every query."""

    def scores(self, train: pa.Table, space: LabelSpace, task: str, queries: Sequence[str]) -> Scores:
        """Return the share of the training queries, by their weights, that have each label."""
        known = TrainingRows.of(train, space, task)
        share = known.weights @ known.has_label / known.weights.sum()
        return np.tile(np.asarray(share, np.float32), (len(queries), 1))


@dataclass(frozen=True)
class NearestLabel:
    """The label whose text is nearest to the query: zero-shot, without training queries."""

    encoder: NamedEncoder

    def scores(self, train: pa.Table, space: LabelSpace, task: str, queries: Sequence[str]) -> Scores:
        """Return the cosines of the queries with the labels' texts."""
        texts = space.labels["text"].take(pa.array(predicted_rows(space, task))).to_pylist()
        labels = encode_texts(self.encoder.path, texts, "item")
        return np.asarray(self.encoder.encode_queries(queries) @ labels.T, np.float32)


@dataclass(frozen=True)
class NearestProducts:
    """The vote of the products nearest to the query, each for its own label."""

    encoder: NamedEncoder
    products: pa.Table
    k: int = NEIGHBOURS

    def can_vote(self, space: LabelSpace, task: str) -> bool:
        """Return whether any product has a label of the task."""
        return bool((labels_of_products(self.products, space)[:, space.tasks.index(task)] >= 0).any())

    def scores(self, train: pa.Table, space: LabelSpace, task: str, queries: Sequence[str]) -> Scores:
        """Return the share of the `k` nearest products that have each label; equal shares rank by the cosines.

        A product without a label of the task is a neighbour without a vote.
        """
        columns = _columns(space, task)
        found = labels_of_products(self.products, space)[:, space.tasks.index(task)]
        label_of = np.where(found >= 0, columns[found], -1)
        cosines, rows = self._index.search(self.encoder.encode_queries(queries), min(self.k, len(self._index)))
        labels = np.where(rows >= 0, label_of[rows], -1)
        query, place = np.nonzero(labels >= 0)
        votes = np.zeros((len(queries), int(columns.max()) + 1), np.float64)
        np.add.at(votes, (query, labels[query, place]), 1 + TIE * cosines[query, place])
        return (votes / self.k).astype(np.float32)

    @cached_property
    def _index(self) -> VectorIndex:
        """The products' vectors, which every task reads."""
        return VectorIndex.build(self.encoder.encode_products(self.products), IndexSettings())


@dataclass(frozen=True)
class LinearTfIdf:
    """A logistic regression for each label on the words and pairs of words of the query, weighted by tf-idf."""

    strength: float = 10.0
    """The inverse of the L2 regularisation, C of scikit-learn."""
    seed: int = 0

    def scores(self, train: pa.Table, space: LabelSpace, task: str, queries: Sequence[str]) -> Scores:
        """Return the probability of each label. A label without a training query has 0."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        known = TrainingRows.of(train, space, task)
        words = TfidfVectorizer(
            preprocessor=normal_form, token_pattern=r"\b\w+\b", ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32
        )
        features = words.fit_transform(known.queries)
        weights, bias = self._fit(features, known)
        logits = (words.transform(queries) @ weights).toarray() + bias
        return np.asarray(expit(logits), np.float32)

    def _fit(self, features: Any, known: "TrainingRows") -> tuple[Any, npt.NDArray[np.float32]]:
        """Return the sparse weights [features, labels] and the bias [labels], -inf where a label has no query."""
        by_label = sparse.csc_matrix(known.has_label)
        bias = np.full(by_label.shape[1], -np.inf, np.float32)
        columns = [(np.zeros(0, np.int32), np.zeros(0, np.float32))] * len(bias)
        with progress_bar("linear baseline", "labels", len(bias)) as bar:
            for label in range(len(bias)):
                span = slice(by_label.indptr[label], by_label.indptr[label + 1])
                if span.stop > span.start:
                    rows, targets = by_label.indices[span], by_label.data[span]
                    columns[label], bias[label] = self._fit_label(features, known.weights, rows, targets, label)
                bar.advance(1)
        words, weights = (np.concatenate(parts) for parts in zip(*columns, strict=True))
        ends = np.concatenate([[0], np.cumsum([len(each) for each, _ in columns])])
        return sparse.csc_matrix((weights, words, ends), shape=(features.shape[1], len(bias))), bias

    def _fit_label(
        self, features: Any, weights: npt.NDArray[np.float64], positives: Any, targets: Any, label: int
    ) -> tuple[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]], float]:
        """Return the features that matter to one label with their weights, and the bias.

        They are learned from its positives and a sample of the others. The bias is corrected for those left out (King
        and Zeng 2001, prior correction).
        """
        from sklearn.linear_model import LogisticRegression

        has_not = np.ones(features.shape[0], np.bool_)
        has_not[positives] = False
        others = np.flatnonzero(has_not)
        if not len(others):
            return (np.zeros(0, np.int32), np.zeros(0, np.float32)), np.inf
        most = max(FEWEST_NEGATIVES, NEGATIVES_PER_POSITIVE * len(positives))
        rng = np.random.default_rng([self.seed, label])
        negatives = others if len(others) <= most else np.sort(rng.choice(others, most, replace=False))
        rows = np.concatenate([positives, negatives])
        sample = features[rows]
        # The weight of a feature in none of these rows is 0, and the solver's time grows with the features it is given.
        used, places = np.unique(sample.indices, return_inverse=True)
        model = LogisticRegression(C=self.strength, solver="liblinear", random_state=self.seed)
        model.fit(
            sparse.csr_matrix((sample.data, places.astype(np.int32), sample.indptr), shape=(len(rows), len(used))),
            np.arange(len(rows)) < len(positives),
            sample_weight=weights[rows] * np.concatenate([targets, np.ones(len(negatives))]),
        )
        kept = np.abs(model.coef_[0]) >= PRUNED_BELOW
        learned = used[kept].astype(np.int32), model.coef_[0][kept].astype(np.float32)
        return learned, float(model.intercept_[0]) + float(np.log(len(negatives) / len(others)))


def predicted_rows(space: LabelSpace, task: str) -> npt.NDArray[np.int64]:
    """Return the rows of `space` that `task` predicts, in order. Raises `RaylevanceError` for an unknown task."""
    of_task = space.rows(task)
    rows: npt.NDArray[np.int64] = of_task.start + np.flatnonzero(space.predicted[of_task])
    return rows


def _columns(space: LabelSpace, task: str) -> npt.NDArray[np.int64]:
    """Return the column of the scores for each row of `space`, [labels], -1 where `task` does not predict it."""
    columns = np.full(len(space), -1, np.int64)
    rows = predicted_rows(space, task)
    columns[rows] = np.arange(len(rows))
    return columns


@dataclass(frozen=True)
class TrainingRows:
    """The training queries of one task: texts and weights [n], and `has_label`, their targets, sparse [n, labels]."""

    queries: list[str]
    weights: npt.NDArray[np.float64]
    has_label: Any

    @classmethod
    def of(cls, train: pa.Table, space: LabelSpace, task: str) -> "TrainingRows":
        column_of, rows = _columns(space, task), train.filter(pc.equal(train["task"], task)).combine_chunks()
        if not rows.num_rows:
            raise RaylevanceError(f"task {task!r}: no training query has a label; add a source of labels")
        columns = column_of[pc.list_flatten(rows["labels"]).to_numpy(zero_copy_only=False)]
        query = np.repeat(np.arange(rows.num_rows), pc.list_value_length(rows["labels"]).to_numpy())
        target = pc.list_flatten(rows["targets"]).to_numpy(zero_copy_only=False)
        known, shape = columns >= 0, (rows.num_rows, int(column_of.max()) + 1)
        has_label = sparse.csr_matrix((target[known], (query[known], columns[known])), shape=shape, dtype=np.float64)
        return cls(rows["query"].to_pylist(), rows["weight"].to_numpy().astype(np.float64), has_label)
