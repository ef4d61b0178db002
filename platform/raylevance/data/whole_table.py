"""Read one table into memory, from a file of any kind that can be imported."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raylevance.data.conversions import TEXT, as_one_type
from raylevance.data.input_files import (
    JSON_SUFFIXES,
    SUFFIXES,
    NoRowsError,
    open_bytes,
    refuse_empty,
    suffix_of,
    unknown_kind,
)
from raylevance.data.json_rows import json_rows
from raylevance.data.raw_blocks import Paths, csv_blocks
from raylevance.data.streamed_files import column_names, delimiter_of, refuse_repeated
from raylevance.errors import RaylevanceError, UsageError, lacks_columns, one_line
from raylevance.progress import status

NUMERIC_COLUMNS = ("grade", "label", "confidence")
"""CSV columns that are read as numbers if they hold numbers. All others stay text, such as an id made of digits."""


def read_table(file: Path, columns: Sequence[str] = ()) -> pa.Table:
    """Return the whole table in `file`, which must have `columns` and at least one row.

    A column of JSON with values of several types is text, and one of lists of such values has lists of text, in which
    an empty text is null. An empty value of CSV is null.

    Raises

    - `UsageError` for an unknown kind of file,
    - `RaylevanceError` if the file is missing, can't be read or has no rows, if a row is damaged, or if a column is
      missing or there twice.
    """
    suffix = suffix_of(file)
    if suffix not in SUFFIXES:
        raise UsageError(unknown_kind(file))
    try:
        table = _read_parquet(file) if suffix == ".parquet" else _read_text(file, suffix)
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        raise RaylevanceError(f"{file}: can't be read, it may be incomplete: {one_line(error)}") from None
    if not table.num_columns:
        raise RaylevanceError(f"{file}: {NoRowsError()}")
    if missing := [column for column in columns if column not in table.column_names]:
        raise RaylevanceError(f"{file}: {lacks_columns(missing, table.column_names, columns)}")
    if table.num_rows == 0:
        raise RaylevanceError(f"{file}: has no rows")
    return table


def texts_of(file: Path, column: str) -> list[str]:
    """Return a column of `file` as texts, converted as an import does; the empty text for a null, which is reported.

    Raises what `read_table` raises, and `RaylevanceError` for a value that is no text, such as a list.
    """
    values = read_table(file, [column])[column]
    if pa.types.is_nested(values.type):
        raise RaylevanceError(f"{file}: column {column!r} holds {values.type}, not text")
    converted, faults = TEXT.convert(values)
    _refuse_faults(file, column, faults)
    texts: list[str] = converted.fill_null("").to_pylist()
    if empty := [row for row, text in enumerate(texts, 1) if not text.strip()]:
        status(f"{file}: {len(empty)} of {len(texts)} rows have no text in {column}; the first is row {empty[0]}")
    return texts


def _read_parquet(file: Path) -> pa.Table:
    refuse_empty(file)
    refuse_repeated(file, pq.read_schema(file).names)
    return pq.read_table(file)


def _read_text(file: Path, suffix: str) -> pa.Table:
    return _read_json(file) if suffix in JSON_SUFFIXES else _read_csv(file)


def _read_csv(file: Path) -> pa.Table:
    names = column_names(file)
    refuse_repeated(file, names)
    blocks = []
    for block in csv_blocks(file, Paths(tuple(names), {}), delimiter_of(file, ",")):
        _refuse_bad(file, block.bad)
        blocks.append(pa.table(block.values))
    table = pa.concat_tables(blocks)
    for name in NUMERIC_COLUMNS:
        if name in names:
            table = table.set_column(names.index(name), name, _as_numbers(table[name]))
    return table


def _as_numbers(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    for kind in (pa.int64(), pa.float64()):
        try:
            return texts.cast(kind)
        except pa.ArrowInvalid:
            continue
    return texts


def _read_json(file: Path) -> pa.Table:
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    with open_bytes(file) as stream:
        for row in json_rows(stream):
            if row.value is None:
                _refuse_bad(file, [(row.number, row.fault, row.text)])
            else:
                rows.append(row.value)
                numbers.append(row.number)
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _json_column(file, name, [row.get(name) for row in rows], numbers) for name in names})


def _json_column(file: Path, name: str, values: list[Any], numbers: list[int]) -> pa.Array:
    array = as_one_type(values)
    if isinstance(array, pa.Array):
        return array
    try:
        if not {bool, str} & {type(value) for value in values}:
            return pa.array(values)
    except (pa.ArrowException, OverflowError):
        pass
    _refuse_lists_beside_others(file, name, values, numbers)
    if any(isinstance(value, list) for value in values):
        return _lists_of_texts(file, name, values, numbers)
    converted, faults = TEXT.convert(values)
    _refuse_faults(file, name, faults, numbers)
    return converted


def _lists_of_texts(file: Path, name: str, lists: list[list[Any] | None], numbers: list[int]) -> pa.Array:
    sizes = [len(values or ()) for values in lists]
    converted, faults = TEXT.convert([value for values in lists for value in values or ()])
    _refuse_faults(file, name, faults, np.repeat(numbers, sizes).tolist())
    ends = np.cumsum([0, *sizes])
    missing = pa.array([values is None for values in lists])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), converted, mask=missing)


def _refuse_lists_beside_others(file: Path, name: str, values: list[Any], numbers: list[int]) -> None:
    first: dict[bool, int] = {}
    for value, number in zip(values, numbers, strict=True):
        if value is not None:
            first.setdefault(isinstance(value, list), number)
    if len(first) == 2:
        # dicts keep their order, so the second kind is the one that differs from the rows above it.
        (_, before), (is_list, row) = first.items()
        kind = "a list" if is_list else "not a list"
        raise RaylevanceError(f"{file}: row {row}: {name} is {kind}, unlike that of row {before}")


def _refuse_faults(file: Path, column: str, faults: pa.Array, numbers: Sequence[int] = ()) -> None:
    for place in faults.is_valid().to_numpy(zero_copy_only=False).nonzero()[0]:
        row = numbers[place] if numbers else place + 1
        raise RaylevanceError(f"{file}: row {row}: {column} {faults[int(place)]}")


def _refuse_bad(file: Path, bad: Sequence[tuple[int, str, str]]) -> None:
    for row, reason, text in bad:
        raise RaylevanceError(f"{file}: row {row}: {reason}: {' '.join(text[:160].split())}")
