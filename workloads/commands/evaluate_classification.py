"""Evaluate a query classifier on a file of queries with their labels."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.artifacts import Store
from raylevance.data.labelled_queries import places_of_labels, read_labelled_queries
from raylevance.data.normal_form import normal_form
from raylevance.errors import RaylevanceError, UsageError, first_quoted, nearest
from raylevance.evaluation.classification_metrics import (
    Labels,
    Predictions,
    confusion_by_parent,
    evaluate_predictions,
    join_predictions,
    label_matrix,
    predictions_of,
    top_label_calibration,
)
from raylevance.inference.query_classifier import LoadedClassifier
from raylevance.inference.query_classifier import load as load_classifier
from raylevance.progress import progress_bar, status

PROBABILITIES_AT_ONCE = 20_000_000
"""How many probabilities are in memory at once: 80 MB."""
MOST_QUERIES_AT_ONCE = 8192
CONFUSIONS = 10
UNKNOWN = "(unknown to the classifier)"
"""The parent that `confusion` gives for labels that the classifier does not know."""


def evaluate_classification(classifier: str, store: str, file: Path, task: str | None) -> dict[str, Any]:
    """Return the metrics of `classifier` on the queries of `file`, which has the columns query and labels.

    `labels` are lists of label ids, such as "Home > Kitchen" for a category. An id in another case or spacing is the
    same. A label that the classifier does not predict for `task` counts as missed; these are counted as
    `unknown_labels` and named in a status line. Rows without labels are left out, counted as `queries_without_labels`
    and named. The other metrics are those of `evaluate_predictions`, the calibration error `ece`, and:

    - `right_parent`: the share of queries whose best label has the parent of one of theirs. A root is its own parent.
    - `confusion`: the commonest pairs of a true and another predicted parent, with their queries.

    Raises `UsageError` for an unknown task, `RaylevanceError` if a query has no text, if labels are null or no lists,
    or if the classifier knows none of them.
    """
    loaded = load_classifier(Store(store), classifier)
    task = chosen_task(loaded, task)
    rows = read_labelled_queries(file)
    known = loaded.labels(task)
    truth = _match(rows.labels, known, f"{file}: task {task!r} of {classifier}")
    predictions = join_predictions(_predictions(loaded, task, rows.queries.to_pylist()))
    metrics = evaluate_predictions(predictions, truth.matrix, loaded.training_queries(task))
    outcome = {"queries": metrics.pop("queries"), "classifier": classifier, "task": task, **metrics}
    outcome["ece"] = top_label_calibration(predictions, truth.matrix)["ece"]
    outcome |= _confusion(predictions, truth.matrix, loaded, task)
    return outcome | {"unknown_labels": truth.unknown, "queries_without_labels": rows.without_labels}


def chosen_task(classifier: LoadedClassifier, task: str | None) -> str:
    """Return `task`, or the classifier's first for None. Raises `UsageError` if the classifier has no such task."""
    tasks = classifier.space.tasks
    if task is not None and task not in tasks:
        raise UsageError(f"--task {task}: the classifier has no such task; {nearest(task, tasks)}")
    return tasks[0] if task is None else task


class _Truth(NamedTuple):
    matrix: Labels
    """The labels that the classifier knows come first, then those that it does not."""
    unknown: int


def _match(labels: pa.Array, known: Sequence[str], where: str) -> _Truth:
    """Return in which columns the labels are, as `places_of_labels` finds them; each unknown one has its own."""
    encoded = labels.values.dictionary_encode()
    ids = encoded.dictionary.to_pylist()
    columns = places_of_labels(ids, known)
    unknown: dict[str, tuple[int, str]] = {}
    for place in np.flatnonzero(columns < 0):
        label = ids[place]
        columns[place], _ = unknown.setdefault(normal_form(label), (len(known) + len(unknown), label))
    if columns.min() >= len(known):
        raise RaylevanceError(
            f"{where} predicts none of the labels of the file, only such as {known[0]!r}; check --task"
        )
    if unknown:
        _name_unknown(where, [label for _, label in unknown.values()])
    rows = pa.ListArray.from_arrays(labels.offsets, pa.array(columns[encoded.indices.to_numpy()]))
    return _Truth(label_matrix(rows, len(known) + len(unknown)), len(unknown))


def _name_unknown(where: str, labels: Sequence[str]) -> None:
    count = "1 label" if len(labels) == 1 else f"{len(labels)} labels"
    status(f"{where} does not predict {count}, which count as missed: {first_quoted(labels)}")


def _predictions(classifier: LoadedClassifier, task: str, queries: Sequence[str]) -> Iterator[Predictions]:
    thresholds = classifier.thresholds(task)
    rows = max(1, min(MOST_QUERIES_AT_ONCE, PROBABILITIES_AT_ONCE // len(thresholds)))
    with progress_bar("classifying", "queries", len(queries)) as bar:
        for start in range(0, len(queries), rows):
            block = queries[start : start + rows]
            yield predictions_of(classifier.probabilities(block, task), thresholds)
            bar.advance(len(block))


def _confusion(predictions: Predictions, truth: Labels, classifier: LoadedClassifier, task: str) -> dict[str, Any]:
    space, rows = classifier.space, classifier.space.rows(task)
    predicted = rows.start + np.flatnonzero(space.predicted[rows])
    parents = np.where(space.parents[predicted] >= 0, space.parents[predicted], predicted)
    names = [*(space.label_ids[row] for row in range(rows.start, rows.stop)), UNKNOWN]
    unknown = np.full(truth.shape[1] - len(predicted), len(names) - 1, np.int64)
    numbers: npt.NDArray[np.int64] = np.concatenate([parents - rows.start, unknown])
    cells = confusion_by_parent(predictions, truth, numbers).tocoo()
    right = cells.row == cells.col
    order = np.lexsort((cells.col, cells.row, -cells.data))
    wrong = [cell for cell in order if not right[cell]][:CONFUSIONS]
    pairs = [
        {"parent": names[row], "predicted": names[column], "queries": round(float(queries), 2)}
        for row, column, queries in zip(cells.row[wrong], cells.col[wrong], cells.data[wrong], strict=True)
    ]
    return {"right_parent": float(cells.data[right].sum() / truth.shape[0]), "confusion": pairs}
