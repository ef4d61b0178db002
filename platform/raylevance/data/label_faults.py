"""What is wrong with a table of labels: ids that repeat, parents that are missing, cycles, and names that clash."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.normal_form import normal_form_column

Ints = npt.NDArray[np.int64]


class LabelFault(NamedTuple):
    """The label of a row, what is wrong with it, and what to do about it."""

    row: int
    reason: str
    cure: str


def label_faults(labels: pa.Table) -> list[LabelFault]:
    """Return the faults of `labels` that a `LabelSpace` refuses, by row: all of the first kind that there is.

    The kinds are in the order of the docstring of `LabelSpace`. Only the columns task, label_id, name and parent_id are
    read.
    """
    checks = (_split_tasks, _repeated_ids, _nameless, _missing_parents, _cycles, _same_names)
    return next((found for check in checks if (found := check(labels))), [])


def _split_tasks(labels: pa.Table) -> list[LabelFault]:
    tasks = labels["task"].to_pylist()
    begins = [row for row in range(len(tasks)) if row == 0 or tasks[row] != tasks[row - 1]]
    first: dict[str, int] = {}
    again = [row for row in begins if first.setdefault(tasks[row], row) != row]
    return [LabelFault(row, "its task begins a second time here", "sort the labels by task") for row in again]


def _repeated_ids(labels: pa.Table) -> list[LabelFault]:
    first: dict[tuple[str, str], int] = {}
    found: list[LabelFault] = []
    rows_of_file = labels["row"].to_pylist() if "row" in labels.column_names else [None] * len(labels)
    for row, key in enumerate(zip(labels["task"].to_pylist(), labels["label_id"].to_pylist(), strict=True)):
        if first.setdefault(key, row) != row:
            row_of_file = rows_of_file[first[key]]
            other = f"label {first[key] + 1}" if row_of_file is None else f"the label of row {row_of_file}"
            found.append(LabelFault(row, f"{other} has the same id", "remove one of them or give it another id"))
    return found


def _nameless(labels: pa.Table) -> list[LabelFault]:
    empty = pc.fill_null(pc.equal(normal_form_column(labels["name"]), ""), True)
    return [LabelFault(int(row), "its name has no text", "give it a name") for row in np.flatnonzero(empty.to_numpy())]


def _missing_parents(labels: pa.Table) -> list[LabelFault]:
    given = labels["parent_id"].to_pylist()
    missing = np.flatnonzero((parent_rows(labels) < 0) & labels["parent_id"].is_valid().to_numpy())
    return [
        LabelFault(
            int(row), f"no label has the id of its parent, {given[row]!r}", "add the parent, or leave parent_id empty"
        )
        for row in missing
    ]


def _cycles(labels: pa.Table) -> list[LabelFault]:
    """Every label reaches a root by going up, unless a cycle is above it; only the labels of a cycle are reported."""
    parents = parent_rows(labels)
    in_cycle = np.zeros(len(parents), bool)
    state = np.zeros(len(parents), np.int8)  # 1 on the way up from the present row, 2 done
    for row in range(len(parents)):
        way: list[int] = []
        here = row
        while here >= 0 and state[here] == 0:
            state[here] = 1
            way.append(here)
            here = int(parents[here])
        if here >= 0 and state[here] == 1:
            in_cycle[way[way.index(here) :]] = True
        state[way] = 2
    ids = labels["label_id"].to_pylist()
    return [
        LabelFault(
            int(row),
            f"it is above itself, through its parent {ids[parents[row]]!r}",
            "correct the parent_id of one of them",
        )
        for row in np.flatnonzero(in_cycle)
    ]


def _same_names(labels: pa.Table) -> list[LabelFault]:
    keys = zip(
        labels["task"].to_pylist(),
        parent_rows(labels).tolist(),
        normal_form_column(labels["name"]).to_pylist(),
        strict=True,
    )
    ids = labels["label_id"].to_pylist()
    first: dict[tuple[str, int, str], int] = {}
    found: list[LabelFault] = []
    for row, key in enumerate(keys):
        if first.setdefault(key, row) != row:
            reason = f"label {ids[first[key]]!r} has the same name and parent"
            found.append(LabelFault(row, reason, "make them one label or give them different names"))
    return found


def parent_rows(labels: pa.Table) -> Ints:
    """Return the row of each parent, -1 where there is none. Of labels with one id, the first is the parent."""
    tasks = labels["task"].to_pylist()
    row_of: dict[tuple[str, str], int] = {}
    for row, key in enumerate(zip(tasks, labels["label_id"].to_pylist(), strict=True)):
        row_of.setdefault(key, row)
    given = zip(tasks, labels["parent_id"].to_pylist(), strict=True)
    return np.array([row_of.get(key, -1) if key[1] is not None else -1 for key in given], np.int64)
