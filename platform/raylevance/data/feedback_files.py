"""Compact the many small files that a server writes of its events, `STORE/feedback/ubi_*.parquet`: one for each day.

A file is named `<table>-<day>T<time>-<id>.parquet`. The file of a day names in its metadata the files that it holds.
It appears as a whole before these are deleted, and the next call deletes what a kill left of them: no row is lost, and
none stays there twice.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from raylevance.artifacts import Store, flush
from raylevance.errors import RaylevanceError, one_line

FOLDER = "feedback"
NAME = re.compile(r"(ubi_queries|ubi_events)-(\d{8})T\w+-\w+\.parquet")
HOLDS = b"raylevance.holds"
"""The metadata of a compacted file: the names of the files that it holds, as a JSON list."""
ROWS_PER_GROUP = 131_072


@dataclass(frozen=True)
class Compacted:
    """The number of files before and after, and the rows of the new ones."""

    files_before: int
    files_after: int
    rows: int


def compact(store: str, today: str | None = None) -> Compacted:
    """Make one file of those of each table and day before `today`, in the folder `feedback` of a store.

    `store` is a folder or URI, and `today` a day such as 20260501, by default that of UTC. Memory is that of
    `ROWS_PER_GROUP` rows. Only one process may do this at a time; servers may go on writing.

    Raises `RaylevanceError` if a file can't be read or the folder can't be written; nothing is deleted of that day.
    """
    folder = _Folder(store)
    days: dict[tuple[str, str], list[str]] = defaultdict(list)
    names = folder.names()
    for name in names:
        if match := NAME.fullmatch(name):
            days[match[1], match[2]].append(name)
    before = today or f"{datetime.now(UTC):%Y%m%d}"
    rows = sum(_compact_day(folder, *key, files) for key, files in sorted(days.items()) if key[1] < before)
    return Compacted(len(names), len(folder.names()), rows)


def _compact_day(folder: "_Folder", table: str, day: str, names: list[str]) -> int:
    """Leave one file of the files `names` of a day, and return the rows that were written."""
    held = {name: folder.held(name) for name in names}
    left = set().union(*held.values()).intersection(names)
    folder.delete(left)
    names = [name for name in names if name not in left]
    if len(names) < 2:
        return 0
    holds = sorted(set(names).union(*(held[name] for name in names)))
    name = f"{table}-{day}T000000-{hashlib.sha256(json.dumps(holds).encode()).hexdigest()[:12]}.parquet"
    rows = folder.write(name, names, holds)
    folder.delete(names)
    return rows


class _Folder:
    """The folder `feedback` of a store, in a file system or an object store."""

    def __init__(self, store: str) -> None:
        root = Store(store)
        self._work = root.work_folder("feedback-compaction")
        self._fs, base = fs.FileSystem.from_uri(store) if "://" in store else (fs.LocalFileSystem(), str(root))
        self._path = f"{base}/{FOLDER}"

    def names(self) -> list[str]:
        """Return the names of its Parquet files, sorted; none where there is no folder."""
        found = self._fs.get_file_info(fs.FileSelector(self._path, allow_not_found=True))
        return sorted(each.base_name for each in found if each.is_file and each.base_name.endswith(".parquet"))

    def held(self, name: str) -> set[str]:
        """Return the names of the files that the file `name` holds, none for one that a server wrote."""
        with self._reading(name) as file:
            return set(json.loads((file.schema_arrow.metadata or {}).get(HOLDS, b"[]")))

    def write(self, name: str, parts: list[str], holds: list[str]) -> int:
        """Write the rows of `parts` as the file `name`, which appears as a whole. Return how many they are."""
        draft = self._work / name
        schema = self._schema(parts).with_metadata({HOLDS: json.dumps(holds).encode()})
        try:
            with pq.ParquetWriter(draft, schema, compression="zstd") as writer:
                for group in _groups(self._batches(parts), schema):
                    writer.write_table(group)
            rows = int(pq.read_metadata(draft).num_rows)
            self._publish(draft, name)
        except OSError as error:
            raise RaylevanceError(f"{self._path}/{name}: can't be written: {one_line(error)}") from None
        finally:
            draft.unlink(missing_ok=True)
        return rows

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; one that is gone already is no fault."""
        for name in sorted(names):
            try:
                self._fs.delete_file(f"{self._path}/{name}")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise RaylevanceError(f"{self._path}/{name}: can't be deleted: {one_line(error)}") from None

    def _schema(self, parts: list[str]) -> pa.Schema:
        schemas = []
        for name in parts:
            with self._reading(name) as file:
                schemas.append(file.schema_arrow.remove_metadata())
        try:
            return pa.unify_schemas(schemas)
        except pa.ArrowException as error:
            raise RaylevanceError(f"{self._path}/{parts[0]}: others have other columns: {one_line(error)}") from None

    def _batches(self, parts: list[str]) -> Iterator[pa.RecordBatch]:
        for name in parts:
            with self._reading(name) as file:
                yield from file.iter_batches()

    @contextmanager
    def _reading(self, name: str) -> Iterator[pq.ParquetFile]:
        try:
            with pq.ParquetFile(f"{self._path}/{name}", filesystem=self._fs) as file:
                yield file
        except (OSError, ValueError, pa.ArrowException) as error:
            raise RaylevanceError(f"{self._path}/{name}: can't be read: {one_line(error)}") from None

    def _publish(self, draft: Path, name: str) -> None:
        if isinstance(self._fs, fs.LocalFileSystem):
            flush(draft)
            draft.replace(Path(self._path, name))
            flush(Path(self._path))
        else:
            fs.copy_files(str(draft), f"{self._path}/{name}", fs.LocalFileSystem(), self._fs)


def _groups(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows of `batches` as tables of `schema`, of about `ROWS_PER_GROUP` rows; absent columns are null."""
    waiting: list[pa.Table] = []
    for batch in batches:
        waiting.append(pa.Table.from_batches([batch]))
        if sum(table.num_rows for table in waiting) >= ROWS_PER_GROUP:
            yield _joined(waiting, schema)
            waiting = []
    if waiting:
        yield _joined(waiting, schema)


def _joined(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    joined = pa.concat_tables([schema.empty_table(), *tables], promote_options="default")
    return joined.select(schema.names).cast(schema)
