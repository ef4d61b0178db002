"""What has been answered, by the content of what was asked: a crash loses nothing that was paid for."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import tenacity

from raylevance.errors import RaylevanceError

LOOKUP = 500
"""Keys of one query, below SQLite's limit of variables."""

BUSY_S = 60
"""How long another writer is waited for."""


class Ledger:
    """Answers as text by key, in one SQLite file. Each `put` is a commit: `kill -9` leaves all earlier ones readable.

    Several processes may share the file; a key that is there keeps its first answer.
    """

    def __init__(self, file: Path) -> None:
        """Open or make `file`. Raises `RaylevanceError` where it is not such a file."""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RaylevanceError(f"{file.parent}: not a folder for a ledger of answers: {error.strerror}") from None
        self.file = file
        with self._faults():
            self._connection = _open(file)

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def __len__(self) -> int:
        with self._faults(), closing(self._connection.execute("SELECT count(*) FROM answers")) as rows:
            return int(rows.fetchone()[0])

    def put(self, answers: Iterable[tuple[str, str]]) -> None:
        """Keep (key, answer) pairs, all or none. Raises `RaylevanceError` for a full disk or a damaged file."""
        with self._faults(), self._connection:
            self._connection.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", answers)

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """The answers to those of `keys` that have one. Raises `RaylevanceError` for a damaged file."""
        found: dict[str, str] = {}
        for part in _parts(keys):
            marks = ",".join("?" * len(part))
            with self._faults():
                found.update(self._connection.execute(f"SELECT key, answer FROM answers WHERE key IN ({marks})", part))
        return found

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """SQLite's errors that are not ours, in one line."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise RaylevanceError(f"{self.file}: the ledger of answers can't be used: {error}") from None
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise
            raise RaylevanceError(f"{self.file}: not a ledger of answers ({error}); move it away") from None


def _parts(keys: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), LOOKUP):
        yield list(keys[start : start + LOOKUP])


# SQLite refuses, without waiting, some of those who make a new file a write-ahead log at the same time.
@tenacity.retry(
    retry=tenacity.retry_if_exception_message(match=".* locked"),
    wait=tenacity.wait_random(0.01, 0.1),
    stop=tenacity.stop_after_delay(BUSY_S),
    reraise=True,
)
def _open(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=BUSY_S)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        with connection:
            connection.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT) WITHOUT ROWID")
    except sqlite3.Error:
        connection.close()
        raise
    return connection
