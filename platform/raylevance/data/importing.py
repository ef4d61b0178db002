"""Import: rows from a reader, checked against each other, to a folder of tables; bad rows stop it or go to quarantine.

A tables folder holds `products/`, `queries/`, `judgements/` and `events/` (those there are), each with Parquet parts,
and `quarantine/<table>/` with the columns file, row, reason and values (JSON) where rows were put aside.
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

from raylevance.data.hashing import Hashes, hash_strings
from raylevance.data.parts import Parts, Written, write_parts
from raylevance.data.rows import FAULT, FILE, ROW, with_fault
from raylevance.data.schema import KEYS, TABLES
from raylevance.errors import RaylevanceError

OnBadRow = Literal["stop", "quarantine"]


class ImportSummary(BaseModel):
    """What an import wrote: rows a table, and rows put aside a table and reason."""

    model_config = ConfigDict(frozen=True)

    rows: dict[str, int]
    quarantined: dict[str, dict[str, int]]


def import_tables(
    datasets: Mapping[str, ray.data.Dataset], output: Path, on_bad_row: OnBadRow = "stop"
) -> ImportSummary:
    """Write the rows that a reader returned to the tables folder `output`, whole or not at all.

    Checked besides what the reader checked: ids of products and queries are unique (the first row stays), and
    judgements and events refer to products and queries that are there, where those tables are imported too. Ids are
    compared by 64-bit hash: the driver and each node hold 8 bytes a product and a query, and nothing else grows with
    the data.
    Raises `RaylevanceError` for a bad row under `stop` (the first one, and how many), for a table without a good row,
    and for an `output` that has something in it.
    """
    if output.exists() and any(output.iterdir()):
        raise RaylevanceError(f"{output}: not empty; import into a new folder")
    draft = output.with_name(f".{output.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        written = _write_tables(datasets, draft, on_bad_row)
        if output.exists():
            output.rmdir()
        draft.rename(output)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    quarantined = {name: dict(sorted(table.faults.items())) for name, table in written.items() if table.faults}
    return ImportSummary(rows={name: table.rows for name, table in written.items()}, quarantined=quarantined)


def _write_tables(datasets: Mapping[str, ray.data.Dataset], draft: Path, on_bad_row: OnBadRow) -> dict[str, Written]:
    written: dict[str, Written] = {}
    known: dict[str, ray.ObjectRef[Hashes]] = {}
    for name in TABLES:
        if name not in datasets:
            continue
        rows = _with_checks(datasets[name], _check_references, known=dict(known))
        written[name] = _write(rows, name, draft)
        if name in KEYS:
            keys = np.sort(_stored_hashes(draft / name, KEYS[name]))
            repeated = np.unique(keys[1:][keys[1:] == keys[:-1]])
            if len(repeated):
                rows = _with_checks(rows, _check_repeats, repeats=ray.put(_repeats(rows, KEYS[name], repeated)))
                written[name] = _write(rows, name, draft)
            known[KEYS[name]] = ray.put(keys)
        _refuse(name, written[name], on_bad_row)
    return written


def _with_checks(rows: ray.data.Dataset, check: Any, **arguments: Any) -> ray.data.Dataset:
    return rows.map_batches(check, batch_format="pyarrow", batch_size=None, fn_kwargs=arguments)


def _write(rows: ray.data.Dataset, name: str, draft: Path) -> Written:
    folders = draft / name, draft / "quarantine" / name
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return write_parts(rows, Parts(folders[0], TABLES[name], quarantine=folders[1]))


def _refuse(name: str, table: Written, on_bad_row: OnBadRow) -> None:
    """Raise for bad rows under `stop`, and for a table that has no good row."""
    count = sum(table.faults.values())
    if table.first is not None and (on_bad_row == "stop" or not table.rows):
        others = f" (and {count - 1} more bad rows of {name})" if count > 1 else ""
        cure = "correct it, or put bad rows aside with quarantine" if table.rows else "no good row is left"
        raise RaylevanceError(f"{table.first}{others}; {cure}")
    if not table.rows:
        raise RaylevanceError(f"{name}: empty: there are no rows to import")


def _check_references(rows: pa.Table, known: Mapping[str, "ray.ObjectRef[Hashes]"]) -> pa.Table:
    """Mark the rows whose query_id or product_id is in none of `known` (sorted hashes by column)."""
    for column, reference in known.items():
        if column in rows.column_names:
            missing = ~_is_in(hash_strings(rows[column]), ray.get(reference))
            bad = pc.and_(rows[column].combine_chunks().is_valid(), pa.array(missing))
            rows = with_fault(rows, bad, f"unknown {column}")
    return rows


def _check_repeats(rows: pa.Table, repeats: "ray.ObjectRef[pa.Array]") -> pa.Table:
    return with_fault(rows, pc.is_in(_places(rows), ray.get(repeats)), "id is not unique")


def _is_in(hashes: Hashes, known: Hashes) -> npt.NDArray[np.bool_]:
    if not len(known):
        return np.zeros(len(hashes), np.bool_)
    nearest = known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)]
    return np.asarray(nearest == hashes)


def _stored_hashes(folder: Path, column: str) -> Hashes:
    if not folder.is_dir():
        return np.empty(0, np.uint64)
    batches = pa.dataset.dataset(folder, format="parquet").to_batches(columns=[column])
    return np.concatenate([np.empty(0, np.uint64), *(hash_strings(batch.column(column)) for batch in batches)])


def _repeats(rows: ray.data.Dataset, key: str, repeated: Hashes) -> pa.Array:
    """The places of the good rows that repeat the id of an earlier one."""
    candidates = _with_checks(rows, _repeated_rows, key=key, repeated=ray.put(repeated))
    batches = list(candidates.iter_batches(batch_size=None, batch_format="pyarrow"))
    ordered = pa.concat_tables(batches).sort_by([(FILE, "ascending"), (ROW, "ascending")])
    is_later = np.ones(ordered.num_rows, np.bool_)
    is_later[np.unique(hash_strings(ordered[key]), return_index=True)[1]] = False
    return _places(ordered.filter(pa.array(is_later)))


def _repeated_rows(rows: pa.Table, key: str, repeated: "ray.ObjectRef[Hashes]") -> pa.Table:
    hit = pa.array(_is_in(hash_strings(rows[key]), ray.get(repeated)))
    return rows.filter(pc.and_(hit, rows[FAULT].combine_chunks().is_null())).select([key, FILE, ROW])


def _places(rows: pa.Table) -> pa.Array:
    """One string a row for the file and row it came from."""
    return pc.binary_join_element_wise(rows[FILE], rows[ROW].cast(pa.string()), "\n").combine_chunks()
