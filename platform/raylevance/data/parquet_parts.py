"""Write rows as Parquet files whose names and bytes depend on the rows alone, with bad rows kept apart."""

import errno
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data
from ray.data.block import Block, BlockAccessor
from ray.data.datasource import Datasink, WriteResult

from raylevance.data.checked_rows import DROPPED, FAULT, FILE, RAW, ROW
from raylevance.data.failed_datasets import unwrapped_error
from raylevance.errors import RaylevanceError

if TYPE_CHECKING:
    from ray.data._internal.execution.interfaces import TaskContext

SHOWN_CHARACTERS = 160
QUARANTINE = pa.schema({"file": pa.string(), "row": pa.int64(), "reason": pa.string(), "values": pa.string()})


class BadRow(NamedTuple):
    """A bad row: where it is, what is wrong with it, and its values as JSON. Bad rows sort by file and row."""

    file: str
    row: int
    reason: str
    values: str

    def __str__(self) -> str:
        values = self.values if len(self.values) <= SHOWN_CHARACTERS else f"{self.values[:SHOWN_CHARACTERS]}..."
        return f"{self.file}: row {self.row}: {self.reason}: {' '.join(values.split())}"


@dataclass
class WriteSummary:
    """The number of good rows written, of bad and of left out rows by reason, the files, and the first bad row.

    `files` and `first_bad` are empty if bad rows are only counted (see `PartFiles`).
    """

    rows: int = 0
    bad_rows: Counter[str] = field(default_factory=Counter)
    first_bad: BadRow | None = None
    dropped: Counter[str] = field(default_factory=Counter)
    files: set[str] = field(default_factory=set)

    def add(self, other: "WriteSummary") -> None:
        """Add the counts of `other` and keep the earlier of the two first bad rows."""
        self.rows += other.rows
        self.bad_rows += other.bad_rows
        self.dropped += other.dropped
        self.files |= other.files
        self.first_bad = min((row for row in (self.first_bad, other.first_bad) if row), default=None)


class PartFiles(Datasink[WriteSummary]):
    """A Ray Data sink: a folder of files `part-<task>.parquet` with the good rows, in the order of the rows.

    `Dataset.write_parquet` is not used because it puts a random id into the file names, so that the same rows would
    make another version of an artifact.
    """

    def __init__(self, folder: Path, schema: pa.Schema, quarantine: Path | None = None) -> None:
        """Write good rows to `folder`, reduced and cast to `schema`, and bad rows to the folder `quarantine`.

        Without `quarantine`, bad rows are only counted. Rows without the column FAULT are all good.
        """
        self._folder = folder
        self._schema = schema
        self._quarantine = quarantine
        self.summary = WriteSummary()

    def write(self, blocks: Iterable[Block], ctx: "TaskContext") -> WriteSummary:
        """Write the blocks of one task. A task that is run again overwrites its own files.

        Raises `RaylevanceError` if the disk is full.
        """
        try:
            return self._write(blocks, f"part-{ctx.task_idx:06d}.parquet")
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise RaylevanceError(f"{self._folder}: the disk is full") from None
            raise

    def _write(self, blocks: Iterable[Block], name: str) -> WriteSummary:
        summary = WriteSummary()
        with ExitStack() as files:
            good_file = files.enter_context(_PartFile(self._folder / name, self._schema))
            bad_file = files.enter_context(_PartFile(self._quarantine / name, QUARANTINE)) if self._quarantine else None
            for block in blocks:
                rows = BlockAccessor.for_block(block).to_arrow()
                if not rows.num_rows:
                    continue
                if FAULT not in rows.column_names:
                    rows = rows.append_column(FAULT, pa.nulls(rows.num_rows, pa.string()))
                is_good = rows[FAULT].is_null()
                good, bad = rows.filter(is_good), rows.filter(pc.invert(is_good))
                good_file.write(good.select(self._schema.names).cast(self._schema))
                written = WriteSummary(good.num_rows)
                if bad_file:
                    written.files = set(rows[FILE].unique().to_pylist())
                    written.dropped, bad = _split_dropped(bad)
                    bad_file.write(bad.select([FILE, ROW, FAULT, RAW]).rename_columns(QUARANTINE.names))
                    written.first_bad = _first_bad_row(bad)
                written.bad_rows = Counter(bad[FAULT].to_pylist())
                summary.add(written)
        return summary

    def on_write_complete(self, write_result: WriteResult[WriteSummary]) -> None:
        """Add up the summaries of all tasks. Ray Data calls this when the last task is done."""
        for summary in write_result.write_returns:
            self.summary.add(summary)


def write_parts(rows: ray.data.Dataset, parts: PartFiles) -> WriteSummary:
    """Write `rows` to `parts` in their order.

    A `RaylevanceError` that a task raised is raised as it was, without Ray's wrapper.
    """
    rows.context.execution_options.preserve_order = True
    try:
        rows.write_datasink(parts)
    except Exception as error:
        original = unwrapped_error(error)
        if original is None:
            raise
        raise original from None
    return parts.summary


class _PartFile:
    """A Parquet file that is created when its first row is written."""

    def __init__(self, file: Path, schema: pa.Schema) -> None:
        self._file = file
        self._schema = schema
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "_PartFile":
        return self

    def write(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        if self._writer is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")
        self._writer.write_table(rows)

    def __exit__(self, *exception: object) -> None:
        if self._writer is not None:
            self._writer.close()


def _split_dropped(rows: pa.Table) -> tuple[Counter[str], pa.Table]:
    """Return how many rows were left out, by reason, and the bad rows among `rows`."""
    dropped: Counter[str] = Counter()
    for row in rows.filter(rows[DROPPED].is_valid()).select([FAULT, DROPPED]).to_pylist():
        dropped[row[FAULT]] += row[DROPPED]
    return dropped, rows.filter(rows[DROPPED].is_null())


def _first_bad_row(bad: pa.Table) -> BadRow | None:
    rows = bad.select([FILE, ROW, FAULT, RAW]).sort_by([(FILE, "ascending"), (ROW, "ascending")]).slice(0, 1)
    return next((BadRow(*row.values()) for row in rows.to_pylist()), None)
