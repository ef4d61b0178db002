"""A ledger that keeps every answer on disk under a key made from its question, so that a crash loses no answer."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import tenacity

from raylevance.errors import RaylevanceError

KEYS_PER_QUERY = 500
"""Keys of one SQL query, below SQLite's limit on variables."""

BUSY_S = 60
"""Seconds to wait for another process that is writing."""


class Ledger:
    """A map from keys to answers, both texts, in one SQLite file.

    Each `put` is one transaction, so a process killed with `kill -9` leaves all earlier answers readable. Several
    processes may use the file at once; a key keeps the first answer that it was given.
    """

    def __init__(self, file: Path) -> None:
        """Open the ledger in `file`, or create it. Raises `RaylevanceError` if the file is not a ledger."""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RaylevanceError(f"{file.parent}: not a folder for a ledger of answers: {error.strerror}") from None
        self.file = file
        with self._translated_errors():
            self._connection = _open(file)

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __len__(self) -> int:
        """Return the number of answers."""
        with self._translated_errors(), closing(self._connection.execute("SELECT count(*) FROM answers")) as rows:
            return int(rows.fetchone()[0])

    def put(self, answers: Iterable[tuple[str, str]]) -> None:
        """Store pairs of key and answer, all or none. Raises `RaylevanceError` for a full disk or a damaged file."""
        with self._translated_errors(), self._connection:
            self._connection.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", answers)

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the answers of those keys that have one. Raises `RaylevanceError` for a damaged file."""
        answers: dict[str, str] = {}
        for start in range(0, len(keys), KEYS_PER_QUERY):
            part = list(keys[start : start + KEYS_PER_QUERY])
            marks = ",".join("?" * len(part))
            query = f"SELECT key, answer FROM answers WHERE key IN ({marks})"
            with self._translated_errors():
                answers.update(self._connection.execute(query, part))
        return answers

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Raise SQLite's errors about the file as a one-line `RaylevanceError`."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise RaylevanceError(f"{self.file}: the ledger of answers can't be used: {error}") from None
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise
            raise RaylevanceError(f"{self.file}: not a ledger of answers ({error}): move it away") from None


# While several processes open the same new file, SQLite refuses some of them without waiting.
@tenacity.retry(
    retry=tenacity.retry_if_exception_message(match=".* locked"),
    wait=tenacity.wait_random(0.01, 0.1),
    stop=tenacity.stop_after_delay(BUSY_S),
    reraise=True,
)
def _open(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=BUSY_S)
    try:
        # Not the write-ahead log, which needs all its processes on one machine: the store may be a network mount.
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA synchronous=NORMAL")
        with connection:
            connection.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT) WITHOUT ROWID")
    except sqlite3.Error:
        connection.close()
        raise
    return connection
