"""Writing rows as Parquet parts whose names and bytes depend on the rows alone, good and bad apart."""

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

from raylevance.data.rows import FAULT, FILE, RAW, ROW
from raylevance.errors import RaylevanceError, UsageError

if TYPE_CHECKING:
    from ray.data._internal.execution.interfaces import TaskContext

SHOWN_VALUES = 160
QUARANTINE = pa.schema({"file": pa.string(), "row": pa.int64(), "reason": pa.string(), "values": pa.string()})


class Fault(NamedTuple):
    """A bad row; the smallest is the first one in the files."""

    file: str
    row: int
    reason: str
    values: str

    def __str__(self) -> str:
        values = self.values if len(self.values) <= SHOWN_VALUES else f"{self.values[:SHOWN_VALUES]}..."
        return f"{self.file}: row {self.row}: {self.reason}: {' '.join(values.split())}"


@dataclass
class Written:
    """What was written: good rows, bad rows by reason, and the first bad row where they are put aside."""

    rows: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    first: Fault | None = None

    def add(self, other: "Written") -> None:
        self.rows += other.rows
        self.faults += other.faults
        self.first = min((fault for fault in (self.first, other.first) if fault), default=None)


class Parts(Datasink[Written]):
    """A folder of `part-<task>.parquet` with the good rows, in the order of the rows; bad rows go to `quarantine`.

    `Dataset.write_parquet` puts a random id into the names, so the same rows would make another version of an artifact.
    """

    def __init__(self, folder: Path, schema: pa.Schema, quarantine: Path | None = None) -> None:
        """`schema`: what a good row is cut down and cast to. Without `quarantine` bad rows are only counted."""
        self._folder = folder
        self._schema = schema
        self._quarantine = quarantine
        self.written = Written()

    def write(self, blocks: Iterable[Block], ctx: "TaskContext") -> Written:
        """Write one task's blocks, one after the other; a task that is run again overwrites its own parts."""
        try:
            return self._write(blocks, f"part-{ctx.task_idx:06d}.parquet")
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise RaylevanceError(f"{self._folder}: the disk is full") from None
            raise

    def _write(self, blocks: Iterable[Block], name: str) -> Written:
        written = Written()
        with ExitStack() as files:
            good = files.enter_context(_Part(self._folder / name, self._schema))
            bad = files.enter_context(_Part(self._quarantine / name, QUARANTINE)) if self._quarantine else None
            for block in blocks:
                rows = BlockAccessor.for_block(block).to_arrow()
                if not rows.num_rows:
                    continue
                is_good = rows[FAULT].is_null()
                kept, faulty = rows.filter(is_good), rows.filter(pc.invert(is_good))
                good.write(kept.select(self._schema.names).cast(self._schema))
                if bad:
                    bad.write(faulty.select([FILE, ROW, FAULT, RAW]).rename_columns(QUARANTINE.names))
                written.add(Written(kept.num_rows, _counts(faulty), _first(faulty) if bad else None))
        return written

    def on_write_complete(self, write_result: WriteResult[Written]) -> None:
        """Add up what the tasks wrote."""
        for written in write_result.write_returns:
            self.written.add(written)


def write_parts(rows: ray.data.Dataset, parts: Parts) -> Written:
    """Write `rows`, in their order. Raises the `RaylevanceError` that a task raised, as itself."""
    rows.context.execution_options.preserve_order = True
    try:
        rows.write_datasink(parts)
    except Exception as error:
        own = own_error(error)
        if own is None:
            raise
        raise own from None
    return parts.written


def own_error(error: BaseException) -> RaylevanceError | None:
    """The `RaylevanceError` that Ray wrapped into `error`, if that is what happened."""
    seen: BaseException | None = error
    while seen is not None:
        # Ray's wrapper is an instance of what it wraps, by another class; and Ray adds lines of advice to the text.
        if type(seen) in (RaylevanceError, UsageError):
            return type(seen)(str(seen).splitlines()[0])  # type: ignore[return-value]
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None


class _Part:
    """A Parquet file that comes to be with its first row."""

    def __init__(self, file: Path, schema: pa.Schema) -> None:
        self._file = file
        self._schema = schema
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "_Part":
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


def _counts(faulty: pa.Table) -> Counter[str]:
    return Counter(faulty[FAULT].to_pylist())


def _first(faulty: pa.Table) -> Fault | None:
    rows = faulty.select([FILE, ROW, FAULT, RAW]).sort_by([(FILE, "ascending"), (ROW, "ascending")]).slice(0, 1)
    return next((Fault(*row.values()) for row in rows.to_pylist()), None)
