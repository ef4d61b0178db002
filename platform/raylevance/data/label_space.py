"""Label spaces of a query classifier: the labels of one or more tasks, their names, texts and tree.

Source: SSUF (arXiv 2506.21049), label-enhanced module: a label has a name, side text and a parent; leaves are
predicted, and parents are nodes of the label graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylevance.data.label_faults import label_faults, parent_rows
from raylevance.data.normal_form import clean, normal_form
from raylevance.data.words import words as words_of
from raylevance.errors import RaylevanceError, nearest, one_line

LABELS = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("label_id", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("parent_id", pa.string()),
        pa.field("text", pa.string(), nullable=False),
        pa.field("predicted", pa.bool_(), nullable=False),
    ]
)
"""Schema of labels. `parent_id` is the label_id of a label of the same task, null for a root; `text` is what an encoder
reads; `predicted` says whether a query can get the label, or whether it is only a node above others."""

FILE_NAME = "labels.parquet"
LEVEL = "\x1f"
"""Joins the names of a path where the result is not shown."""
NAME_WORDS = 16
"""How many words of a name, with the names above it, are in a label's text (our choice)."""
SIDE_WORDS = 32
"""How many words of side text `with_side_text` adds at most (our choice)."""

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class LabelSpace:
    """The labels of all tasks. The number of a label is its row in `labels`.

    The labels of a task are together, and the tasks are in the order of `labels`. Within a task, labels may be in any
    order.

    Raises `RaylevanceError` if a column or a value is missing, the labels of a task are in two places, an id is there
    twice in a task, a name has no text, a parent is not among the labels of the task, a label is above itself, or two
    labels below one parent have the same name (in any case and spacing).
    """

    labels: pa.Table
    """The labels, in the schema `LABELS`."""

    def __post_init__(self) -> None:
        missing = [name for name in LABELS.names if name not in self.labels.column_names]
        if missing:
            raise RaylevanceError(f"labels: no column {missing[0]!r}; {nearest(missing[0], self.labels.column_names)}")
        for field in LABELS:
            column = self.labels[field.name]
            if column.null_count and not field.nullable:
                row = int(np.flatnonzero(column.is_null().to_numpy())[0]) + 1
                raise RaylevanceError(f"labels: row {row} has no {field.name}; every label needs one")
        object.__setattr__(self, "labels", self.labels.select(LABELS.names).cast(LABELS).combine_chunks())
        fault = next(iter(label_faults(self.labels)), None)
        if fault is not None:
            task, label_id, name = (self.labels[column][fault.row].as_py() for column in ("task", "label_id", "name"))
            raise RaylevanceError(f"label {label_id!r} ({name!r}) of task {task!r}: {fault.reason}; {fault.cure}")

    def __len__(self) -> int:
        return int(self.labels.num_rows)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a label space from `folder`.

        Raises `RaylevanceError` if `folder` has no label space, or if its file can't be read.
        """
        file = folder / FILE_NAME
        if not file.is_file():
            raise RaylevanceError(f"{folder}: has no label space; expected {FILE_NAME}")
        try:
            return cls(pq.read_table(file))
        except (pa.ArrowException, OSError) as error:
            raise RaylevanceError(f"{file}: can't be read, it may be incomplete: {one_line(error)}") from None

    def save(self, folder: Path) -> None:
        """Write the label space to `folder`, which is made if it does not exist."""
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.labels, folder / FILE_NAME)

    @cached_property
    def tasks(self) -> list[str]:
        """The names of the tasks, in order."""
        return list(dict.fromkeys(self.labels["task"].to_pylist()))

    @cached_property
    def label_ids(self) -> list[str]:
        """The id of each label, [labels]. Two tasks may use the same id."""
        return list(self.labels["label_id"].to_pylist())

    @cached_property
    def parents(self) -> Ints:
        """The row of the parent of each label, int64 [labels], -1 for a root. See also `parents_within`."""
        return parent_rows(self.labels)

    @cached_property
    def predicted(self) -> Bools:
        """Whether each label is predicted, bool [labels]."""
        return np.asarray(self.labels["predicted"].to_numpy(), np.bool_)

    def rows(self, task: str) -> slice:
        """Return the rows of `task`. Raises `RaylevanceError` if there is no such task."""
        if task not in self.tasks:
            raise RaylevanceError(f"the labels have no task {task!r}; {nearest(task, self.tasks)}")
        found = np.flatnonzero(pc.equal(self.labels["task"], task).to_numpy())
        return slice(int(found[0]), int(found[-1]) + 1)

    def parents_within(self, task: str) -> Ints:
        """Return the parents of the labels of `task`, int64 [labels of the task], numbered from 0 within the task."""
        rows = self.rows(task)
        parents = self.parents[rows]
        return np.where(parents >= 0, parents - rows.start, -1)

    def path(self, row: int) -> list[str]:
        """Return the names from the root to the label of `row`."""
        path: list[str] = []
        while row >= 0:
            path.append(self._names[row])
            row = int(self.parents[row])
        return path[::-1]

    def row_on_path(self, task: str, path: Sequence[str]) -> int:
        """Return the row of the deepest predicted label of `task` on a path of names from the root, -1 if none is.

        Names are compared in any case and spacing, and empty ones are left out.
        """
        levels = [level for level in path if normal_form(level)]
        for depth in range(len(levels), 0, -1):
            row = self._row_of_path.get((task, name_key(levels[:depth])), -1)
            if row >= 0 and self.predicted[row]:
                return row
        return -1

    @cached_property
    def _row_of_path(self) -> dict[tuple[str, str], int]:
        tasks = self.labels["task"].to_pylist()
        return {(task, name_key(self.path(row))): row for row, task in enumerate(tasks)}

    @cached_property
    def _names(self) -> list[str]:
        return list(self.labels["name"].to_pylist())


def label_text(path: Sequence[str], most: int = NAME_WORDS) -> str:
    """Return the text of a label without side text: the names from the root to the label, joined by spaces.

    If they have more than `most` words, names are left out from the root on, and at last the label's own name is cut.
    """
    names = [" ".join(clean(name).split()) for name in path]
    while len(names) > 1 and sum(len(name.split()) for name in names) > most:
        names = names[1:]
    return " ".join(" ".join(names).split()[:most])


def with_side_text(labels: pa.Table, words: Sequence[Sequence[str]], most: int = SIDE_WORDS) -> pa.Table:
    """Return `labels` with side text after the text of each label.

    `words` [labels] has the words, queries or sentences of each label, the best first. One that adds no word to the
    text is left out, and so is all that comes after `most` words. Call it once for each kind of side text.

    Source: SSUF (arXiv 2506.21049), label-enhanced module: product words, frequent search terms, descriptions.
    """
    assert len(words) == labels.num_rows, f"side text of {len(words)} labels for {labels.num_rows} labels"
    texts = [_extended(text, side, most) for text, side in zip(labels["text"].to_pylist(), words, strict=True)]
    return labels.set_column(labels.column_names.index("text"), LABELS.field("text"), pa.array(texts, pa.string()))


def _extended(text: str, side: Sequence[str], most: int) -> str:
    added: list[str] = []
    said = set(words_of(text))
    for part in side:
        new = set(words_of(part))
        if not new <= said:
            said |= new
            added += clean(part).split()
        if len(added) >= most:
            break
    return " ".join([text, *added[:most]])


def name_key(path: Sequence[str]) -> str:
    """Return what is equal for paths whose names differ by case and spacing alone."""
    return LEVEL.join(normal_form(name) for name in path)
