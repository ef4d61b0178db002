"""Rows that are being imported: typed to a table's schema, with their origin and what is wrong with them.

Such a row has the columns of its table, all nullable, and five more:

- `FILE` and `ROW`: the file and the row in it; row 1 is the first row of data.
- `FAULT`: the reason why the row is bad; null for a good row.
- `RAW`: the values of a bad row as JSON; null for a good row.
- `DROPPED`: null for a row. A number stands for this many rows of the file that are left out for the reason in `FAULT`.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.conversions import Kind, Values
from raylevance.data.schema import ACTIONS, GRADES, MODEL_PREFIX, SPLITS, TABLES

FILE, ROW, FAULT, RAW, DROPPED = "_file", "_row", "_fault", "_raw", "_dropped"
PROVENANCE = [
    pa.field(FILE, pa.string()),
    pa.field(ROW, pa.int64()),
    pa.field(FAULT, pa.string()),
    pa.field(RAW, pa.string()),
    pa.field(DROPPED, pa.int64()),
]
LONGEST_RAW = 100_000
"""How many characters of a bad row are kept."""


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
        values = _column(rows, field.name, field.type)
        if values.type != field.type:
            values, misfits = Kind.of(field).convert(values)
            faults = first_faults(faults, named_faults(field.name, misfits))
        if not field.nullable:
            faults = _mark(faults, _is_missing(values), f"{field.name} is missing")
        columns[field.name] = values
    for name, allowed, reason in _range_checks(columns):
        faults = _mark(faults, pc.and_(pc.is_valid(columns[name]), pc.invert(pc.fill_null(allowed, False))), reason)
    raw = pc.coalesce(_column(rows, RAW, pa.string()), values_as_json(_values(rows), faults))
    columns |= {FILE: rows[FILE], ROW: rows[ROW], FAULT: faults, RAW: raw}
    columns[DROPPED] = _column(rows, DROPPED, pa.int64())
    return pa.table(columns, schema=row_schema(table))


def dropped_rows(rows: pa.Table, table: str) -> pa.Table:
    """Return a row with the number of `rows` for each file and reason, which is in the column DROPPED, string [n]."""
    counted = rows.select([FILE, DROPPED, ROW]).group_by([FILE, DROPPED], use_threads=False)
    counts = counted.aggregate([(ROW, "min"), (ROW, "count")])
    columns = {
        FILE: counts[FILE],
        ROW: counts[f"{ROW}_min"],
        FAULT: counts[DROPPED],
        DROPPED: counts[f"{ROW}_count"],
    }
    schema = row_schema(table)
    absent = {field.name: pa.nulls(counts.num_rows, field.type) for field in schema if field.name not in columns}
    return pa.table(absent | columns).select(schema.names).cast(schema)


def with_fault(rows: pa.Table, bad: pa.Array, reason: str) -> pa.Table:
    """Give the rows where the boolean array `bad` is true the fault `reason`. Rows with a fault keep theirs."""
    faults = _mark(_column(rows, FAULT, pa.string()), bad, reason)
    raw = pc.coalesce(_one_chunk(rows[RAW]), values_as_json(_values(rows), faults))
    columns = {name: rows[name] for name in rows.column_names}
    return pa.table(columns | {FAULT: faults, RAW: raw}, schema=rows.schema)


def missing_faults(rows: pa.Table, columns: Iterable[str]) -> pa.Array:
    """Return the fault of each row where one of `columns` is null or blank, string [n], null elsewhere."""
    faults = pa.nulls(rows.num_rows, pa.string())
    for name in columns:
        faults = _mark(faults, _is_missing(_one_chunk(rows[name])), f"{name} is missing")
    return faults


def first_faults(faults: pa.Array, more: pa.Array) -> pa.Array:
    """Return the fault of each row in `faults`, or else the one in `more`; both are string [n], null without one."""
    return faults if more.null_count == len(more) else pc.coalesce(faults, more)


def named_faults(column: str, reasons: pa.Array) -> pa.Array:
    """Put the name of the column before each reason."""
    return pc.binary_join_element_wise(pa.scalar(column), reasons, " ")


def grades_from_labels(labels: pa.ChunkedArray, grades: Mapping[str, int]) -> tuple[pa.Array, pa.Array]:
    """Return the grade of each label, int8 [n], and the fault of each label that is not in `grades`, string [n].

    Grades are null for unknown labels, and faults are null for known ones.
    """
    names = pa.array(list(grades), pa.string())
    positions = pc.index_in(_one_chunk(labels).cast(pa.string()), names)
    grade = pc.take(pa.array(list(grades.values()), pa.int8()), positions)
    return grade, _mark(pa.nulls(len(labels), pa.string()), grade.is_null(), f"label is not one of {', '.join(grades)}")


def values_as_json(values: Mapping[str, Values], faults: pa.Array) -> pa.Array:
    """Return the values of each row with a fault as JSON, cut to `LONGEST_RAW`, and null for a row without one."""
    texts: list[str | None] = [None] * len(faults)
    if faults.null_count < len(faults):
        bad = np.flatnonzero(faults.is_valid().to_numpy(zero_copy_only=False))
        columns = {name: _python_values(column, bad) for name, column in values.items()}
        for place, index in enumerate(bad):
            row = {name: column[place] for name, column in columns.items()}
            texts[index] = json.dumps(row, ensure_ascii=False, default=_shown)[:LONGEST_RAW]
    return pa.array(texts, pa.string())


def _range_checks(columns: dict[str, pa.Array]) -> Iterable[tuple[str, pa.Array, str]]:
    """Yield, for each column with a limited range: its name, where its values are allowed, and the fault if not."""
    if "grade" in columns:
        yield "grade", pc.is_in(columns["grade"], pa.array(GRADES, pa.int8())), "grade is not 0, 1 or 2"
    if "confidence" in columns:
        confidence = columns["confidence"]
        allowed = pc.and_(pc.greater_equal(confidence, 0.0), pc.less_equal(confidence, 1.0))
        yield "confidence", allowed, "confidence is not between 0 and 1"
    if "split" in columns:
        yield "split", pc.is_in(columns["split"], pa.array(SPLITS)), f"split is not one of {', '.join(SPLITS)}"
    if "source" in columns:
        source = columns["source"]
        by_model = pc.starts_with(source, MODEL_PREFIX)
        allowed = pc.or_(by_model, pc.invert(pc.starts_with(pc.utf8_lower(source), MODEL_PREFIX.removesuffix(":"))))
        yield "source", allowed, f"source is not {MODEL_PREFIX}VERSION, as that of a judge's label must be"
    if "price" in columns:
        price = columns["price"]
        yield "price", pc.and_(pc.is_finite(price), pc.greater_equal(price, 0.0)), "price is not a number of 0 or more"
    if "position" in columns:
        yield "position", pc.greater_equal(columns["position"], 0), "position is negative"
    if "action" in columns:
        yield "action", pc.is_in(columns["action"], pa.array(ACTIONS)), f"action is not one of {', '.join(ACTIONS)}"


def _values(rows: pa.Table) -> dict[str, Values]:
    """Return the columns of a row's own values, by name."""
    provenance = {field.name for field in PROVENANCE}
    return {name: rows[name] for name in rows.column_names if name not in provenance}


def _python_values(column: Values, rows: npt.NDArray[np.int64]) -> list[Any]:
    if isinstance(column, list):
        return [column[row] for row in rows]
    chosen = column.take(pa.array(rows))
    try:
        return chosen.to_pylist()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        return list(chosen.cast(pa.list_(pa.binary()) if pa.types.is_nested(chosen.type) else pa.binary()).to_pylist())
    except (OverflowError, ValueError):  # a time that `datetime` can't hold
        return list(chosen.cast(pa.int64()).to_pylist())


def _shown(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


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
