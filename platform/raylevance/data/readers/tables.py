"""Read files that already have this project's columns: a Parquet, CSV or JSON file or folder for each table."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.data.actions import our_action
from raylevance.data.conversions import Kind
from raylevance.data.input_files import matching_files
from raylevance.data.schema import TABLES, required_columns
from raylevance.data.streamed_files import Columns, read_rows
from raylevance.errors import RaylevanceError

OTHER_SPELLINGS = {"judgements": ("judgments",)}


def read_tables(folder: Path) -> dict[str, ray.data.Dataset]:
    """Return the rows of each table in `folder`.

    A table is a file <table>.parquet, .csv, .tsv, .jsonl or .json, or a folder of such files; text may be compressed,
    as .csv.gz or .jsonl.zst. Columns that may be null may also be missing. A category that is a string is a path such
    as Home > Kitchen (see `category_paths`). Actions may be in other spellings (see `actions`).

    Raises `RaylevanceError` if there is no table, if a table is both a folder and a file beside it, or if a column is
    unknown, missing or there twice.
    """
    files = {table: matching_files(folder, table, *OTHER_SPELLINGS.get(table, ())) for table in TABLES}
    if not any(files.values()):
        raise RaylevanceError(f"{folder}: has no table; expected {', '.join(TABLES)} as .parquet, .csv, .tsv or .jsonl")
    for table, its_files in files.items():
        _refuse_partitions(table, folder, its_files)
    return {table: _read(table, its_files) for table, its_files in files.items() if its_files}


def _refuse_partitions(table: str, folder: Path, files: list[Path]) -> None:
    """Raise `RaylevanceError` for a file in a subfolder such as locale=us, which has the value of a column."""
    for file in files:
        for part in file.relative_to(folder).parts[:-1]:
            column, equals, _ = part.partition("=")
            if equals and column in TABLES[table].names:
                raise RaylevanceError(
                    f"{file}: the value of {column} is in the name of its folder, which is not read; write it as a "
                    "column of the file"
                )


def _read(table: str, files: list[Path]) -> ray.data.Dataset:
    schema = TABLES[table]
    one_line = tuple(name for name in ("title", "query") if name in schema.names)
    kinds = {field.name: Kind.of(field) for field in schema}
    columns = Columns(kinds, tuple(required_columns(schema)), one_line, only_these=True)
    return read_rows(files, table, columns, _with_our_actions if table == "events" else _unchanged)


def _unchanged(rows: pa.Table) -> pa.Table:
    return rows


def _with_our_actions(rows: pa.Table) -> pa.Table:
    place = rows.column_names.index("action")
    return rows.set_column(place, "action", pc.coalesce(our_action(rows["action"]), rows["action"]))
