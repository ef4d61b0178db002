"""Stream the rows of Parquet, CSV and JSON files in parallel, each row with its file and row number.

A Parquet file is read by several tasks, each with some of its row groups. Any other file is read by one task: divide a
large file into several to use more processors.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data

from raylevance.data.checked_rows import (
    DROPPED,
    FAULT,
    FILE,
    RAW,
    ROW,
    conform_to_schema,
    dropped_rows,
    first_faults,
    named_faults,
    values_as_json,
)
from raylevance.data.conversions import Converted, Kind
from raylevance.data.csv_rows import CsvRows
from raylevance.data.input_files import (
    JSON_SUFFIXES,
    NoRowsError,
    bytes_when_read,
    open_bytes,
    refuse_empty,
    require_known_kind,
    suffix_of,
)
from raylevance.data.json_rows import json_rows
from raylevance.data.raw_blocks import Paths, RawBlock, csv_blocks, json_blocks, parquet_blocks
from raylevance.errors import RaylevanceError, lacks_columns, nearest, one_line, quoted

FIRST_ROWS = 1000
"""How many rows of a JSON file are searched for the first object."""

ROWS_PER_TASK = 500_000
BYTES_PER_BUCKET = 64 << 20
SPANS_LINES = r"\S\s*[\r\n]\s*\S"

RowMapping = Callable[[pa.Table], pa.Table]
"""Turns the columns of a file into the columns of a table."""


@dataclass(frozen=True)
class Columns:
    """The columns to read and what they hold. A dotted name is a path into nested values.

    Columns that are not `required` are null if they are missing. A line break in a column of `one_line` is a fault: it
    may come from a quote that is not closed. Where the value of a column in `inside` is an object, its member of that
    name is read; with an empty name an object is null. Records may be wrapped in an object under `envelope`.
    `only_these` refuses any other column.
    """

    kinds: Mapping[str, Kind]
    required: tuple[str, ...]
    one_line: tuple[str, ...] = ()
    inside: Mapping[str, str] = field(default_factory=dict)
    envelope: str | None = None
    only_these: bool = False

    def check(self, file: Path, present: Sequence[str], required: Sequence[str]) -> None:
        """Raise `RaylevanceError` if the `present` columns of `file` lack one, have an unknown one or one twice."""
        refuse_repeated(file, present)
        missing = [] if self.envelope in present else missing_columns(present, required)
        if self.only_these and (unknown := [name for name in present if name not in self.kinds]):
            lacks = f" and lacks {quoted(missing)}" if missing else ""
            hint = nearest(unknown[0], [name for name in self.kinds if name not in present])
            raise RaylevanceError(f"{file}: has the unknown column {quoted(unknown)}{lacks}; {hint}")
        if missing:
            require_columns(file, present, required)

    @property
    def paths(self) -> Paths:
        """Where the values of the columns are."""
        return Paths(tuple(self.kinds), self.inside, self.envelope, frozenset(self.kinds) if self.only_these else None)


def read_rows(
    files: Sequence[Path],
    table: str,
    columns: Columns,
    mapping: RowMapping,
    delimiter: str = ",",
    beside: Sequence[str] = (),
) -> ray.data.Dataset:
    """Return the rows of `table`, read lazily, in the order of `files` and the schema of `checked_rows.row_schema`.

    `mapping` gets a batch with `columns` in their types, FILE and ROW. It returns the table's columns together with
    FILE and ROW, and may add FAULT, and DROPPED with the reason why a row is left out. `delimiter` separates the values
    of a .csv file. The columns `beside` of the mapping, which are strings, are kept beside those of the table.

    A file without rows is left out if others have some.

    Raises `RaylevanceError` at once if a file is missing or unreadable, if all are empty, or if a required column is
    missing.
    """
    fragments: list[dict[str, Any]] = []
    empty: list[RaylevanceError] = []
    for file in files:
        try:
            fragments += _fragments(file, columns, delimiter)
        except _EmptyFileError as error:
            empty.append(error)
    if not fragments:
        raise empty[0]
    read = functools.partial(
        _read_fragment, table=table, columns=columns, mapping=mapping, delimiter=delimiter, beside=beside
    )
    return ray.data.from_items(fragments, override_num_blocks=len(fragments)).map_batches(
        read, batch_size=1, batch_format="numpy"
    )


def buckets_for_files(files: Sequence[Path]) -> int:
    """Return how many buckets (see `raylevance.data.hash_buckets`) the rows of `files` need."""
    return 1 + sum(bytes_when_read(file) for file in files) // BYTES_PER_BUCKET


def column_names(file: Path, delimiter: str = ",") -> list[str]:
    """Return the columns of `file`, from its Parquet footer, its CSV header or its first JSON object.

    Raises `RaylevanceError` if the file is missing, unreadable or empty.
    """
    if suffix_of(file) == ".parquet":
        return list(footer(file).schema.to_arrow_schema().names)
    try:
        with open_bytes(file) as stream:
            if suffix_of(file) in JSON_SUFFIXES:
                return _first_object(row.value for row in json_rows(stream))
            return CsvRows(stream, delimiter_of(file, delimiter)).names
    except OSError as error:
        raise RaylevanceError(f"{file}: incomplete or unreadable: {one_line(error)}") from None
    except NoRowsError:
        raise _EmptyFileError(file) from None
    except ValueError as error:
        raise RaylevanceError(f"{file}: {one_line(error)}") from None


def require_columns(file: Path, present: Sequence[str], required: Sequence[str]) -> None:
    """Raise `RaylevanceError` if columns of `required` are not among the `present` columns of `file`. It names all."""
    if missing := missing_columns(present, required):
        raise RaylevanceError(f"{file}: {lacks_columns(missing, present, required)}")


def missing_columns(present: Sequence[str], required: Sequence[str]) -> list[str]:
    """Return the names of `required` that are not in `present`, where a dotted name is a path into nested values."""
    return [name for name in required if name not in present and name.partition(".")[0] not in present]


def refuse_repeated(file: Path, present: Sequence[str]) -> None:
    """Raise `RaylevanceError` if `file` has two columns of one name."""
    for name, count in Counter(present).items():
        if count > 1:
            raise RaylevanceError(f"{file}: has {count} columns {name!r}; give each column its own name")


def delimiter_of(file: Path, delimiter: str) -> str:
    """Return what separates the values of a CSV file: `delimiter`, or the tab in a .tsv file."""
    return "\t" if suffix_of(file) == ".tsv" else delimiter


def footer(file: Path) -> pq.FileMetaData:
    """Return the metadata of a Parquet file. Raises `RaylevanceError` if it is missing or damaged."""
    refuse_empty(file)
    try:
        return pq.read_metadata(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise RaylevanceError(f"{file}: incomplete or not a Parquet file: {one_line(error)}") from None


class _EmptyFileError(RaylevanceError):
    def __init__(self, file: Path) -> None:
        super().__init__(f"{file}: {NoRowsError()}")


def _fragments(file: Path, columns: Columns, delimiter: str) -> Iterator[dict[str, Any]]:
    require_known_kind(file)
    present = column_names(file, delimiter)
    # The columns of JSON are those of each row, and are checked there.
    columns.check(file, present, () if suffix_of(file) in JSON_SUFFIXES else columns.required)
    if suffix_of(file) != ".parquet":
        yield {"file": str(file), "first_row": 1, "first_group": 0, "end_group": 1}
        return
    metadata = footer(file)
    if metadata.num_rows == 0:
        raise _EmptyFileError(file)
    first_row, first_group, rows = 1, 0, 0
    for group in range(metadata.num_row_groups):
        rows += metadata.row_group(group).num_rows
        if rows >= ROWS_PER_TASK or group == metadata.num_row_groups - 1:
            yield {"file": str(file), "first_row": first_row, "first_group": first_group, "end_group": group + 1}
            first_row, first_group, rows = first_row + rows, group + 1, 0


def _first_object(objects: Iterator[dict[str, Any] | None]) -> list[str]:
    """Return the columns of the first row that is an object. Rows before it are bad rows, which are found later."""
    seen = 0
    for value in itertools.islice(objects, FIRST_ROWS):
        if value is not None:
            return list(value)
        seen += 1
    if not seen:
        raise NoRowsError
    raise ValueError(f"none of the first {seen} rows is a JSON object; expected one object per line, or an array")


def raw_blocks(
    file: Path, paths: Paths, delimiter: str, first_row: int, row_groups: Sequence[int]
) -> Iterator[RawBlock]:
    """Yield the rows of `file` as they stand in it. `first_row` and `row_groups` are those of a Parquet file."""
    if suffix_of(file) == ".parquet":
        return parquet_blocks(file, paths, first_row, row_groups)
    if suffix_of(file) in JSON_SUFFIXES:
        return json_blocks(file, paths)
    return csv_blocks(file, paths, delimiter_of(file, delimiter))


def _read_fragment(
    batch: dict[str, Any], table: str, columns: Columns, mapping: RowMapping, delimiter: str, beside: Sequence[str]
) -> Iterator[pa.Table]:
    file = Path(batch["file"][0])
    groups = range(int(batch["first_group"][0]), int(batch["end_group"][0]))
    try:
        for block in raw_blocks(file, columns.paths, delimiter, int(batch["first_row"][0]), groups):
            yield from _mapped(block, file, table, columns, mapping, beside)
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        raise RaylevanceError(f"{file}: incomplete or unreadable: {one_line(error)}") from None


def _mapped(
    block: RawBlock, file: Path, table: str, columns: Columns, mapping: RowMapping, beside: Sequence[str]
) -> Iterator[pa.Table]:
    """Yield the rows of `table` from a block: the good ones, the bad ones, and how many were left out."""
    if len(block.numbers):
        typed, faults, raw = _typed(block, columns)
        origin = {FILE: pa.repeat(pa.scalar(str(file), pa.string()), len(block.numbers)), ROW: block.numbers}
        rows = mapping(pa.table(typed | origin))
        if FAULT in rows.column_names:
            faults = first_faults(faults, rows[FAULT].combine_chunks())
        assert rows.num_rows == len(faults), "a mapping keeps all rows"
        kept = rows.drop_columns([name for name in (FAULT, RAW) if name in rows.column_names])
        kept = kept.append_column(FAULT, faults).append_column(RAW, raw)
        if DROPPED in kept.column_names:
            left_out = kept[DROPPED].combine_chunks()
            if left_out.null_count < len(left_out):
                yield _with_columns(dropped_rows(kept.filter(left_out.is_valid()), table), beside)
            kept = kept.filter(left_out.is_null()).drop_columns([DROPPED])
        yield _with_columns(conform_to_schema(kept, table), beside, kept)
    if block.bad:
        numbers, reasons, texts = zip(*block.bad, strict=True)
        bad = {
            FILE: pa.repeat(pa.scalar(str(file), pa.string()), len(numbers)),
            ROW: pa.array(numbers, pa.int64()),
            FAULT: pa.array(reasons, pa.string()),
            RAW: pa.array(texts, pa.string()),
        }
        yield _with_columns(conform_to_schema(pa.table(bad), table), beside)


def _with_columns(rows: pa.Table, names: Sequence[str], source: pa.Table | None = None) -> pa.Table:
    """Append the columns `names` of `source`, which has the same rows; null without a source."""
    for name in names:
        rows = rows.append_column(name, source[name] if source else pa.nulls(rows.num_rows, pa.string()))
    return rows


def _typed(block: RawBlock, columns: Columns) -> tuple[dict[str, pa.Array], pa.Array, pa.Array]:
    """Return the columns in their types, the first fault of each row, and the values of the rows with one."""
    count = len(block.numbers)
    typed: dict[str, pa.Array] = {}
    faults = pa.nulls(count, pa.string())
    for name, kind in columns.kinds.items():
        converted = kind.convert(block.values.get(name, pa.nulls(count)))
        if name in columns.one_line:
            converted = _refuse_line_breaks(converted)
        typed[name] = converted.values
        if converted.faults.null_count < count:
            faults = first_faults(faults, named_faults(name, converted.faults))
    return typed, faults, values_as_json(block.values, faults)


def _refuse_line_breaks(converted: Converted) -> Converted:
    values = converted.values
    if not pc.any(pc.match_substring_regex(values, r"[\r\n]")).as_py():
        return converted
    spans = pc.fill_null(pc.match_substring_regex(values, SPANS_LINES), False)
    fault = pc.if_else(spans, "has a line break in it; write it on one line", pa.scalar(None, pa.string()))
    return Converted(values, first_faults(converted.faults, fault))
