"""What a manifest records of a version: its name, its inputs, and the hashes of its files."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict

from raylevance import __version__
from raylevance.errors import RaylevanceError, UsageError

MANIFEST = "manifest.json"
_PART = r"[a-z0-9][a-z0-9._-]*"
NAME = re.compile(_PART)
"""A name without its kind."""
_REFERENCE = re.compile(rf"({_PART}/{_PART})(?:@([0-9a-f]+))?")


class ArtifactFile(BaseModel):
    """A file of a version: its path inside the version's folder, its sha256 and its size in bytes."""

    path: str
    sha256: str
    bytes: int


class Artifact(BaseModel):
    """A published version, as described by its manifest."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    created: datetime
    fingerprint: str
    parents: tuple[str, ...]
    settings: dict[str, Any]
    seed: int | None
    code_version: str
    metrics: dict[str, Any]
    files: tuple[ArtifactFile, ...]

    @property
    def ref(self) -> str:
        """The reference `kind/name@version`."""
        return f"{self.name}@{self.version}"


def fingerprint(*parts: object) -> str:
    """Return 16 hex digits that identify the inputs of a step, such as versions and settings.

    They are equal if the JSON of `parts` and the version of raylevance are equal.
    """
    text = json.dumps([__version__, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest(files: Iterable[Path], folder: Path | None = None) -> str:
    """Return 16 hex digits that identify the names and contents of `files`, in their order.

    With `folder`, which they are in, the names are their paths below it.

    Raises `RaylevanceError` for a file that can't be read.
    """
    found = []
    for file in files:
        try:
            found.append([file.relative_to(folder).as_posix() if folder else file.name, _sha256(file)])
        except OSError as error:
            raise RaylevanceError(f"{file}: can't be read: {error.strerror}") from None
    return fingerprint(found)


def parse_reference(reference: str) -> tuple[str, str | None]:
    """Split `kind/name[@version]` into name and version.

    Raises `UsageError` if `reference` does not have this form.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise UsageError(f"{reference!r} is not a reference: expected kind/name or kind/name@version")
    return match[1], match[2]


def hash_files(folder: Path) -> Iterator[ArtifactFile]:
    """Yield the files below `folder`, in the order of their paths."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            relative = path.relative_to(folder).as_posix()
            yield ArtifactFile(path=relative, sha256=_sha256(path), bytes=path.stat().st_size)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_file(path: Path, file: ArtifactFile, reference: str) -> None:
    """Raise `RaylevanceError` if the file at `path` is missing or is not `file` of the artifact `reference`."""
    try:
        matches = path.stat().st_size == file.bytes and _sha256(path) == file.sha256
    except FileNotFoundError:
        raise RaylevanceError(f"{reference}: {path} is missing; remove the version and run its recipe again") from None
    except OSError as error:
        raise RaylevanceError(f"{reference}: {path} can't be read: {error.strerror}") from None
    if not matches:
        raise RaylevanceError(f"{reference}: {path} is damaged (its hash is not the manifest's); remove the version")


def escapes(path: str) -> bool:
    """Return whether a path of a manifest leads out of its folder."""
    parts = PurePosixPath(path)
    return parts.is_absolute() or ".." in parts.parts
