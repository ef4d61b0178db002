"""Read files that already have this project's columns: a Parquet, CSV or JSON Lines file or folder for each table."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.data.schema import CATEGORY_SEPARATOR, TABLES, required_columns
from raylevance.data.streamed_files import Columns, column_names, matching_files, read_rows
from raylevance.errors import RaylevanceError, nearest


def read_tables(folder: Path) -> dict[str, ray.data.Dataset]:
    """Return the rows of each table in `folder`.

    A table is a file <table>.parquet, .csv, .tsv or .jsonl, or a folder of such files. Columns that may be null may
    also be missing. A category that is a string is a path joined by " > ".

    Raises `RaylevanceError` if there is no table, or if a column is unknown or missing.
    """
    files = {table: matching_files(folder, table) for table in TABLES}
    if not any(files.values()):
        raise RaylevanceError(f"{folder}: has no table; expected {', '.join(TABLES)} as .parquet, .csv, .tsv or .jsonl")
    return {table: _read(table, its_files) for table, its_files in files.items() if its_files}


def _read(table: str, files: list[Path]) -> ray.data.Dataset:
    schema = TABLES[table]
    for file in files:
        _refuse_unknown(file, schema)
    optional = tuple(field.name for field in schema if field.nullable)
    return read_rows(files, table, Columns(tuple(required_columns(schema)), optional), _with_category_path)


def _refuse_unknown(file: Path, schema: pa.Schema) -> None:
    for name in column_names(file):
        if name not in schema.names:
            raise RaylevanceError(f"{file}: unknown column {name!r}; {nearest(name, schema.names)}")


def _with_category_path(rows: pa.Table) -> pa.Table:
    if "category" not in rows.column_names:
        return rows
    return rows.set_column(rows.column_names.index("category"), "category", split_category_paths(rows["category"]))


def split_category_paths(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Split a column of strings into category levels. A column of any other type is returned unchanged."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return column
    return pc.split_pattern(column.cast(pa.string()), CATEGORY_SEPARATOR)
