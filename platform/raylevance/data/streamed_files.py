"""Stream the rows of Parquet, CSV and JSON Lines files in parallel, each row with its file and row number.

A Parquet file is read by several tasks, each with some of its row groups. A CSV or JSON Lines file is read by one task:
divide a large file into several to use more processors.
"""

import csv
import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import ray.data

from raylevance.data.checked_rows import FAULT, FILE, RAW, ROW, conform_to_schema
from raylevance.errors import RaylevanceError, nearest

FIRST_LINES = 1000
"""How many lines of a JSON Lines file are searched for the first object."""

ROWS_PER_BLOCK = 65_536
ROWS_PER_TASK = 500_000
BYTES_PER_BUCKET = 64 << 20
JSON_SUFFIXES = (".jsonl", ".ndjson")
SUFFIXES = (".parquet", ".csv", ".tsv", *JSON_SUFFIXES)

RowMapping = Callable[[pa.Table], pa.Table]
"""Turns the columns of a file into the columns of a table."""


class Columns(NamedTuple):
    """The names of the columns to read. A dotted name is a path into nested values.

    Optional columns are null if they are missing.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


def read_rows(
    files: Sequence[Path], table: str, columns: Columns, mapping: RowMapping, delimiter: str = ","
) -> ray.data.Dataset:
    """Return the rows of `table`, read lazily, in the order of `files` and the schema of `checked_rows.row_schema`.

    `mapping` gets a batch with `columns`, FILE and ROW. It returns the table's columns together with FILE and ROW, and
    may add FAULT. `delimiter` separates the values of a .csv file.

    Raises `RaylevanceError` at once if a file is missing, unreadable or empty, or if a required column is missing.
    """
    fragments = [fragment for file in files for fragment in _fragments(file, columns, delimiter)]
    read = functools.partial(_read_fragment, table=table, columns=columns, mapping=mapping, delimiter=delimiter)
    return ray.data.from_items(fragments, override_num_blocks=len(fragments)).map_batches(
        read, batch_size=1, batch_format="numpy"
    )


def matching_files(folder: Path, stem: str) -> list[Path]:
    """Return the files with a suffix of `SUFFIXES` in the folder `folder`/`stem`, sorted by name.

    If there is no such folder, return the files of `folder` whose names start with `stem`.
    """
    subfolder = folder / stem
    candidates = subfolder.rglob("*") if subfolder.is_dir() else folder.glob(f"{stem}*")
    return sorted(file for file in candidates if file.suffix in SUFFIXES and file.is_file())


def buckets_for_files(files: Sequence[Path]) -> int:
    """Return how many buckets (see `raylevance.data.hash_buckets`) the rows of `files` need."""
    return 1 + sum(file.stat().st_size for file in files) // BYTES_PER_BUCKET


def column_names(file: Path, delimiter: str = ",") -> list[str]:
    """Return the columns of `file`, from its Parquet footer, its CSV header or its first JSON object.

    Raises `RaylevanceError` if the file is missing, unreadable or empty.
    """
    if file.suffix == ".parquet":
        return list(_footer(file).schema.to_arrow_schema().names)
    if file.suffix in JSON_SUFFIXES:
        return list(_first_object(file))
    return next(csv.reader([_first_line(file)], delimiter=_delimiter(file, delimiter)))


def require_columns(file: Path, present: Sequence[str], required: Sequence[str]) -> None:
    """Raise `RaylevanceError` if a column of `required` is not among the `present` columns of `file`."""
    for name in required:
        if name.partition(".")[0] not in present:
            raise RaylevanceError(f"{file}: has no column {name!r}; {nearest(name, list(present))}")


def _fragments(file: Path, columns: Columns, delimiter: str) -> Iterator[dict[str, Any]]:
    if file.suffix not in SUFFIXES:
        raise RaylevanceError(f"{file}: unknown kind of file; expected a name that ends in {', '.join(SUFFIXES)}")
    present = column_names(file, delimiter)
    if file.suffix not in JSON_SUFFIXES:
        require_columns(file, present, columns.required)
    if file.suffix != ".parquet":
        yield {"file": str(file), "first_row": 1, "first_group": 0, "end_group": 1}
        return
    footer = _footer(file)
    if footer.num_rows == 0:
        raise RaylevanceError(f"{file}: empty: it has no rows")
    first_row, first_group, rows = 1, 0, 0
    for group in range(footer.num_row_groups):
        rows += footer.row_group(group).num_rows
        if rows >= ROWS_PER_TASK or group == footer.num_row_groups - 1:
            yield {"file": str(file), "first_row": first_row, "first_group": first_group, "end_group": group + 1}
            first_row, first_group, rows = first_row + rows, group + 1, 0


def _footer(file: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(file)
    except FileNotFoundError:
        raise RaylevanceError(f"{file}: no such file") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise RaylevanceError(f"{file}: incomplete or not a Parquet file: {_one_line(error)}") from None


def _first_object(file: Path) -> dict[str, Any]:
    """Return the first line that is a JSON object. Lines before it are bad rows, which are found later."""
    count = 0
    with _open_text(file) as lines:
        for line in itertools.islice(filter(str.strip, lines), FIRST_LINES):
            count += 1
            row = _parse_object(line)
            if row is not None:
                return row
    if not count:
        raise RaylevanceError(f"{file}: empty: it has no rows")
    raise RaylevanceError(f"{file}: none of the first {count} rows is a JSON object; expected one object per line")


@contextmanager
def _open_text(file: Path) -> Iterator[TextIO]:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            yield lines
    except FileNotFoundError:
        raise RaylevanceError(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RaylevanceError(f"{file}: can't be read as UTF-8 text: {_one_line(error)}") from None


def _first_line(file: Path) -> str:
    with _open_text(file) as lines:
        first, second = lines.readline(), lines.readline()
    if not first.strip() or not second:
        raise RaylevanceError(f"{file}: empty: it has no rows")
    return first


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _delimiter(file: Path, delimiter: str) -> str:
    return "\t" if file.suffix == ".tsv" else delimiter


def _read_fragment(
    batch: dict[str, Any], table: str, columns: Columns, mapping: RowMapping, delimiter: str
) -> Iterator[pa.Table]:
    file = Path(batch["file"][0])
    try:
        if file.suffix == ".parquet":
            groups = range(int(batch["first_group"][0]), int(batch["end_group"][0]))
            blocks = _parquet_blocks(file, columns, int(batch["first_row"][0]), groups)
        elif file.suffix in JSON_SUFFIXES:
            blocks = _json_blocks(file, columns)
        else:
            blocks = _csv_blocks(file, columns, _delimiter(file, delimiter))
        for block in blocks:
            yield conform_to_schema(block if FAULT in block.column_names else mapping(block), table)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise RaylevanceError(f"{file}: incomplete or unreadable: {_one_line(error)}") from None


def _parquet_blocks(file: Path, columns: Columns, first_row: int, row_groups: Iterable[int]) -> Iterator[pa.Table]:
    names = [*columns.required, *columns.optional]
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(ROWS_PER_BLOCK, row_groups=list(row_groups), columns=names):
            rows = np.arange(first_row, first_row + batch.num_rows)
            values = {name: _nested_column(batch, name) for name in names}
            yield pa.table({**values, FILE: _repeated(file, len(rows)), ROW: rows})
            first_row += batch.num_rows


def _nested_column(batch: pa.RecordBatch, path: str) -> pa.Array:
    """Return the column at a dotted `path`, all null if the batch does not have it."""
    first, *deeper = path.split(".")
    if first not in batch.schema.names:
        return pa.nulls(batch.num_rows)
    column = batch.column(first)
    for name in deeper:
        if not pa.types.is_struct(column.type) or column.type.get_field_index(name) < 0:
            return pa.nulls(batch.num_rows)
        column = pc.struct_field(column, name)
    return column


def _csv_blocks(file: Path, columns: Columns, delimiter: str) -> Iterator[pa.Table]:
    """Yield the rows as strings, null for empty values. Rows with too many or too few values follow as bad rows."""
    present = column_names(file, delimiter)
    names = [name for name in (*columns.required, *columns.optional) if name in present]
    invalid: list[pyarrow.csv.InvalidRow] = []

    def collect_invalid(row: pyarrow.csv.InvalidRow) -> str:
        invalid.append(row)
        return "skip"

    reader = pyarrow.csv.open_csv(
        file,
        read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=8 << 20),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=collect_invalid
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=names,
            strings_can_be_null=True,
            null_values=[""],
        ),
    )
    next_row = 1
    for batch in reader:
        # The parser counts the header as row 1, and it counts the rows that it skipped.
        numbers = np.arange(next_row, next_row + batch.num_rows + len(invalid))
        rows = numbers[~np.isin(numbers, [row.number - 1 for row in invalid])][: batch.num_rows]
        next_row = int(rows[-1]) + 1 if len(rows) else next_row
        values = dict(zip(batch.schema.names, batch.columns, strict=True))
        yield pa.table({**values, FILE: _repeated(file, len(rows)), ROW: rows})
    if invalid:
        yield _bad_rows(file, [(row.number - 1, _value_count_fault(row), row.text) for row in invalid])


def _value_count_fault(row: pyarrow.csv.InvalidRow) -> str:
    return f"row has {row.actual_columns} values, the header {row.expected_columns}"


def _json_blocks(file: Path, columns: Columns) -> Iterator[pa.Table]:
    names = (*columns.required, *columns.optional)
    with file.open(encoding="utf-8-sig") as lines:
        numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
        while chunk := list(itertools.islice(numbered, ROWS_PER_BLOCK)):
            good: list[tuple[int, dict[str, Any]]] = []
            bad: list[tuple[int, str, str]] = []
            for number, line in chunk:
                value = _parse_object(line)
                if value is None:
                    bad.append((number, "row is not a JSON object", line.strip()))
                else:
                    good.append((number, value))
            odd = _odd_rows([row for _, row in good], names)
            bad += [(good[index][0], reason, json.dumps(good[index][1])) for index, reason in odd.items()]
            good = [row for index, row in enumerate(good) if index not in odd]
            if good:
                values = {name: _inferred([_value_at(row, name) for _, row in good]) for name in names}
                rows = pa.array([number for number, _ in good], pa.int64())
                yield pa.table({**values, FILE: _repeated(file, len(good)), ROW: rows})
            if bad:
                yield _bad_rows(file, bad)


def _odd_rows(rows: list[dict[str, Any]], names: Sequence[str]) -> dict[int, str]:
    """Return the faults, by index, of rows that nest a value which most rows do not nest, or the other way round.

    A nested value is a list or an object, any other value is text or a number.
    """
    odd: dict[int, str] = {}
    for name in names:
        is_nested = {
            index: isinstance(value, (list, dict))
            for index, row in enumerate(rows)
            if (value := _value_at(row, name)) is not None
        }
        usually_nested = 2 * sum(is_nested.values()) > len(is_nested)
        kinds = ("text or a number", "a list or an object")
        reason = f"{name} is {kinds[not usually_nested]}, in most rows {kinds[usually_nested]}"
        odd |= {index: reason for index, nested in is_nested.items() if nested != usually_nested}
    return odd


def _parse_object(line: str) -> dict[str, Any] | None:
    """Return the object in `line`, or None if it is anything else or contains half of a surrogate pair."""
    try:
        value = json.loads(line)
        if "\\ud" in line.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _value_at(row: dict[str, Any], path: str) -> Any:
    value: Any = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _inferred(values: list[Any]) -> pa.Array:
    """Return `values` as an array. If their types differ, each value that is not text becomes its JSON text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
        return pa.array(texts, pa.string())


def _repeated(file: Path, length: int) -> pa.Array:
    return pa.repeat(pa.scalar(str(file), pa.string()), length)


def _bad_rows(file: Path, faults: list[tuple[int, str, str]]) -> pa.Table:
    """Return rows with FAULT and RAW from `faults`: row number, reason and values of each."""
    rows, reasons, texts = zip(*faults, strict=True)
    return pa.table(
        {
            FILE: _repeated(file, len(rows)),
            ROW: pa.array(rows, pa.int64()),
            FAULT: pa.array(reasons, pa.string()),
            RAW: pa.array(texts, pa.string()),
        }
    )
