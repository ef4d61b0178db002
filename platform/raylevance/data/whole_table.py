"""Read one table into memory from a Parquet, CSV or JSON Lines file."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from raylevance.errors import RaylevanceError, UsageError, nearest

NUMERIC_COLUMNS = ("grade", "label", "confidence")
"""CSV columns that are read as numbers if they hold numbers. All others stay text, such as an id made of digits."""


def _read_csv(file: Path) -> pa.Table:
    """Read a CSV file. A value may span several lines, and an empty value is null."""
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    with pa.csv.open_csv(file, parse_options=parse) as reader:
        names = reader.schema.names
    types = {name: pa.string() for name in names if name not in NUMERIC_COLUMNS}
    convert = pa.csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""])
    return pa.csv.read_csv(file, parse_options=parse, convert_options=convert)


READERS: dict[str, Callable[[Path], pa.Table]] = {
    ".parquet": pa.parquet.read_table,
    ".csv": _read_csv,
    ".jsonl": pa.json.read_json,
}


def read_table(file: Path, columns: Sequence[str] = ()) -> pa.Table:
    """Return the whole table in `file`, which must have `columns` and at least one row.

    Raises

    - `UsageError` for an unknown kind of file,
    - `RaylevanceError` if the file is missing, can't be read or has no rows, or if a column is missing.
    """
    if file.suffix not in READERS:
        raise UsageError(f"{file}: unknown kind of file; use one of {', '.join(READERS)}")
    try:
        table = READERS[file.suffix](file)
    except FileNotFoundError:
        raise RaylevanceError(f"{file}: no such file") from None
    except (pa.ArrowInvalid, OSError) as error:
        reason = " ".join(str(error).split())
        raise RaylevanceError(f"{file}: can't be read, it may be incomplete: {reason[:200]}") from None
    for column in columns:
        if column not in table.column_names:
            raise RaylevanceError(f"{file}: no column {column!r}; {nearest(column, table.column_names)}")
    if table.num_rows == 0:
        raise RaylevanceError(f"{file}: has no rows")
    return table
