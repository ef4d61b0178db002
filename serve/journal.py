"""A journal: an append-only file of lines, which are on the disk when an append is done.

A thread writes what has come in and makes it durable by one fsync, for all who wait (a group commit). A process holds a
lock on the file that it appends to. The kernel frees the lock when the process ends, however it ends, so a file without
a lock is complete, and any process may take it over (`unlocked`).
"""

import errno
import fcntl
import logging
import os
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from raylevance.artifacts import flush
from raylevance.errors import RaylevanceError

log = logging.getLogger(__name__)

SUFFIX = ".jsonl"
MAX_WAITING_BYTES = 8 << 20
"""What may wait for the disk at once, of appends and of notes each."""
NOTES_WAIT_S = 0.2
"""How long notes wait for an append that they can be written with."""


class NotKeptError(RaylevanceError):
    """Lines could not be made durable: the disk is full, can't be written or is too slow, or the journal is closed."""


class Journal:
    """Appends lines to a file in a folder; a file that has grown large is closed, and the next one is begun."""

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        """Write files `*.jsonl` of about `segment_bytes` to `folder`. The first is made by the first append."""
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._changed = threading.Condition()
        self._waiting: list[tuple[bytes, Future[None]]] = []
        self._waiting_bytes = 0
        self._notes: list[bytes] = []
        self._notes_bytes = 0
        self._closed = False
        self._fails = False
        self._in_file = threading.Lock()
        self._descriptor: int | None = None
        self._file: Path | None = None
        self._size = 0
        self.lost_notes = 0
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def append(self, lines: bytes) -> Future[None]:
        """Return a future that is done when `lines` are on the disk. It raises `NotKeptError` if they are not.

        Raises `NotKeptError` if `MAX_WAITING_BYTES` wait already, or if the journal is closed.
        """
        done: Future[None] = Future()
        with self._changed:
            if self._closed:
                raise NotKeptError("the server is stopping")
            if self._waiting_bytes + len(lines) > MAX_WAITING_BYTES:
                raise NotKeptError("the disk is too slow, and too much waits for it")
            self._waiting.append((lines, done))
            self._waiting_bytes += len(lines)
            self._changed.notify()
        return done

    def note(self, line: bytes) -> None:
        """Write `line` with the next append or after `NOTES_WAIT_S`. One that can't be written is tried again.

        Above `MAX_WAITING_BYTES` of them, further ones are lost and counted in `lost_notes`.
        """
        with self._changed:
            if self._closed or self._notes_bytes + len(line) > MAX_WAITING_BYTES:
                self.lost_notes += 1
                return
            self._notes.append(line)
            self._notes_bytes += len(line)
            if len(self._notes) == 1:
                self._changed.notify()

    def end_segment(self) -> None:
        """Close the current file, if there is one, and free its lock. The next append begins another."""
        with self._in_file:
            self._end_segment()

    def close(self) -> None:
        """Write what waits, and close the file."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self.end_segment()

    def _run(self) -> None:
        closed = False
        while not closed:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._notes or self._closed)
                if not self._waiting:
                    self._changed.wait_for(lambda: self._waiting or self._closed, NOTES_WAIT_S)
                waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
                notes, self._notes, self._notes_bytes = self._notes, [], 0
                closed = self._closed
            if waiting or notes:
                self._commit(notes, waiting)
        if self._notes:
            self.lost_notes += len(self._notes)
            log.error("%s: can't be written: %d queries of answers are lost", self._folder, len(self._notes))

    def _commit(self, notes: list[bytes], waiting: list[tuple[bytes, Future[None]]]) -> None:
        waiting = [(lines, done) for lines, done in waiting if done.set_running_or_notify_cancel()]
        try:
            with self._in_file:
                self._write(b"".join([*notes, *(lines for lines, _ in waiting)]))
        except Exception as error:
            if not self._fails:
                log.error("%s: can't be written, events are refused: %s", self._folder, error)
            self._fails = True
            for _, done in waiting:
                done.set_exception(NotKeptError(_reason(error)))
            with self._changed:
                self._notes[:0] = notes
                self._notes_bytes += sum(map(len, notes))
        else:
            if self._fails:
                log.warning("%s: can be written again", self._folder)
            self._fails = False
            for _, done in waiting:
                done.set_result(None)

    def _write(self, data: bytes) -> None:
        """Append `data` and flush it to the disk. If that fails, the file ends where it did before, and is closed."""
        if self._descriptor is None:
            self._begin_segment()
        assert self._descriptor is not None
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
            if not os.fstat(self._descriptor).st_nlink:
                raise OSError(errno.ENOENT, "the file was removed")
        except OSError:
            # A line that is written in part must not become the beginning of the next one.
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            self._end_segment()
            raise
        self._size += len(data)
        if self._size >= self._segment_bytes:
            self._end_segment()

    def _begin_segment(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        while True:
            file = self._folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(6)}{SUFFIX}"
            descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.fstat(descriptor).st_nlink:
                    flush(self._folder)
                    break
            except OSError:
                os.close(descriptor)
                raise
            os.close(descriptor)  # another process removed the empty file before it had its lock
        self._descriptor, self._file, self._size = descriptor, file, 0

    def _end_segment(self) -> None:
        if self._descriptor is not None and self._file is not None:
            if not self._size:
                self._file.unlink(missing_ok=True)
            os.close(self._descriptor)
        self._descriptor = self._file = None


@contextmanager
def unlocked(file: Path) -> Iterator[bool]:
    """Lock `file` for the block. Yields False, without a lock, if a process holds it or it is gone."""
    try:
        descriptor = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            # Whoever held the lock before may have removed or renamed the file.
            yield file.exists() and file.stat().st_ino == os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    """Say why a write failed, without a path: clients read it."""
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        return "the server's disk is full" if full else f"the server's disk can't be written: {error.strerror}"
    return "the server's log says why"
