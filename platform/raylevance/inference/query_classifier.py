"""The query classifier as it is served: one encoding of the query, and one matrix product with the labels.

A `classifier/NAME` artifact holds `encoder` (the folder of an `Encoder`), `labels.parquet` (a `LabelSpace`) and
`labels.safetensors`, in which each task has the rows s * H_l and the bias of its labels, their thresholds, and the
number of training queries that had them.

Source: SSUF (arXiv 2506.21049), serving.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from raylevance.artifacts import Store
from raylevance.data.label_space import LabelSpace
from raylevance.data.normal_form import normal_form
from raylevance.errors import RaylevanceError, UsageError, nearest
from raylevance.hugging_face import one_line_errors
from raylevance.inference.encoding import encode_texts
from raylevance.models.encoder import read_encoder_settings
from raylevance.models.query_classifier import QueryClassifier, Vectors, label_probabilities

ENCODER, LABELS = "encoder", "labels.safetensors"
DEFAULT_THRESHOLD = 0.5


class TaskLabels(NamedTuple):
    """The parts of a classifier that prediction needs of the labels of a task.

    `rows` float32 [labels, d], `bias` float32 [labels], `thresholds` float32 [labels], the probability from which a
    label counts, and `training_queries` int64 [labels], the number of training queries that had the label.
    """

    rows: Vectors
    bias: Vectors
    thresholds: Vectors
    training_queries: npt.NDArray[np.int64]


class PredictedLabel(NamedTuple):
    """A label of a query: its id, its probability, and its path of names from the root of its taxonomy."""

    label_id: str
    probability: float
    path: list[str]


@dataclass(frozen=True)
class LoadedClassifier:
    """A classifier that is loaded and ready to classify."""

    encoder: Path
    space: LabelSpace
    by_task: Mapping[str, TaskLabels]

    def labels(self, task: str) -> list[str]:
        """Return the ids of the labels that `task` predicts, in the order of the columns of its probabilities."""
        return [self.space.label_ids[row] for row in self._predicted_rows(task)]

    def thresholds(self, task: str) -> Vectors:
        """Return the probability from which each label counts, float32 [labels]; 0.5 where none was calibrated."""
        return self._of(task).thresholds

    def training_queries(self, task: str) -> npt.NDArray[np.int64]:
        """Return in how many training queries each label was, int64 [labels]."""
        return self._of(task).training_queries

    def probabilities(self, queries: Sequence[str], task: str) -> Vectors:
        """Return the probability of each label, float32 [queries, labels]. Raises `UsageError` for an unknown task.

        Queries are read in their normal form, in which training queries are written.
        """
        self._of(task)
        vectors = encode_texts(self.encoder, [query_text(query) for query in queries], "query")
        return self.probabilities_of(vectors, task)

    def classify(
        self, queries: Sequence[str], task: str, k: int, minimum: float | None = None
    ) -> list[list[PredictedLabel]]:
        """Return up to `k` labels of each query, the most probable first.

        A label below its threshold, or below `minimum` where given, is left out, so a query may have none.
        """
        return self.best_labels(self.probabilities(queries, task), task, k, minimum)

    def best_labels(
        self, probabilities: Vectors, task: str, k: int, minimum: float | None = None
    ) -> list[list[PredictedLabel]]:
        """Return up to `k` labels of each row of `probabilities`, float32 [queries, labels], as `classify` does."""
        limits = self.thresholds(task) if minimum is None else np.full(probabilities.shape[1], minimum)
        rows = self._predicted_rows(task)
        best = best_columns(probabilities, k)
        return [
            [
                PredictedLabel(self.space.label_ids[rows[column]], float(row[column]), self.space.path(rows[column]))
                for column in columns
                if row[column] >= limits[column]
            ]
            for row, columns in zip(probabilities, best, strict=True)
        ]

    def probabilities_of(self, vectors: Vectors, task: str) -> Vectors:
        """Return the probability of each label, float32 [queries, labels], from the encoder's vectors of queries."""
        labels = self._of(task)
        return label_probabilities(vectors, labels.rows, labels.bias)

    def _predicted_rows(self, task: str) -> list[int]:
        self._of(task)
        rows = np.arange(len(self.space))[self.space.rows(task)]
        return [int(row) for row in rows[self.space.predicted[rows]]]

    def _of(self, task: str) -> TaskLabels:
        if task not in self.by_task:
            raise UsageError(f"task {task!r}: the classifier has none; {nearest(task, list(self.by_task))}")
        return self.by_task[task]


def query_text(query: str) -> str:
    """Return the text of `query` that the classifier's encoder reads: its normal form, as in training."""
    return normal_form(query)


def best_columns(scores: Vectors, k: int) -> npt.NDArray[np.int64]:
    """Return the columns of the `k` highest scores of each row, [n, min(k, columns)], highest first.

    Of equal scores among them the lower column comes first; which of several equal ones is the last is open.
    """
    k = min(k, scores.shape[1])
    # A partition and a sort of k columns cost a tenth of a sort of 10,000.
    chosen = np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)
    order = np.argsort(-np.take_along_axis(scores, chosen, axis=1), axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1)


def load(store: Store, reference: str) -> LoadedClassifier:
    """Load `classifier/NAME[@VERSION]` of the store.

    Raises `UsageError` for another kind of reference, `RaylevanceError` when there is none or it is damaged.
    """
    if not reference.startswith("classifier/"):
        raise UsageError(f"classifier {reference!r}: expected classifier/NAME or classifier/NAME@VERSION")
    folder = store.path(reference)
    if not (folder / LABELS).is_file():
        raise RaylevanceError(f"{reference}: has no {LABELS}, so it can't classify; name another classifier")
    return read_classifier(folder)


def read_classifier(folder: Path) -> LoadedClassifier:
    """Read what `save_classifier` wrote. Raises `RaylevanceError` if it can't be read."""
    with one_line_errors(str(folder), "query classifier"):
        space = LabelSpace.open(folder)
        arrays = safetensors.numpy.load_file(folder / LABELS)
        by_task = {
            task: TaskLabels(*(arrays[f"{number}.{part}"] for part in TaskLabels._fields))
            for number, task in enumerate(space.tasks)
        }
        read_encoder_settings(folder / ENCODER)
    return LoadedClassifier(folder / ENCODER, space, by_task)


def save_classifier(
    folder: Path,
    classifier: QueryClassifier,
    training_queries: Mapping[str, npt.NDArray[np.int64]],
    thresholds: Mapping[str, Vectors] | None = None,
) -> None:
    """Write what prediction needs of `classifier` to `folder`: its encoder, and the rows and the bias of its labels.

    `training_queries` counts, for each task, the training queries of each label that it predicts, [labels].
    `thresholds` are the probabilities from which labels count, [labels] of each task; None takes 0.5.
    """
    classifier.encoder.save(folder / ENCODER)
    classifier.space.save(folder)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for number, (task, (rows, bias)) in enumerate(
        zip(classifier.space.tasks, classifier.label_matrices(), strict=True)
    ):
        limits = np.full(len(bias), DEFAULT_THRESHOLD, np.float32) if thresholds is None else thresholds[task]
        labels = TaskLabels(rows, bias, limits.astype(np.float32), training_queries[task].astype(np.int64))
        arrays |= {f"{number}.{part}": np.ascontiguousarray(value) for part, value in labels._asdict().items()}
    safetensors.numpy.save_file(arrays, folder / LABELS)
