"""Keep what users did with answers (UBI events), so that tomorrow's graph is built from today's serving.

Events are on the disk before they are acknowledged: each process appends them, and the queries of its answers, to a
journal (`serve.journal`) in the store's folder for unfinished work. Journals become Parquet files in the store:

    STORE/feedback/ubi_queries-<time>-<id>.parquet
    STORE/feedback/ubi_events-<time>-<id>.parquet

`raylevance data import ubi --from STORE/feedback` reads them, and `raylevance feedback compact` makes one file a day of
them. A file has the name of its journal, so a journal that is published twice, because its process was killed before it
could remove it, replaces its own files. The journal of a process that died is published by any other process on the
same machine, or with the same store as a folder.
"""

import asyncio
import hashlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq
from pyarrow import fs

from raylevance.artifacts import Store, flush
from raylevance.client.messages import Event, EventsKept
from raylevance.errors import one_line
from serve.journal import SUFFIX, Journal, unlocked

log = logging.getLogger(__name__)

FOLDER = "feedback"
EVENTS_SUFFIX = ".parquet"
"""Of events whose queries are in the store already, in the folder of journals."""
DAMAGED_SUFFIX = ".damaged"
EVENTS_WAIT = 1.5
"""More than 1, because no process publishes to the second."""

TIME = pa.timestamp("ms", "UTC")
OBJECT = pa.struct([("object_id", pa.string())])
POSITION = pa.struct([("ordinal", pa.int32())])
EVENTS = pa.schema(
    [
        ("event_id", pa.string()),
        ("action_name", pa.string()),
        ("query_id", pa.string()),
        ("timestamp", TIME),
        ("client_id", pa.string()),
        ("session_id", pa.string()),
        ("event_attributes", pa.struct([("object", OBJECT), ("position", POSITION)])),
    ]
)
QUERIES = pa.schema([("query_id", pa.string()), ("user_query", pa.string()), ("timestamp", TIME)])
LINES = pa.schema([*EVENTS, QUERIES.field("user_query")])
"""The lines of a journal: events, and answers, which have no `event_id`."""
AS_LINES = pyarrow.json.ParseOptions(
    explicit_schema=LINES.set(LINES.get_field_index("timestamp"), pa.field("timestamp", pa.string())),
    unexpected_field_behavior="ignore",
)


@dataclass
class Counts:
    """The events and queries of this process by what has become of them since it started.

    `repeated_events` were left out of files that have them already. `torn_lines` were cut off by a crash before they
    were acknowledged. `damaged_lines` can't be read, and are kept aside. `failures` count the attempts to publish
    that failed; each is made again.
    """

    events: int = 0
    queries: int = 0
    repeated_events: int = 0
    torn_lines: int = 0
    damaged_lines: int = 0
    lost_queries: int = 0
    failures: int = 0


class Feedback:
    """Keeps the events of one process in a store. Call `close` at the end.

    Two threads write; the event loop never waits for a disk.
    """

    def __init__(self, store: str | Path, publish_every_s: float = 300, segment_bytes: int = 8 << 20) -> None:
        """Keep events in the store at `store`, a folder or URI, and begin with the journals of processes that died.

        Every `publish_every_s` seconds, the journal ends and its queries are published. Its events follow when its last
        line is `EVENTS_WAIT` times as old, for other processes have then published their queries too, which the events
        may be about. A journal is about `segment_bytes` long, which bounds the memory to publish it.

        Raises `UsageError` if there is no such file system, and `RaylevanceError` if the folder of journals can't be
        made.
        """
        root = Store(store)
        self._fs, base = (
            fs.FileSystem.from_uri(str(store)) if "://" in str(store) else (fs.LocalFileSystem(), str(root))
        )
        self._folder = f"{base}/{FOLDER}"
        self._work = root.work_folder(self._work_key(root))
        self._every_s = publish_every_s
        self._counts = Counts()
        self._journal = Journal(self._work, segment_bytes)
        self._stop = threading.Event()
        self._closing = threading.Lock()
        self._publisher = threading.Thread(target=self._run, name="feedback", daemon=True)
        self._publisher.start()

    @property
    def counts(self) -> Counts:
        """The events and queries by what has become of them; for metrics."""
        self._counts.lost_queries = self._journal.lost_notes
        return self._counts

    async def keep(self, events: Sequence[Event]) -> EventsKept:
        """Write `events` to the journal, and return when they are on the disk.

        Events with one query_id and event_id are one event, of which the first is kept.

        Raises `NotKeptError` if the disk is full, can't be written or is too slow.
        """
        distinct: dict[tuple[str, str], Event] = {}
        for event in events:
            distinct.setdefault((event.query_id, event.event_id), event)
        lines = b"".join(event.model_dump_json(exclude_none=True).encode() + b"\n" for event in distinct.values())
        await asyncio.wrap_future(self._journal.append(lines))
        return EventsKept(accepted=len(events), repeated=len(events) - len(distinct))

    def answered(self, query_id: str, query: str | None = None) -> None:
        """Record an answer, and the text of its query; one of recommendations has none.

        It is written with the next events, or within `NOTES_WAIT_S` seconds. A crash may lose the answers of these
        seconds. Events of an answer that was lost are kept, and an import names and counts them as `query_id is not in
        ubi_queries`.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"query_id": query_id, "user_query": query, "timestamp": now}, ensure_ascii=False)
        self._journal.note(line.encode() + b"\n")

    def close(self) -> None:
        """Write what waits and publish it. What can't be published stays in the journal, for the next process."""
        with self._closing:
            if self._stop.is_set():
                return
            self._journal.close()
            self._stop.set()
            self._publisher.join()
            self._publish(math.inf)

    def _work_key(self, store: Store) -> str:
        """Return a name for the folder of journals. That of an object store is in a cache that all stores share."""
        if isinstance(self._fs, fs.LocalFileSystem):
            return FOLDER
        return f"{FOLDER}-{hashlib.sha256(str(store).encode()).hexdigest()[:16]}"

    def _run(self) -> None:
        self._round()
        while not self._stop.wait(self._every_s):
            self._round(ends_segment=True)

    def _round(self, *, ends_segment: bool = False) -> None:
        """Publish what is due. A fault of the folder of journals is counted; the next round tries again."""
        try:
            if ends_segment:
                self._journal.end_segment()
            self._publish(time.time() - EVENTS_WAIT * self._every_s)
        except Exception as error:
            self._counts.failures += 1
            log.error("%s: can't be published, it is tried again: %s", self._work, one_line(error))

    def _publish(self, written_before: float) -> None:
        """Publish the queries of all journals without a lock, then the events `written_before` that time."""
        for journal in sorted(self._work.glob(f"*{SUFFIX}")):
            self._attempt(journal, self._convert)
        for events in sorted(self._work.glob(f"*{EVENTS_SUFFIX}")):
            self._attempt(events, partial(self._publish_events, written_before=written_before))

    def _attempt(self, file: Path, publish: Callable[[Path], None]) -> None:
        """Publish `file` unless another process does. After a failure it stays for the next attempt."""
        try:
            with unlocked(file) as is_ours:
                if is_ours:
                    publish(file)
        except Exception as error:
            self._counts.failures += 1
            log.error("%s: can't be published, it is tried again: %s", file, one_line(error))

    def _convert(self, journal: Path) -> None:
        """Publish the queries of `journal`, and put its events beside it as Parquet, with the time of its last line."""
        lines, torn, damaged = read_lines(journal)
        if damaged:
            _write_durably(b"\n".join(damaged), journal.with_suffix(DAMAGED_SUFFIX))
            log.error("%s: %d damaged lines are put aside", journal.with_suffix(DAMAGED_SUFFIX), len(damaged))
        events = lines.filter(lines["event_id"].is_valid()).select(EVENTS.names)
        distinct = _first_of_each(events)
        if distinct.num_rows:
            _write_table(distinct, journal.with_suffix(EVENTS_SUFFIX), journal.stat().st_mtime_ns)
        is_answer = pc.and_(lines["event_id"].is_null(), lines["query_id"].is_valid())
        queries = lines.filter(is_answer).select(QUERIES.names)
        if queries.num_rows:
            file = journal.with_suffix(".queries")
            _write_table(queries, file, journal.stat().st_mtime_ns)
            self._move(file, f"ubi_queries-{journal.stem}.parquet")
        journal.unlink()
        self._counts.queries += queries.num_rows
        self._counts.repeated_events += events.num_rows - distinct.num_rows
        self._counts.torn_lines += torn
        self._counts.damaged_lines += len(damaged)
        if torn:
            log.warning("%s: dropped a line that a crash cut off; it was not acknowledged", journal)

    def _publish_events(self, file: Path, written_before: float) -> None:
        if file.stat().st_mtime <= written_before:
            rows = pq.read_metadata(file).num_rows
            self._move(file, f"ubi_events-{file.stem}.parquet")
            self._counts.events += rows

    def _move(self, file: Path, name: str) -> None:
        """Move a file into the store under `name`, where it appears as a whole."""
        if isinstance(self._fs, fs.LocalFileSystem):
            folder = Path(self._folder)
            if not folder.exists():
                folder.mkdir(exist_ok=True)
                flush(folder.parent)
            file.replace(folder / name)
            flush(folder)
        else:
            self._fs.create_dir(self._folder)
            fs.copy_files(str(file), f"{self._folder}/{name}", fs.LocalFileSystem(), self._fs)
            file.unlink()


def read_lines(journal: Path) -> tuple[pa.Table, bool, list[bytes]]:
    """Return the lines of `journal` in the schema `LINES`, whether the last was cut off, and those that can't be read.

    The last line is cut off if it has no line end. It was not acknowledged then.
    """
    data = journal.read_bytes()
    whole, _, torn = data.rpartition(b"\n")
    try:
        return _parsed(whole), bool(torn), []
    except pa.ArrowInvalid:
        lines = whole.split(b"\n")
        good = [line for line in lines if _is_readable(line)]
        return _parsed(b"\n".join(good)), bool(torn), [line for line in lines if not _is_readable(line)]


def _parsed(lines: bytes) -> pa.Table:
    if not lines:
        return LINES.empty_table()
    table = pyarrow.json.read_json(pa.BufferReader(lines), parse_options=AS_LINES)
    times = table["timestamp"].cast(pa.timestamp("us", "UTC")).cast(TIME)
    return table.set_column(table.column_names.index("timestamp"), "timestamp", times).select(LINES.names)


def _is_readable(line: bytes) -> bool:
    try:
        _parsed(line)
    except pa.ArrowInvalid:
        return False
    return True


def _first_of_each(events: pa.Table) -> pa.Table:
    """Return the first event of each query_id and event_id, in their order."""
    ids = ["query_id", "event_id"]
    numbered = events.select(ids).append_column("row", pa.array(range(events.num_rows), pa.int64()))
    first = numbered.group_by(ids, use_threads=False).aggregate([("row", "min")])["row_min"]
    return events.take(first.combine_chunks().sort())


def _write_table(rows: pa.Table, file: Path, modified_ns: int) -> None:
    buffer = pa.BufferOutputStream()
    pq.write_table(rows, buffer, compression="zstd")
    _write_durably(buffer.getvalue(), file, modified_ns)


def _write_durably(data: bytes | pa.Buffer, file: Path, modified_ns: int | None = None) -> None:
    """Write `file` under a temporary name, flush it to the disk, and rename it."""
    draft = file.with_suffix(f"{file.suffix}.draft")
    with draft.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    if modified_ns is not None:
        os.utime(draft, ns=(modified_ns, modified_ns))
    draft.replace(file)
    flush(file.parent)
