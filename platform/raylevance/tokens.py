"""Bearer tokens: their hashes in a file, which is read again when it changes, so that tokens rotate without a restart.

The file is a JSON object: the name of a token to its sha256 in hex and its scopes.

    {"shop": {"sha256": "9f86...", "scopes": ["search"]}, "ops": {"sha256": "60303...", "scopes": ["search", "admin"]}}
"""

import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal

from filelock import FileLock, Timeout
from pydantic import Field, TypeAdapter, ValidationError

from raylevance.config import Settings
from raylevance.errors import RaylevanceError, UsageError

Scope = Literal["search", "admin"]
CHECK_EVERY_S = 1.0
LOCK_WAIT_S = 30.0

log = logging.getLogger("ray.serve")


class Token(Settings):
    """A token as the file keeps it. The token itself is kept nowhere."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]


TOKENS = TypeAdapter(dict[str, Token])


class Tokens:
    """The tokens of a file. While a new version of the file can't be read, the last good one holds.

    A file from which the last token was removed admits nobody.
    """

    def __init__(self, file: str) -> None:
        """Read `file`. Raises `RaylevanceError` if it can't be read, or has no token."""
        self._file = Path(file)
        self._stamp = self._stat()
        self._tokens = read_tokens(self._file)
        if not self._tokens:
            raise RaylevanceError(f"{file}: has no token; add one with `raylevance token add`")
        self._checked = time.monotonic()
        self._fault = ""

    def scopes(self, token: str) -> frozenset[str]:
        """Return the scopes of `token`, empty for one that is unknown, in a time that does not depend on the token."""
        self._reread()
        presented = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        found: frozenset[str] = frozenset()
        for known in self._tokens.values():
            if hmac.compare_digest(presented, known.sha256):
                found = found | frozenset(known.scopes)
        return found

    def _reread(self) -> None:
        now = time.monotonic()
        if now - self._checked < CHECK_EVERY_S:
            return
        self._checked = now
        stamp = self._stat()
        if stamp == self._stamp:
            self._fault = ""
            return
        try:
            self._tokens = read_tokens(self._file)
        except RaylevanceError as error:
            if str(error) != self._fault:  # once, though it is read again each time: a new owner changes no stamp
                log.error("the tokens stay as they were: %s", error)
            self._fault = str(error)
        else:
            self._stamp, self._fault = stamp, ""

    def _stat(self) -> tuple[int, int, int]:
        try:
            found = self._file.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_mtime_ns, found.st_size, found.st_ino)


def read_tokens(file: Path) -> dict[str, Token]:
    """Read the tokens of `file`. Raises `RaylevanceError` if it can't be read."""
    try:
        tokens = TOKENS.validate_json(file.read_bytes())
    except OSError as error:
        raise RaylevanceError(
            f"{file}: can't be read: {error.strerror}; `raylevance token add` makes a file of tokens"
        ) from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise RaylevanceError(f"{file}: not a file of tokens: {where} {fault['msg']}".replace("  ", " ")) from None
    return tokens


def add_token(file: Path, name: str, scopes: tuple[Scope, ...]) -> str:
    """Add a new token to `file`, which is made if needed, and return it. Others may change the file meanwhile.

    Raises `UsageError` for a name that exists, and `RaylevanceError` if the file can't be read or written.
    """
    with _locked(file):
        tokens = read_tokens(file) if file.exists() else {}
        if name in tokens:
            raise UsageError(f"{file}: has a token {name!r}; remove it first, or choose another name")
        token = secrets.token_urlsafe(32)
        _write(file, {**tokens, name: Token(sha256=hashlib.sha256(token.encode()).hexdigest(), scopes=scopes)})
    return token


def remove_token(file: Path, name: str) -> None:
    """Remove the token `name` from `file`. Others may change the file meanwhile.

    Raises `UsageError` if there is none, and `RaylevanceError` if the file can't be read or written.
    """
    read_tokens(file)  # raises before a lock is made beside a file that does not exist
    with _locked(file):
        tokens = read_tokens(file)
        if name not in tokens:
            raise UsageError(f"{file}: has no token {name!r}; it has {', '.join(sorted(tokens))}")
        _write(file, {other: token for other, token in tokens.items() if other != name})


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold the lock of `file`, a file of its own, since `file` is replaced. Only writers take it."""
    try:
        with FileLock(file.with_name(f".{file.name}.lock"), timeout=LOCK_WAIT_S):
            yield
    except Timeout:
        raise RaylevanceError(f"{file}: another process has held its lock for {LOCK_WAIT_S:g} s; try again") from None
    except OSError as error:
        raise RaylevanceError(f"{file}: can't be written: {error.strerror}") from None


def _write(file: Path, tokens: dict[str, Token]) -> None:
    """Replace `file`. It keeps its mode, and its owner where this user may give files away, so its readers stay."""
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(json.dumps({name: token.model_dump() for name, token in tokens.items()}, indent=1) + "\n")
    if file.exists():
        present = file.stat()
        for owner in ((-1, present.st_gid), (present.st_uid, -1)):
            with suppress(PermissionError):
                os.chown(draft, *owner)
        draft.chmod(stat.S_IMODE(present.st_mode))
    else:
        draft.chmod(0o600)
    draft.replace(file)
