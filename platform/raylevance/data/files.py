"""Files to rows: Parquet, CSV and JSON Lines, streamed in parallel, each row with its file and its number in it.

A Parquet file is read by groups of its row groups; a CSV or JSON Lines file by one task, so split a large one into
several to use more processors.
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

from raylevance.data.rows import FAULT, FILE, RAW, ROW, conform
from raylevance.errors import RaylevanceError, nearest

FIRST_LINES = 1000
"""Lines of a JSON Lines file among which the first object is looked for."""

ROWS_PER_BLOCK = 65_536
ROWS_PER_TASK = 500_000
BYTES_PER_BUCKET = 64 << 20
JSON_SUFFIXES = (".jsonl", ".ndjson")
SUFFIXES = (".parquet", ".csv", ".tsv", *JSON_SUFFIXES)

Mapping = Callable[[pa.Table], pa.Table]


class Columns(NamedTuple):
    """The columns to read; a dotted name is a path into nested values. Optional ones are null where missing."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


def read_rows(
    files: Sequence[Path], table: str, columns: Columns, mapping: Mapping, delimiter: str = ","
) -> ray.data.Dataset:
    """Rows of `table` (`rows.row_schema`), lazily, in the order of `files`.

    `mapping` turns a batch with `columns`, FILE and ROW into the table's columns, keeping those two, and may add FAULT.
    Raises `RaylevanceError` before any work for a missing, torn or empty file and for a missing column.
    """
    fragments = [fragment for file in files for fragment in _fragments(file, columns, delimiter)]
    read = functools.partial(_read_fragment, table=table, columns=columns, mapping=mapping, delimiter=delimiter)
    return ray.data.from_items(fragments, override_num_blocks=len(fragments)).map_batches(
        read, batch_size=1, batch_format="numpy"
    )


def matching_files(folder: Path, stem: str) -> list[Path]:
    """`folder`/`stem`*.<any known suffix>, or every such file of the folder `folder`/`stem`, sorted by name."""
    inside = folder / stem
    found = inside.rglob("*") if inside.is_dir() else folder.glob(f"{stem}*")
    return sorted(file for file in found if file.suffix in SUFFIXES and file.is_file())


def buckets_of(files: Sequence[Path]) -> int:
    """The buckets (`raylevance.data.buckets`) that the rows of `files` need."""
    return 1 + sum(file.stat().st_size for file in files) // BYTES_PER_BUCKET


def column_names(file: Path, delimiter: str = ",") -> list[str]:
    """The columns of `file`: from a Parquet footer, a CSV header or the first JSON object."""
    if file.suffix == ".parquet":
        return list(_footer(file).schema.to_arrow_schema().names)
    if file.suffix in JSON_SUFFIXES:
        return list(_first_object(file))
    return next(csv.reader([_first_line(file)], delimiter=_delimiter(file, delimiter)))


def require_columns(file: Path, present: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise `RaylevanceError` for the first of `wanted` that `file` lacks, with the nearest it has."""
    for name in wanted:
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
        raise RaylevanceError(f"{file}: torn or not a Parquet file: {_line(error)}") from None


def _first_object(file: Path) -> dict[str, Any]:
    """The first line that is a JSON object: one before it that is torn is a bad row like any other."""
    count = 0
    with _text(file) as lines:
        for line in itertools.islice(filter(str.strip, lines), FIRST_LINES):
            count += 1
            row = _parsed(line)
            if row is not None:
                return row
    if not count:
        raise RaylevanceError(f"{file}: empty: it has no rows")
    raise RaylevanceError(f"{file}: none of the first {count} rows is a JSON object; expected one object a line")


@contextmanager
def _text(file: Path) -> Iterator[TextIO]:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            yield lines
    except FileNotFoundError:
        raise RaylevanceError(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RaylevanceError(f"{file}: can't be read as UTF-8 text: {_line(error)}") from None


def _first_line(file: Path) -> str:
    with _text(file) as lines:
        first, second = lines.readline(), lines.readline()
    if not first.strip() or not second:
        raise RaylevanceError(f"{file}: empty: it has no rows")
    return first


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _delimiter(file: Path, delimiter: str) -> str:
    return "\t" if file.suffix == ".tsv" else delimiter


def _read_fragment(
    batch: dict[str, Any], table: str, columns: Columns, mapping: Mapping, delimiter: str
) -> Iterator[pa.Table]:
    file = Path(batch["file"][0])
    try:
        if file.suffix == ".parquet":
            groups = range(int(batch["first_group"][0]), int(batch["end_group"][0]))
            blocks = _parquet(file, columns, int(batch["first_row"][0]), groups)
        elif file.suffix in JSON_SUFFIXES:
            blocks = _json_lines(file, columns)
        else:
            blocks = _csv(file, columns, _delimiter(file, delimiter))
        for block in blocks:
            yield conform(block if FAULT in block.column_names else mapping(block), table)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise RaylevanceError(f"{file}: torn or unreadable: {_line(error)}") from None


def _parquet(file: Path, columns: Columns, first_row: int, row_groups: Iterable[int]) -> Iterator[pa.Table]:
    wanted = (*columns.required, *columns.optional)
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(ROWS_PER_BLOCK, row_groups=list(row_groups), columns=list(wanted)):
            rows = np.arange(first_row, first_row + batch.num_rows)
            values = {name: _nested(batch, name) for name in wanted}
            yield pa.table({**values, FILE: _repeated(file, len(rows)), ROW: rows})
            first_row += batch.num_rows


def _nested(batch: pa.RecordBatch, path: str) -> pa.Array:
    """The column at a dotted `path`, null where the batch has none."""
    first, *deeper = path.split(".")
    if first not in batch.schema.names:
        return pa.nulls(batch.num_rows)
    column = batch.column(first)
    for name in deeper:
        if not pa.types.is_struct(column.type) or column.type.get_field_index(name) < 0:
            return pa.nulls(batch.num_rows)
        column = pc.struct_field(column, name)
    return column


def _csv(file: Path, columns: Columns, delimiter: str) -> Iterator[pa.Table]:
    """Every value as a string, empty as null; a row with too many or too few values comes as a fault, in its place."""
    present = column_names(file, delimiter)
    wanted = [name for name in (*columns.required, *columns.optional) if name in present]
    torn: list[pyarrow.csv.InvalidRow] = []

    def keep(row: pyarrow.csv.InvalidRow) -> str:
        torn.append(row)
        return "skip"

    reader = pyarrow.csv.open_csv(
        file,
        read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=8 << 20),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=keep),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(wanted, pa.string()),
            include_columns=wanted,
            strings_can_be_null=True,
            null_values=[""],
        ),
    )
    next_row = 1
    for batch in reader:
        # The header is row 1 to the parser, and the rows it skipped keep their numbers.
        numbers = np.arange(next_row, next_row + batch.num_rows + len(torn))
        rows = numbers[~np.isin(numbers, [row.number - 1 for row in torn])][: batch.num_rows]
        next_row = int(rows[-1]) + 1 if len(rows) else next_row
        values = dict(zip(batch.schema.names, batch.columns, strict=True))
        yield pa.table({**values, FILE: _repeated(file, len(rows)), ROW: rows})
    if torn:
        yield _faulty_rows(file, [(row.number - 1, _count_of_values(row), row.text) for row in torn])


def _count_of_values(row: pyarrow.csv.InvalidRow) -> str:
    return f"row has {row.actual_columns} values, the header {row.expected_columns}"


def _json_lines(file: Path, columns: Columns) -> Iterator[pa.Table]:
    wanted = (*columns.required, *columns.optional)
    with file.open(encoding="utf-8-sig") as lines:
        numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
        while chunk := list(itertools.islice(numbered, ROWS_PER_BLOCK)):
            good: list[tuple[int, dict[str, Any]]] = []
            bad: list[tuple[int, str, str]] = []
            for number, line in chunk:
                value = _parsed(line)
                if value is None:
                    bad.append((number, "row is not a JSON object", line.strip()))
                else:
                    good.append((number, value))
            odd = _odd_rows([row for _, row in good], wanted)
            bad += [(good[place][0], reason, json.dumps(good[place][1])) for place, reason in odd.items()]
            good = [row for place, row in enumerate(good) if place not in odd]
            if good:
                values = {name: _inferred([_at(row, name) for _, row in good]) for name in wanted}
                rows = pa.array([number for number, _ in good], pa.int64())
                yield pa.table({**values, FILE: _repeated(file, len(good)), ROW: rows})
            if bad:
                yield _faulty_rows(file, bad)


def _odd_rows(rows: list[dict[str, Any]], names: Sequence[str]) -> dict[int, str]:
    """Rows, by place, with a list or an object where most hold text or a number, or the other way round; and why."""
    odd: dict[int, str] = {}
    for name in names:
        nested = {
            place: isinstance(value, (list, dict))
            for place, row in enumerate(rows)
            if (value := _at(row, name)) is not None
        }
        usual = 2 * sum(nested.values()) > len(nested)
        kinds = ("text or a number", "a list or an object")
        reason = f"{name} is {kinds[not usual]}, in most rows {kinds[usual]}"
        odd |= {place: reason for place, kind in nested.items() if kind != usual}
    return odd


def _parsed(line: str) -> dict[str, Any] | None:
    """The object in `line`; None for anything else, and for half of a surrogate pair, which is no text."""
    try:
        value = json.loads(line)
        if "\\ud" in line.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _at(row: dict[str, Any], path: str) -> Any:
    value: Any = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _inferred(values: list[Any]) -> pa.Array:
    """An array of `values`; where their types differ, each as its JSON text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
        return pa.array(texts, pa.string())


def _repeated(file: Path, length: int) -> pa.Array:
    return pa.repeat(pa.scalar(str(file), pa.string()), length)


def _faulty_rows(file: Path, faults: list[tuple[int, str, str]]) -> pa.Table:
    rows, reasons, texts = zip(*faults, strict=True)
    return pa.table(
        {
            FILE: _repeated(file, len(rows)),
            ROW: pa.array(rows, pa.int64()),
            FAULT: pa.array(reasons, pa.string()),
            RAW: pa.array(texts, pa.string()),
        }
    )
