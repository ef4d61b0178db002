"""Read labels from files of labels with parents, such as a shop's category tree or a list of intents."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.checked_rows import first_faults, named_faults
from raylevance.data.conversions import ID, TEXT, Kind
from raylevance.data.label_faults import label_faults
from raylevance.data.label_space import LABELS, LabelSpace, label_text, with_side_text
from raylevance.data.product_labels import CATEGORY
from raylevance.data.single_values import id_of
from raylevance.data.whole_table import read_table
from raylevance.errors import RaylevanceError
from raylevance.progress import status

LEFT_OUT = pa.schema(
    {"row": pa.int64(), "task": pa.string(), "label_id": pa.string(), "name": pa.string(), "reason": pa.string()}
)
"""Schema of labels that were left out. `row` is the row of the file, null for a label that only paths name."""

WRITTEN = ("task", "label_id", "name", "parent_id")
"""The columns of `LABELS` that a file has itself."""
NO_FAULT = pa.scalar(None, pa.string())


def read_labels(file: Path) -> pa.Table:
    """Return the labels in `file`, in the schema `LABELS`. Labels without a label below them are predicted.

    The file is of any kind that can be imported and has the columns

    - label_id, or id,
    - name,
    - parent_id, empty for a root; or path, the list of {id, name} from the root to the label, as in Best Buy's
      categories. Labels that only paths name are labels too, after those of the rows,
    - task, "category" where there is no such column,
    - side_text, which may be missing: more text about the label for the encoder.

    Raises `RaylevanceError` with the row of the file for a value that can't be read, a missing id or task, or what
    `LabelSpace` refuses.
    """
    found = _read(file)
    for bad in _bad_rows(found).slice(0, 1).to_pylist():
        where = f"row {bad['row']}: " if bad["row"] is not None else ""
        raise RaylevanceError(
            f"{file}: {where}label {bad['label_id']!r} ({bad['name']!r}) of task {bad['task']!r}: {bad['reason']}"
        )
    return _labels(found)


def read_good_labels(file: Path) -> tuple[pa.Table, pa.Table]:
    """Return the labels that `read_labels` would accept, and in the schema `LEFT_OUT` the others with their reasons.

    A label whose parent is left out is left out too. Of labels with one id, or with one name below one parent, the
    first is kept.

    Raises `RaylevanceError` if no label is left, or if the file can't be read as `read_labels` says.
    """
    found, left_out, gone = _read(file), [LEFT_OUT.empty_table()], set[tuple[str, str]]()
    while (bad := _bad_rows(found, gone)).num_rows:
        left_out.append(bad.select(LEFT_OUT.names).cast(LEFT_OUT))
        gone.update(zip(bad["task"].to_pylist(), bad["label_id"].to_pylist(), strict=True))
        good = np.ones(found.num_rows, bool)
        good[bad["place"].to_numpy()] = False
        found = found.filter(pa.array(good))
    if not found.num_rows:
        raise RaylevanceError(f"{file}: no label is good; the first: {left_out[1]['reason'][0].as_py()}")
    return _labels(found), pa.concat_tables(left_out)


def _read(file: Path) -> pa.Table:
    """Return the labels in `file`, those of a task together, with their rows, side texts and faults of values."""
    rows = read_table(file)
    names = rows.column_names
    id_column = "label_id" if "label_id" in names else "id"
    for name in (id_column, "name"):
        if name not in names:
            raise RaylevanceError(f"{file}: no column {name!r}; labels have label_id, name, and parent_id or path")
    columns: dict[str, pa.Array] = {}
    faults = pa.nulls(rows.num_rows, pa.string())
    kinds = {"task": TEXT, "label_id": ID, "name": TEXT, "parent_id": ID, "side_text": TEXT}
    for name, kind in kinds.items():
        source = id_column if name == "label_id" else name
        columns[name], reasons = _converted(rows, source, kind)
        faults = first_faults(faults, named_faults(source, reasons))
    if "task" not in names:
        columns["task"] = pa.repeat(pa.scalar(CATEGORY), rows.num_rows)
    for name in ("task", "label_id"):
        faults = first_faults(faults, pc.if_else(columns[name].is_null(), f"{name} is missing", NO_FAULT))
    found = pa.table({**columns, "row": np.arange(1, rows.num_rows + 1), "fault": faults})
    read = {*kinds, id_column, "path"}
    if unread := [name for name in names if name not in read]:
        status(f"{file}: columns not read: {', '.join(unread)}")
    if "parent_id" not in names and "path" in names:
        found = _with_paths(found, rows["path"].to_pylist())
    # A label's number is its row, and those of a task are together.
    tasks = found["task"].combine_chunks().dictionary_encode()
    order = np.argsort(pc.fill_null(tasks.indices, len(tasks.dictionary)).to_numpy(), kind="stable")
    return found.take(pa.array(order))


def _converted(rows: pa.Table, name: str, kind: Kind) -> tuple[pa.Array, pa.Array]:
    if name not in rows.column_names:
        return pa.nulls(rows.num_rows, kind.type), pa.nulls(rows.num_rows, pa.string())
    values, faults = kind.convert(rows[name])
    return values, faults


def _with_paths(found: pa.Table, paths: list[Any]) -> pa.Table:
    """Return `found` with the parents that `paths` name, and with the labels that only paths name."""
    keys = list(zip(found["task"].to_pylist(), found["label_id"].to_pylist(), strict=True))
    known = set(keys)
    parents: list[str | None] = []
    faults: list[str | None] = []
    more: dict[tuple[str, str], dict[str, str | None]] = {}
    for (task, label_id), path in zip(keys, paths, strict=True):
        nodes = [{**node, "id": _id_in_path(node)} for node in path or [] if isinstance(node, dict)]
        nodes = [node for node in nodes if node["id"]]
        ids = [None, *(node["id"] for node in nodes)]
        good = len(nodes) == len(path or []) and label_id is not None and ids[-1] == label_id
        faults.append(None if good else "path is not a list of objects with id and name that ends in the label")
        parents.append(ids[-2] if good else None)
        for node, parent in zip(nodes[:-1] if good else [], ids, strict=False):
            if (key := (task, node["id"])) not in known:
                more.setdefault(key, dict(zip(WRITTEN, (*key, node.get("name"), parent), strict=True)))
    own = {name: found[name] for name in found.column_names} | {"parent_id": pa.array(parents, pa.string())}
    own["fault"] = first_faults(found["fault"].combine_chunks(), pa.array(faults, pa.string()))
    return pa.concat_tables([pa.table(own), pa.Table.from_pylist(list(more.values()), found.schema)])


def _id_in_path(node: dict[str, Any]) -> str | None:
    try:
        return id_of(node.get("id"))
    except ValueError:
        return None


def _bad_rows(found: pa.Table, left_out: Collection[tuple[str, str]] = ()) -> pa.Table:
    """Return the places and the columns of `LEFT_OUT` of the rows with the first kind of fault that there is.

    `left_out` has the task and id of each label that was left out before.
    """
    places = np.flatnonzero(found["fault"].is_valid().to_numpy())
    reasons = found["fault"].take(pa.array(places)).to_pylist()
    if not len(places):
        faults = label_faults(found)
        places = np.array([fault.row for fault in faults], np.int64)
        reasons = [f"{fault.reason}; {fault.cure}" for fault in faults]
    rows = found.take(pa.array(places, pa.int64()))
    for place, parent in enumerate(zip(rows["task"].to_pylist(), rows["parent_id"].to_pylist(), strict=True)):
        if parent in left_out:
            reasons[place] = f"its parent {parent[1]!r} is left out"
    named = rows.select(["row", "task", "label_id", "name"])
    return named.append_column("reason", pa.array(reasons, pa.string())).append_column("place", pa.array(places))


def _labels(found: pa.Table) -> pa.Table:
    """Return good labels in the schema `LABELS`."""
    columns = {name: found[name] for name in WRITTEN}
    unread = {"text": pa.repeat("", found.num_rows), "predicted": pa.repeat(True, found.num_rows)}
    space = LabelSpace(pa.table(columns | unread))
    predicted = np.ones(len(space), bool)
    predicted[space.parents[space.parents >= 0]] = False
    texts = [label_text(space.path(row)) for row in range(len(space))]
    labels = pa.table(columns | {"text": texts, "predicted": predicted}).select(LABELS.names).cast(LABELS)
    return with_side_text(labels, [[text] if text else [] for text in found["side_text"].to_pylist()])
