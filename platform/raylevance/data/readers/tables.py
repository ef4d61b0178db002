"""Files that already have this project's columns: Parquet, CSV or JSON Lines, a file or a folder a table."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.data.files import Columns, column_names, matching_files, read_rows
from raylevance.data.schema import CATEGORY_SEPARATOR, TABLES, required
from raylevance.errors import RaylevanceError, nearest


def read_tables(folder: Path) -> dict[str, ray.data.Dataset]:
    """Rows of each table that `folder` holds as <table>.parquet, .csv, .tsv or .jsonl, or as a folder of such files.

    A column that may be null may be missing. A category in a text file is its path joined by " > ". Raises
    `RaylevanceError` where there is no table, and for an unknown or missing column.
    """
    files = {table: matching_files(folder, table) for table in TABLES}
    if not any(files.values()):
        raise RaylevanceError(f"{folder}: has no table; expected {', '.join(TABLES)} as .parquet, .csv, .tsv or .jsonl")
    return {table: _read(table, found) for table, found in files.items() if found}


def _read(table: str, files: list[Path]) -> ray.data.Dataset:
    schema = TABLES[table]
    for file in files:
        _refuse_unknown(file, schema)
    optional = tuple(field.name for field in schema if field.nullable)
    return read_rows(files, table, Columns(tuple(required(schema)), optional), _with_category_path)


def _refuse_unknown(file: Path, schema: pa.Schema) -> None:
    for name in column_names(file):
        if name not in schema.names:
            raise RaylevanceError(f"{file}: unknown column {name!r}; {nearest(name, schema.names)}")


def _with_category_path(rows: pa.Table) -> pa.Table:
    if "category" not in rows.column_names:
        return rows
    return rows.set_column(rows.column_names.index("category"), "category", category_path(rows["category"]))


def category_path(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of strings, however they are held, split into levels; any other column as it is."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return column
    return pc.split_pattern(column.cast(pa.string()), CATEGORY_SEPARATOR)
