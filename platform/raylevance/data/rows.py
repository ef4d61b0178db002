"""Rows on their way in: typed to a table's schema, with the file and row they came from and what is wrong with them.

A row is a table's columns (all nullable here) and four more: FILE, ROW (1 is the first row of data in the file), FAULT
(null for a good row) and RAW (the values of a bad row, as JSON).
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.schema import ACTIONS, GRADES, TABLES

MISFIT = (pa.ArrowInvalid, pa.ArrowNotImplementedError)
"""What a cast raises for a value that its type can't hold."""

FILE, ROW, FAULT, RAW = "_file", "_row", "_fault", "_raw"
PROVENANCE = [
    pa.field(FILE, pa.string()),
    pa.field(ROW, pa.int64()),
    pa.field(FAULT, pa.string()),
    pa.field(RAW, pa.string()),
]


def row_schema(table: str) -> pa.Schema:
    """The schema of `table`'s rows on their way in."""
    return pa.schema([field.with_nullable(True) for field in TABLES[table]] + PROVENANCE)


def conform(rows: pa.Table, table: str) -> pa.Table:
    """Type `rows` to `table`'s schema and mark the first fault of each.

    `rows` has FILE and ROW, may have FAULT (what the reader already found wrong) and RAW, and any of the table's
    columns in any type; those that are absent become null. Returns a table of `row_schema(table)`, same length.
    """
    faults = _column(rows, FAULT, pa.string())
    columns: dict[str, pa.Array] = {}
    for field in TABLES[table]:
        values, misfit = _typed(_column(rows, field.name, field.type), field.type)
        if pa.types.is_list(field.type):
            values = _without_empty(values)
        faults = _mark(faults, misfit, f"{field.name} is not of type {field.type}")
        if not field.nullable:
            faults = _mark(faults, _absent(values), f"{field.name} is missing")
        columns[field.name] = values
    for name, allowed, reason in _domains(columns):
        faults = _mark(faults, pc.and_(pc.is_valid(columns[name]), pc.invert(pc.fill_null(allowed, False))), reason)
    values = [name for name in rows.column_names if name not in (FILE, ROW, FAULT)]
    raw = _column(rows, RAW, pa.string()) if RAW in values else _raw(rows.select(values), faults)
    columns |= {FILE: rows[FILE], ROW: rows[ROW], FAULT: faults, RAW: raw}
    return pa.table(columns, schema=row_schema(table))


def with_fault(rows: pa.Table, bad: pa.Array, reason: str) -> pa.Table:
    """Mark the rows where the boolean `bad` holds with `reason`, but for those that have a fault already."""
    faults = _mark(_column(rows, FAULT, pa.string()), bad, reason)
    raw = _raw(rows.drop_columns([FILE, ROW, FAULT, RAW]), faults)
    columns = {name: rows[name] for name in rows.column_names}
    return pa.table(columns | {FAULT: faults, RAW: pc.coalesce(_one(rows[RAW]), raw)}, schema=rows.schema)


def grades_of(labels: pa.ChunkedArray, grades: Mapping[str, int]) -> tuple[pa.Array, pa.Array]:
    """The grade of each label (null where it has none), and the fault of a label that is not in `grades`."""
    names = pa.array(list(grades), pa.string())
    positions = pc.index_in(_one(labels).cast(pa.string()), names)
    grade = pc.take(pa.array(list(grades.values()), pa.int8()), positions)
    return grade, _mark(pa.nulls(len(labels), pa.string()), grade.is_null(), f"label is not one of {', '.join(grades)}")


def _domains(columns: dict[str, pa.Array]) -> Iterable[tuple[str, pa.Array, str]]:
    """For each column with a closed range: its name, where it is inside, and the reason when it is not."""
    if "grade" in columns:
        yield "grade", pc.is_in(columns["grade"], pa.array(GRADES, pa.int8())), "grade is not 0, 1 or 2"
    if "confidence" in columns:
        confidence = columns["confidence"]
        inside = pc.and_(pc.greater_equal(confidence, 0.0), pc.less_equal(confidence, 1.0))
        yield "confidence", inside, "confidence is not between 0 and 1"
    if "position" in columns:
        yield "position", pc.greater_equal(columns["position"], 0), "position is negative"
    if "action" in columns:
        yield "action", pc.is_in(columns["action"], pa.array(ACTIONS)), f"action is not one of {', '.join(ACTIONS)}"


def _column(rows: pa.Table, name: str, kind: pa.DataType) -> pa.Array:
    return _one(rows[name]) if name in rows.column_names else pa.nulls(rows.num_rows, kind)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()


def _mark(faults: pa.Array, bad: pa.Array, reason: str) -> pa.Array:
    if not pc.any(bad, min_count=0).as_py():
        return faults
    return pc.coalesce(faults, pc.if_else(bad, reason, pa.scalar(None, pa.string())))


def _absent(values: pa.Array) -> pa.Array:
    missing = values.is_null()
    if pa.types.is_string(values.type):
        return pc.or_(missing, pc.fill_null(pc.equal(pc.utf8_trim_whitespace(values), ""), True))
    return missing


def _typed(values: pa.Array, kind: pa.DataType) -> tuple[pa.Array, pa.Array]:
    """`values` as `kind`, and where that was not possible (null there). Only a batch with a misfit pays for a loop."""
    known = _instants(values) if pa.types.is_timestamp(kind) else values
    try:
        typed = known.cast(kind)
    except MISFIT:
        cast = [_scalar(value, kind) for value in known]
        typed = pa.array([None if value is None else value.as_py() for value in cast], kind)
    return typed, pc.and_(typed.is_null(), values.is_valid())


def _without_empty(lists: pa.Array) -> pa.Array:
    """Without the null and empty strings in `lists`; null where nothing else is left. Sparse columns leave such."""
    flat = lists.flatten()
    if not pc.any(pc.fill_null(pc.equal(flat, ""), True), min_count=0).as_py():
        return lists
    kept = [values and ([value for value in values if value] or None) for values in lists.to_pylist()]
    return pa.array(kept, lists.type)


FIRST_INSTANT = 631_152_000_000
"""The year 1990 in milliseconds: a smaller number counts seconds, or is no time."""


def _instants(values: pa.Array) -> pa.Array:
    """Times in UTC, cut to the millisecond; null for what is none. A number counts milliseconds since 1970.

    A time without a zone is one of UTC.
    """
    kind = values.type
    if pa.types.is_integer(kind):
        milliseconds = values.cast(pa.int64())
        since = pc.if_else(pc.greater_equal(milliseconds, FIRST_INSTANT), milliseconds, pa.scalar(None, pa.int64()))
        return since.cast(pa.timestamp("ms", "UTC"))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        text = pc.replace_substring_regex(values, r"(\.\d{6})\d+", r"\1")
        text = pc.replace_substring_regex(text, r"^(\d{4}-\d\d-\d\d)$", r"\1 00:00:00")
        zoned = pc.match_substring_regex(text, r"(Z|[+-]\d\d:?\d\d)$")
        text = pc.if_else(zoned, text, pc.binary_join_element_wise(text, pa.scalar("Z", kind), pa.scalar("", kind)))
        exact = pa.timestamp("us", "UTC")
        try:
            values = text.cast(exact)
        except MISFIT:
            found = [_scalar(value, exact) for value in text]
            values = pa.array([None if time is None else time.as_py() for time in found], exact)
    elif not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return pa.nulls(len(values))
    if getattr(values.type, "tz", None) is None:
        values = pc.assume_timezone(values.cast(pa.timestamp("us")), "UTC")
    return values.cast(pa.timestamp("ms", "UTC"), safe=False)


def _scalar(value: pa.Scalar, kind: pa.DataType) -> pa.Scalar | None:
    try:
        return value.cast(kind)
    except MISFIT:
        return None


def _raw(values: pa.Table, faults: pa.Array) -> pa.Array:
    """The values of each bad row as JSON, null for a good row."""
    if faults.null_count == len(faults):
        return pa.nulls(len(faults), pa.string())
    bad = np.flatnonzero(faults.is_valid().to_numpy(zero_copy_only=False))
    texts: list[str | None] = [None] * len(faults)
    for index, row in zip(bad, values.take(bad).to_pylist(), strict=True):
        texts[index] = _json(row)
    return pa.array(texts, pa.string())


def _json(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, default=str)
