"""Read the rows of one file in blocks, as they stand in it, with their numbers. `conversions` gives them types."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylevance.data.conversions import Values
from raylevance.data.csv_rows import CsvRows
from raylevance.data.input_files import open_bytes
from raylevance.data.json_rows import JsonRow, json_rows
from raylevance.errors import nearest

ROWS_PER_BLOCK = 65_536
CHARACTERS_PER_BLOCK = 64 << 20
BYTES_PER_BLOCK = 64 << 20
"""Of Parquet, uncompressed."""


@dataclass
class RawBlock:
    """Rows of a file: `values` by column and the `numbers` of the rows; and bad rows: number, reason and text."""

    values: dict[str, Values]
    numbers: npt.NDArray[np.int64]
    bad: list[tuple[int, str, str]]


@dataclass(frozen=True)
class Paths:
    """Where the values of columns are.

    A dotted `names` is a path into nested values, or the name of a flat column. Where the value of a name in `inside`
    is an object, its member of that name is taken; with an empty name such a value is null. A row may be wrapped in an
    object under `envelope`. With `allowed`, a row of JSON with another member is a bad row.
    """

    names: tuple[str, ...]
    inside: Mapping[str, str]
    envelope: str | None = None
    allowed: frozenset[str] | None = None


def parquet_blocks(file: Path, paths: Paths, first_row: int, row_groups: Iterable[int]) -> Iterator[RawBlock]:
    """Yield the rows of some row groups, of which the first row has the number `first_row`."""
    with pq.ParquetFile(file) as parquet:
        columns = [*paths.names, paths.envelope] if paths.envelope else list(paths.names)
        groups = [parquet.metadata.row_group(group) for group in row_groups]
        bytes_per_row = sum(group.total_byte_size for group in groups) / max(1, sum(group.num_rows for group in groups))
        rows = max(1, min(ROWS_PER_BLOCK, int(BYTES_PER_BLOCK / max(bytes_per_row, 1))))
        for batch in parquet.iter_batches(rows, row_groups=list(row_groups), columns=columns):
            if paths.envelope in batch.schema.names:
                batch = pa.RecordBatch.from_struct_array(batch.column(paths.envelope))
            values: dict[str, Values] = {name: _nested_column(batch, name, paths.inside) for name in paths.names}
            yield RawBlock(values, np.arange(first_row, first_row + batch.num_rows), [])
            first_row += batch.num_rows


def _nested_column(batch: pa.RecordBatch, path: str, inside: Mapping[str, str]) -> pa.Array:
    """Return the column `path`, or at this dotted path; all null if the batch does not have it."""
    first, *deeper = [path] if path in batch.schema.names else path.split(".")
    if first not in batch.schema.names:
        return pa.nulls(batch.num_rows)
    column = batch.column(first)
    for name in deeper:
        if not pa.types.is_struct(column.type) or column.type.get_field_index(name) < 0:
            return pa.nulls(batch.num_rows)
        column = pc.struct_field(column, name)
    if path not in inside or not pa.types.is_struct(column.type):
        return column
    member = inside[path]
    if not member:
        return pa.nulls(batch.num_rows)
    return pc.struct_field(column, member) if column.type.get_field_index(member) >= 0 else column


def csv_blocks(file: Path, paths: Paths, delimiter: str) -> Iterator[RawBlock]:
    """Yield the rows of a CSV file, as texts that are null where empty."""
    with open_bytes(file) as stream:
        rows = CsvRows(stream, delimiter)
        places = {name: str(rows.names.index(name)) for name in paths.names if name in rows.names}
        for block in rows.blocks():
            values: dict[str, Values] = {name: block.texts[place] for name, place in places.items()}
            bad = [(number, reason, text.decode(errors="replace")) for number, reason, text in block.faults]
            yield RawBlock(values, block.rows, bad)


def json_blocks(file: Path, paths: Paths) -> Iterator[RawBlock]:
    """Yield the rows of a JSON file, as lists of values of any types."""
    with open_bytes(file) as stream:
        for chunk in _chunks(json_rows(stream)):
            good: list[dict[str, Any]] = []
            numbers: list[int] = []
            bad: list[tuple[int, str, str]] = []
            for row in chunk:
                value, fault = _unwrapped(row, paths)
                if value is None or fault:
                    bad.append((row.number, fault, row.text or json.dumps(row.value, ensure_ascii=False)))
                else:
                    good.append(value)
                    numbers.append(row.number)
            values: dict[str, Values] = {name: _values_at(good, name, paths.inside) for name in paths.names}
            yield RawBlock(values, np.array(numbers, np.int64), bad)


def _unwrapped(row: JsonRow, paths: Paths) -> tuple[dict[str, Any] | None, str]:
    """Return the object with the row's values, and what is wrong with it."""
    value = row.value
    if value is not None and paths.envelope is not None and isinstance(value.get(paths.envelope), dict):
        value = value[paths.envelope]
    if value is not None and paths.allowed is not None and not value.keys() <= paths.allowed:
        unknown = next(name for name in value if name not in paths.allowed)
        return value, f"unknown column {unknown!r}; {nearest(unknown, sorted(paths.allowed))}"
    return value, row.fault


def _chunks(rows: Iterator[JsonRow]) -> Iterator[list[JsonRow]]:
    """Group rows so that a group has at most `ROWS_PER_BLOCK` rows and about `CHARACTERS_PER_BLOCK`."""
    chunk: list[JsonRow] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += row.size
        if len(chunk) >= ROWS_PER_BLOCK or size >= CHARACTERS_PER_BLOCK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _values_at(rows: Sequence[dict[str, Any]], path: str, inside: Mapping[str, str]) -> list[Any]:
    values = [_value_at(row, path) for row in rows]
    if path in inside:
        member = inside[path]
        values = [
            (value.get(member, value) if member else None) if isinstance(value, dict) else value for value in values
        ]
    return values


def _value_at(row: dict[str, Any], path: str) -> Any:
    if path in row or "." not in path:
        return row.get(path)
    value: Any = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
