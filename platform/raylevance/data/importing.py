"""Import the rows of a reader into a folder of tables. Bad rows stop the import or go to quarantine.

A tables folder holds Parquet files in `products/`, `queries/`, `judgements/` and `events/`, as far as these tables were
imported. Bad rows are in `quarantine/<table>/`, with the columns file, row, reason and values (JSON).
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import ray
import ray.data
from pydantic import BaseModel, ConfigDict

from raylevance.data.checked_rows import FAULT, FILE, ROW, with_fault
from raylevance.data.hashing import Hashes, hash_strings
from raylevance.data.parquet_parts import PartFiles, WriteSummary, write_parts
from raylevance.data.repeated_rows import count_repeated_rows
from raylevance.data.schema import KEYS, TABLES
from raylevance.errors import RaylevanceError

OnBadRow = Literal["stop", "quarantine"]


class ImportSummary(BaseModel):
    """The outcome of an import: the rows and files that were read, by what became of them.

    For each table, `read` is the number of rows in its files. It is the sum of `rows`, which were written, of
    `quarantined` and of `dropped`, which the reader leaves out; the last two are counted by table and reason.
    `repeated_events` of the written events repeat an earlier one in all columns. `files` are the files that were read.
    """

    model_config = ConfigDict(frozen=True)

    read: dict[str, int]
    rows: dict[str, int]
    quarantined: dict[str, dict[str, int]]
    dropped: dict[str, dict[str, int]]
    repeated_events: int
    files: list[str]


def import_tables(
    datasets: Mapping[str, ray.data.Dataset], output: Path, on_bad_row: OnBadRow = "stop"
) -> ImportSummary:
    """Write the rows that a reader returned to the tables folder `output`. A failed import leaves nothing there.

    In addition to the checks of the reader,

    - the ids of products and queries must be unique; the first row with an id is kept,
    - judgements and events must refer to known products and queries, if those tables are imported too.

    Ids are compared by their 64-bit hash: the driver and each node hold 8 bytes for each product and query. The driver
    also holds the id, file and row number of every row that shares its id with another one; no other memory grows with
    the data.

    Raises `RaylevanceError`

    - for a bad row if `on_bad_row` is stop, naming the first one and how many there are,
    - for a table without a good row,
    - if `output` exists and is not empty.
    """
    if output.exists() and any(output.iterdir()):
        raise RaylevanceError(f"{output}: is not empty; import into a new folder")
    draft = output.with_name(f".{output.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        written = _write_tables(datasets, draft, on_bad_row)
        repeated_events = count_repeated_rows(draft / "events") if "events" in written else 0
        if output.exists():
            output.rmdir()
        draft.rename(output)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return ImportSummary(
        read={name: each.rows + each.bad_rows.total() + each.dropped.total() for name, each in written.items()},
        rows={name: each.rows for name, each in written.items()},
        quarantined={name: dict(sorted(each.bad_rows.items())) for name, each in written.items() if each.bad_rows},
        dropped={name: dict(sorted(each.dropped.items())) for name, each in written.items() if each.dropped},
        repeated_events=repeated_events,
        files=sorted(set().union(*(each.files for each in written.values()))),
    )


def _write_tables(
    datasets: Mapping[str, ray.data.Dataset], draft: Path, on_bad_row: OnBadRow
) -> dict[str, WriteSummary]:
    written: dict[str, WriteSummary] = {}
    known_ids: dict[str, ray.ObjectRef[Hashes]] = {}
    for name in TABLES:
        if name not in datasets:
            continue
        rows = _with_checks(datasets[name], _check_references, known_ids=dict(known_ids))
        written[name] = _write(rows, name, draft)
        if name in KEYS:
            ids = np.sort(_stored_hashes(draft / name, KEYS[name]))
            repeated = np.unique(ids[1:][ids[1:] == ids[:-1]])
            if len(repeated):
                rows = _with_checks(rows, _check_repeats, repeats=ray.put(_repeated_rows(rows, KEYS[name], repeated)))
                written[name] = _write(rows, name, draft)
            known_ids[KEYS[name]] = ray.put(ids)
        _raise_for_bad_rows(name, written[name], on_bad_row)
    return written


def _with_checks(rows: ray.data.Dataset, check: Any, **arguments: Any) -> ray.data.Dataset:
    return rows.map_batches(check, batch_format="pyarrow", batch_size=None, fn_kwargs=arguments)


def _write(rows: ray.data.Dataset, name: str, draft: Path) -> WriteSummary:
    folders = draft / name, draft / "quarantine" / name
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return write_parts(rows, PartFiles(folders[0], TABLES[name], quarantine=folders[1]))


def _raise_for_bad_rows(name: str, summary: WriteSummary, on_bad_row: OnBadRow) -> None:
    """Raise if there is a bad row and `on_bad_row` is stop, or if the table has no good row.

    Queries are not needed where the reader left all of them out: a log of recommendations has none with a text.
    """
    count = sum(summary.bad_rows.values())
    if summary.first_bad is not None and (on_bad_row == "stop" or not summary.rows):
        others = f" (and {count - 1} more bad rows of {name})" if count > 1 else ""
        advice = (
            "correct it, or put bad rows aside (--on-bad-row quarantine; in a recipe, data.on_bad_row=quarantine)"
            if summary.rows
            else "no good row is left"
        )
        raise RaylevanceError(f"{summary.first_bad}{others}; {advice}")
    if not summary.rows and not (name == "queries" and summary.dropped):
        left_out = ", ".join(f"{count} left out: {reason}" for reason, count in summary.dropped.most_common())
        raise RaylevanceError(f"{name}: empty: there are no rows to import{f' ({left_out})' if left_out else ''}")


def _check_references(rows: pa.Table, known_ids: Mapping[str, "ray.ObjectRef[Hashes]"]) -> pa.Table:
    """Mark the rows whose query_id or product_id is not among `known_ids`, the sorted hashes of each column."""
    for column, hashes in known_ids.items():
        if column in rows.column_names:
            missing = ~_is_in(hash_strings(rows[column]), ray.get(hashes))
            bad = pc.and_(rows[column].combine_chunks().is_valid(), pa.array(missing))
            rows = with_fault(rows, bad, f"unknown {column}")
    return rows


def _check_repeats(rows: pa.Table, repeats: "ray.ObjectRef[pa.Array]") -> pa.Table:
    return with_fault(rows, pc.is_in(_origins(rows), ray.get(repeats)), "id is not unique")


def _is_in(hashes: Hashes, sorted_hashes: Hashes) -> npt.NDArray[np.bool_]:
    if not len(sorted_hashes):
        return np.zeros(len(hashes), np.bool_)
    nearest = sorted_hashes[np.minimum(np.searchsorted(sorted_hashes, hashes), len(sorted_hashes) - 1)]
    return np.asarray(nearest == hashes)


def _stored_hashes(folder: Path, column: str) -> Hashes:
    if not folder.is_dir():
        return np.empty(0, np.uint64)
    batches = pa.dataset.dataset(folder, format="parquet").to_batches(columns=[column])
    return np.concatenate([np.empty(0, np.uint64), *(hash_strings(batch.column(column)) for batch in batches)])


def _repeated_rows(rows: ray.data.Dataset, key: str, repeated: Hashes) -> pa.Array:
    """Return the origins of the good rows that repeat the id of an earlier row (see `_origins`)."""
    candidates = _with_checks(rows, _rows_with_ids, key=key, hashes=ray.put(repeated))
    batches = list(candidates.iter_batches(batch_size=None, batch_format="pyarrow"))
    ordered = pa.concat_tables(batches).sort_by([(FILE, "ascending"), (ROW, "ascending")])
    is_later = np.ones(ordered.num_rows, np.bool_)
    is_later[np.unique(hash_strings(ordered[key]), return_index=True)[1]] = False
    return _origins(ordered.filter(pa.array(is_later)))


def _rows_with_ids(rows: pa.Table, key: str, hashes: "ray.ObjectRef[Hashes]") -> pa.Table:
    has_id = pa.array(_is_in(hash_strings(rows[key]), ray.get(hashes)))
    return rows.filter(pc.and_(has_id, rows[FAULT].combine_chunks().is_null())).select([key, FILE, ROW])


def _origins(rows: pa.Table) -> pa.Array:
    """Return one string for each row that names its file and its row number."""
    return pc.binary_join_element_wise(rows[FILE], rows[ROW].cast(pa.string()), "\n").combine_chunks()
