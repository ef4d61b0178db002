"""Labelled queries in a token file."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.data.label_space import LabelSpace
from raylevance.errors import RaylevanceError
from raylevance.training.token_file import Ints, Tokens
from raylevance.training.token_table import TokenTable

SCHEMA = pa.schema(
    {
        "query": pa.list_(pa.int32()),
        "labels": pa.list_(pa.int32()),
        "targets": pa.list_(pa.float32()),
        "weight": pa.float32(),
        "knowledge": pa.list_(pa.list_(pa.int32())),
    }
)


class TokenisedQueries:
    """The n labelled queries of a token file.

    Held in memory, each [n]: `weights` float32, `tasks` int64 (the number of the task of the query's labels) and
    `lengths` int32 (tokens of the query).
    """

    def __init__(self, file: Path, space: LabelSpace) -> None:
        """Map a file that `write_tokens` wrote with `LABELLED_QUERIES` into memory.

        Raises `RaylevanceError` if a query has labels that are not in `space` or of two tasks, or that none predicts.
        """
        table = TokenTable(file)
        self._queries, self._knowledge = table.lists("query"), table.nested_lists("knowledge")
        self._labels, self._targets = table.lists("labels"), table.lists("targets")
        self.weights: npt.NDArray[np.float32] = table.numbers("weight")
        self.lengths = self._queries.lengths
        self.tasks, self._columns = self._checked_labels(space)
        self.widths = [int(space.predicted[space.rows(task)].sum()) for task in space.tasks]

    def _checked_labels(self, space: LabelSpace) -> tuple[Ints, Ints]:
        """Return the task of each query, [n], and of each label its column among those its task predicts, or -1."""
        task_of_label, column = np.empty(len(space), np.int64), np.full(len(space), -1)
        for number, task in enumerate(space.tasks):
            rows = np.arange(len(space))[space.rows(task)]
            task_of_label[rows] = number
            predicted = rows[space.predicted[rows]]
            column[predicted] = np.arange(len(predicted))
        labels, lengths = self._labels.flattened(), self._labels.lengths
        outside = (labels < 0) | (labels >= len(space))
        if outside.any():
            raise RaylevanceError(f"{self._fault(outside)} has label {labels[outside][0]}, of {len(space)} labels")
        starts = np.cumsum(lengths) - lengths
        tasks = task_of_label[labels[starts]]
        mixed = task_of_label[labels] != np.repeat(tasks, lengths)
        if mixed.any():
            raise RaylevanceError(f"{self._fault(mixed)} has labels of two tasks; give each task a row of its own")
        if (node := column[labels] < 0).any():
            name = space.label_ids[int(labels[node][0])]
            raise RaylevanceError(f"{self._fault(node)} has the label {name!r}, which is not predicted")
        return tasks, column

    def _fault(self, faulty: npt.NDArray[np.bool_]) -> str:
        row = int(np.repeat(np.arange(len(self._labels.lengths)), self._labels.lengths)[faulty][0])
        return f"labelled queries: row {row}"

    def tokens(self, row: int) -> Tokens:
        """Return the tokens of a query."""
        return self._queries[row]

    def knowledge(self, row: int) -> list[Tokens]:
        """Return the tokens of each text that is known about a query."""
        return self._knowledge[row]

    def targets(self, rows: Ints) -> npt.NDArray[np.float32]:
        """Return the targets y_click, float32 [rows, predicted labels], of queries of one task."""
        dense = np.zeros((len(rows), self.widths[self.tasks[rows[0]]]), np.float32)
        for index, row in enumerate(rows):
            dense[index, self._columns[self._labels[row]]] = self._targets[row]
        return dense
