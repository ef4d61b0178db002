"""Rows that are being imported: typed to a table's schema, with their origin and what is wrong with them.

Such a row has the columns of its table, all nullable, and four more:

- `FILE` and `ROW`: the file and the row in it; row 1 is the first row of data.
- `FAULT`: the reason why the row is bad; null for a good row.
- `RAW`: the values of a bad row as JSON; null for a good row.
"""

import json
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.schema import ACTIONS, GRADES, TABLES

CAST_ERRORS = (pa.ArrowInvalid, pa.ArrowNotImplementedError)
"""Raised by a cast of a value that the new type can't hold."""

FILE, ROW, FAULT, RAW = "_file", "_row", "_fault", "_raw"
PROVENANCE = [
    pa.field(FILE, pa.string()),
    pa.field(ROW, pa.int64()),
    pa.field(FAULT, pa.string()),
    pa.field(RAW, pa.string()),
]


def row_schema(table: str) -> pa.Schema:
    """Return the schema of the rows that are imported into `table`."""
    return pa.schema([field.with_nullable(True) for field in TABLES[table]] + PROVENANCE)


def conform_to_schema(rows: pa.Table, table: str) -> pa.Table:
    """Cast `rows` to the schema of `table` and mark the first fault of each row.

    `rows` has the columns FILE and ROW, and may have FAULT (what the reader found wrong) and RAW. It has any of the
    columns of the table, in any type; missing columns are filled with null. Returns a table of the same length in the
    schema `row_schema(table)`.
    """
    faults = _column(rows, FAULT, pa.string())
    columns: dict[str, pa.Array] = {}
    for field in TABLES[table]:
        values, misfit = _cast(_column(rows, field.name, field.type), field.type)
        if pa.types.is_list(field.type):
            values = _without_empty_strings(values)
        faults = _mark(faults, misfit, f"{field.name} is not of type {field.type}")
        if not field.nullable:
            faults = _mark(faults, _is_missing(values), f"{field.name} is missing")
        columns[field.name] = values
    for name, allowed, reason in _range_checks(columns):
        faults = _mark(faults, pc.and_(pc.is_valid(columns[name]), pc.invert(pc.fill_null(allowed, False))), reason)
    values = [name for name in rows.column_names if name not in (FILE, ROW, FAULT)]
    raw = _column(rows, RAW, pa.string()) if RAW in values else _raw_values(rows.select(values), faults)
    columns |= {FILE: rows[FILE], ROW: rows[ROW], FAULT: faults, RAW: raw}
    return pa.table(columns, schema=row_schema(table))


def with_fault(rows: pa.Table, bad: pa.Array, reason: str) -> pa.Table:
    """Give the rows where the boolean array `bad` is true the fault `reason`. Rows with a fault keep theirs."""
    faults = _mark(_column(rows, FAULT, pa.string()), bad, reason)
    raw = _raw_values(rows.drop_columns([FILE, ROW, FAULT, RAW]), faults)
    columns = {name: rows[name] for name in rows.column_names}
    return pa.table(columns | {FAULT: faults, RAW: pc.coalesce(_one_chunk(rows[RAW]), raw)}, schema=rows.schema)


def grades_from_labels(labels: pa.ChunkedArray, grades: Mapping[str, int]) -> tuple[pa.Array, pa.Array]:
    """Return the grade of each label, int8 [n], and the fault of each label that is not in `grades`, string [n].

    Grades are null for unknown labels, and faults are null for known ones.
    """
    names = pa.array(list(grades), pa.string())
    positions = pc.index_in(_one_chunk(labels).cast(pa.string()), names)
    grade = pc.take(pa.array(list(grades.values()), pa.int8()), positions)
    return grade, _mark(pa.nulls(len(labels), pa.string()), grade.is_null(), f"label is not one of {', '.join(grades)}")


def _range_checks(columns: dict[str, pa.Array]) -> Iterable[tuple[str, pa.Array, str]]:
    """Yield, for each column with a limited range: its name, where its values are allowed, and the fault if not."""
    if "grade" in columns:
        yield "grade", pc.is_in(columns["grade"], pa.array(GRADES, pa.int8())), "grade is not 0, 1 or 2"
    if "confidence" in columns:
        confidence = columns["confidence"]
        allowed = pc.and_(pc.greater_equal(confidence, 0.0), pc.less_equal(confidence, 1.0))
        yield "confidence", allowed, "confidence is not between 0 and 1"
    if "position" in columns:
        yield "position", pc.greater_equal(columns["position"], 0), "position is negative"
    if "action" in columns:
        yield "action", pc.is_in(columns["action"], pa.array(ACTIONS)), f"action is not one of {', '.join(ACTIONS)}"


def _column(rows: pa.Table, name: str, kind: pa.DataType) -> pa.Array:
    return _one_chunk(rows[name]) if name in rows.column_names else pa.nulls(rows.num_rows, kind)


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()


def _mark(faults: pa.Array, bad: pa.Array, reason: str) -> pa.Array:
    if not pc.any(bad, min_count=0).as_py():
        return faults
    return pc.coalesce(faults, pc.if_else(bad, reason, pa.scalar(None, pa.string())))


def _is_missing(values: pa.Array) -> pa.Array:
    missing = values.is_null()
    if pa.types.is_string(values.type):
        return pc.or_(missing, pc.fill_null(pc.equal(pc.utf8_trim_whitespace(values), ""), True))
    return missing


def _cast(values: pa.Array, kind: pa.DataType) -> tuple[pa.Array, pa.Array]:
    """Return `values` as type `kind`, null where that is impossible, and a boolean array of where it is impossible.

    Values are cast one by one only if the cast of the whole array fails.
    """
    known = _timestamps(values) if pa.types.is_timestamp(kind) else values
    try:
        cast = known.cast(kind)
    except CAST_ERRORS:
        scalars = [_cast_scalar(value, kind) for value in known]
        cast = pa.array([None if scalar is None else scalar.as_py() for scalar in scalars], kind)
    return cast, pc.and_(cast.is_null(), values.is_valid())


def _without_empty_strings(lists: pa.Array) -> pa.Array:
    """Remove null and empty strings from `lists`; a list without any other string becomes null."""
    flat = lists.flatten()
    if not pc.any(pc.fill_null(pc.equal(flat, ""), True), min_count=0).as_py():
        return lists
    filled = [values and ([value for value in values if value] or None) for values in lists.to_pylist()]
    return pa.array(filled, lists.type)


FIRST_TIMESTAMP = 631_152_000_000
"""The start of the year 1990 in milliseconds. A smaller number counts seconds, or is not a time."""


def _timestamps(values: pa.Array) -> pa.Array:
    """Return `values` as times in UTC, cut to the millisecond; null for a value that is not a time.

    Numbers count milliseconds since 1970. A time without a time zone is read as UTC.
    """
    kind = values.type
    if pa.types.is_integer(kind):
        milliseconds = values.cast(pa.int64())
        since = pc.if_else(pc.greater_equal(milliseconds, FIRST_TIMESTAMP), milliseconds, pa.scalar(None, pa.int64()))
        return since.cast(pa.timestamp("ms", "UTC"))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        text = pc.replace_substring_regex(values, r"(\.\d{6})\d+", r"\1")
        text = pc.replace_substring_regex(text, r"^(\d{4}-\d\d-\d\d)$", r"\1 00:00:00")
        has_zone = pc.match_substring_regex(text, r"(Z|[+-]\d\d:?\d\d)$")
        text = pc.if_else(has_zone, text, pc.binary_join_element_wise(text, pa.scalar("Z", kind), pa.scalar("", kind)))
        exact = pa.timestamp("us", "UTC")
        try:
            values = text.cast(exact)
        except CAST_ERRORS:
            scalars = [_cast_scalar(value, exact) for value in text]
            values = pa.array([None if scalar is None else scalar.as_py() for scalar in scalars], exact)
    elif not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return pa.nulls(len(values))
    if getattr(values.type, "tz", None) is None:
        values = pc.assume_timezone(values.cast(pa.timestamp("us")), "UTC")
    return values.cast(pa.timestamp("ms", "UTC"), safe=False)


def _cast_scalar(value: pa.Scalar, kind: pa.DataType) -> pa.Scalar | None:
    try:
        return value.cast(kind)
    except CAST_ERRORS:
        return None


def _raw_values(values: pa.Table, faults: pa.Array) -> pa.Array:
    """Return the values of each bad row as JSON, and null for a good row."""
    if faults.null_count == len(faults):
        return pa.nulls(len(faults), pa.string())
    bad = np.flatnonzero(faults.is_valid().to_numpy(zero_copy_only=False))
    texts: list[str | None] = [None] * len(faults)
    for index, row in zip(bad, values.take(bad).to_pylist(), strict=True):
        texts[index] = json.dumps(row, ensure_ascii=False, default=str)
    return pa.array(texts, pa.string())
