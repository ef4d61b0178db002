"""The artifact store: `kind/name/version` folders under one root, local or in an object store.

A version is prepared under a temporary name, every file is hashed into `manifest.json`, and publishing that manifest
is the commit point: a reader sees a whole version or none. The version is named by what is in it (sha256 of the
fingerprint and the files), so two writers of the same content publish the same version and can't tear each other's.

    with Store("store").publish("encoder/stage1", fingerprint=f, parents=[warmup.ref]) as draft:
        encoder.save(draft.path)
        draft.metrics["loss"] = 0.12
    path = Store("store").path("encoder/stage1")        # newest version, hashes checked
"""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow import fs
from pydantic import BaseModel, ConfigDict, ValidationError

from raylevance import __version__
from raylevance.errors import RaylevanceError, UsageError, nearest

MANIFEST = "manifest.json"
DRAFTS = ".drafts"
WORK = ".work"
_PART = r"[a-z0-9][a-z0-9._-]*"
_REFERENCE = re.compile(rf"({_PART}/{_PART})(?:@([0-9a-f]+))?")


class File(BaseModel):
    """One file of a version: its path inside the folder, its sha256 and its size in bytes."""

    path: str
    sha256: str
    bytes: int


class Artifact(BaseModel):
    """The manifest of a published version."""

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
    files: tuple[File, ...]

    @property
    def ref(self) -> str:
        """`kind/name@version`."""
        return f"{self.name}@{self.version}"


@dataclass
class Draft:
    """A version being written: put files under `path` and figures in `metrics`; `artifact` is set on publishing."""

    path: Path
    metrics: dict[str, Any] = field(default_factory=dict)
    artifact: Artifact | None = None

    @property
    def ref(self) -> str:
        assert self.artifact is not None, "a draft has no reference before it is published"
        return self.artifact.ref


def fingerprint(*parts: object) -> str:
    """A name for what goes into a step (inputs' versions, settings): 16 hex digits, equal for equal JSON."""
    text = json.dumps([__version__, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest(files: Iterable[Path]) -> str:
    """A name for the content of `files`, in their order: 16 hex digits."""
    return fingerprint([[file.name, _sha256(file)] for file in files])


class Store:
    """Published artifacts under `root`: a folder, or a URI that pyarrow's filesystems know (`s3://bucket/prefix`)."""

    def __init__(self, root: str | Path) -> None:
        text = str(root)
        try:
            if "://" in text:
                self._fs, self._root = fs.FileSystem.from_uri(text)
            else:
                self._fs, self._root = fs.LocalFileSystem(), str(Path(text).absolute())
        except (ValueError, OSError) as error:
            raise UsageError(f"store {text}: {error}") from None
        self._local = isinstance(self._fs, fs.LocalFileSystem)

    def __str__(self) -> str:
        return self._root if self._local else f"{self._fs.type_name}://{self._root}"

    @contextmanager
    def publish(
        self,
        name: str,
        *,
        fingerprint: str = "",
        parents: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> Iterator[Draft]:
        """Write a new version of `name`; it is published when the block ends, and leaves no trace when it raises.

        Raises `RaylevanceError` when the disk is full or the store can't be written.
        """
        if parse_reference(name)[1]:
            raise UsageError(f"{name}: a version names itself, publish {name.partition('@')[0]!r}")
        with self._draft_folder() as folder:
            draft = Draft(folder)
            yield draft
            files = tuple(_hashed(folder))
            if not files:
                raise RaylevanceError(f"{name}: nothing was written, so nothing was published")
            listing = json.dumps([name, fingerprint, [(file.path, file.sha256) for file in files]])
            artifact = Artifact(
                name=name,
                version=hashlib.sha256(listing.encode()).hexdigest()[:12],
                created=datetime.now(UTC),
                fingerprint=fingerprint,
                parents=tuple(parents),
                settings=dict(settings or {}),
                seed=seed,
                code_version=__version__,
                metrics=draft.metrics,
                files=files,
            )
            self._commit(folder, artifact)
            draft.artifact = artifact

    def get(self, reference: str) -> Artifact:
        """The manifest of `kind/name[@version]`, the newest version when none is given.

        Raises `RaylevanceError` naming the nearest artifact when there is none.
        """
        name, version = parse_reference(reference)
        versions = self._versions(name)
        found = [artifact for artifact in versions if version in (None, artifact.version)]
        if found:
            return max(found, key=lambda artifact: (artifact.created, artifact.version))
        if versions:
            raise RaylevanceError(f"{reference}: no such version in {self}; {nearest(str(version), _names(versions))}")
        raise RaylevanceError(f"{reference}: no such artifact in {self}; {nearest(name, self.names())}")

    def find(self, name: str, fingerprint: str) -> Artifact | None:
        """The newest version of `name` that was made from `fingerprint`, if any."""
        made = [artifact for artifact in self._versions(name) if artifact.fingerprint == fingerprint]
        return max(made, key=lambda artifact: artifact.created, default=None)

    def names(self) -> list[str]:
        """Every `kind/name` with at least one published version."""
        kinds = [kind for kind in self._folders("") if not kind.startswith(".")]
        names = [f"{kind}/{name}" for kind in kinds for name in self._folders(kind)]
        return sorted(name for name in names if self._versions(name))

    def artifacts(self) -> list[Artifact]:
        """Every published version, oldest first."""
        versions = [artifact for name in self.names() for artifact in self._versions(name)]
        return sorted(versions, key=lambda artifact: (artifact.created, artifact.name))

    def path(self, reference: str) -> Path:
        """A local folder with the files of `reference`, each checked against its hash.

        An artifact of an object store is copied once into the user's cache. Raises `RaylevanceError` naming the file
        that is missing or does not match.
        """
        artifact = self.get(reference)
        folder = Path(self._path(artifact.name, artifact.version))
        if not self._local:
            folder = _cache() / artifact.name / artifact.version
            if not (folder / MANIFEST).exists():
                self._download(artifact, folder)
        for file in artifact.files:
            _check(folder / file.path, file, artifact.ref)
        return folder

    def work_folder(self, key: str) -> Path:
        """A folder for unfinished work named `key`, made when missing; whoever made it removes it.

        It lies in a local store, so that every node that mounts the store sees it, else in the user's cache.
        """
        folder = (Path(self._root) if self._local else _cache()) / WORK / key
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RaylevanceError(f"{folder}: can't be written: {error.strerror}") from None
        return folder

    def _path(self, *parts: str) -> str:
        return str(PurePosixPath(self._root, *parts))

    def _folders(self, parent: str) -> list[str]:
        selector = fs.FileSelector(self._path(parent), allow_not_found=True)
        try:
            found = self._fs.get_file_info(selector)
        except OSError as error:
            raise RaylevanceError(f"{self}: not a store that can be read: {error}") from None
        return [info.base_name for info in found if info.type == fs.FileType.Directory]

    def _versions(self, name: str) -> list[Artifact]:
        read = (self._manifest(name, version) for version in self._folders(name))
        return [artifact for artifact in read if artifact is not None]

    def _manifest(self, name: str, version: str) -> Artifact | None:
        path = self._path(name, version, MANIFEST)
        try:
            with self._fs.open_input_stream(path) as stream:
                artifact = Artifact.model_validate_json(stream.read())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise RaylevanceError(f"{path}: not a manifest ({error.errors()[0]['msg']}); remove the folder") from None
        if any(_escapes(file.path) for file in artifact.files):
            raise RaylevanceError(f"{path}: names a file outside its folder; remove the folder")
        if (artifact.name, artifact.version) != (name, version):
            raise RaylevanceError(f"{path}: is the manifest of {artifact.ref}; remove the folder")
        return artifact

    @contextmanager
    def _draft_folder(self) -> Iterator[Path]:
        """A private folder: inside a local store, so that publishing is one rename, else in the temporary folder."""
        try:
            if self._local:
                drafts = Path(self._root, DRAFTS)
                drafts.mkdir(parents=True, exist_ok=True)
                _remove_abandoned(drafts)
                folder = Path(tempfile.mkdtemp(prefix=f"{socket.gethostname()}-{os.getpid()}-", dir=drafts))
                folder.chmod(0o755)
            else:
                folder = Path(tempfile.mkdtemp(prefix="raylevance-"))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise RaylevanceError(f"{self}: the disk is full; free some space and run the same command") from error
            inside = str(error.filename or "").startswith(self._root)
            if inside and error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR):
                raise RaylevanceError(f"{self}: can't be written: {error.strerror}") from error
            raise

    def _commit(self, folder: Path, artifact: Artifact) -> None:
        """Make the draft visible. What is published already is the same content, so only its manifest is renewed."""
        manifest = artifact.model_dump_json(indent=1)
        target = self._path(artifact.name, artifact.version)
        if not self._local:
            for file in artifact.files:
                self._fs.create_dir(str(PurePosixPath(target, file.path).parent), recursive=True)
                fs.copy_files(str(folder / file.path), f"{target}/{file.path}", fs.LocalFileSystem(), self._fs)
            with self._fs.open_output_stream(f"{target}/{MANIFEST}") as stream:
                stream.write(manifest.encode())
            return
        _write_durably(folder / MANIFEST, manifest)
        for path in folder.rglob("*"):
            _flush(path)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            for file in artifact.files:  # the same content: renews a damaged file, changes no other
                Path(target, file.path).parent.mkdir(parents=True, exist_ok=True)
                (folder / file.path).replace(Path(target, file.path))
            (folder / MANIFEST).replace(Path(target, MANIFEST))
        _flush(Path(target).parent)

    def _download(self, artifact: Artifact, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            for file in artifact.files:
                (draft / file.path).parent.mkdir(parents=True, exist_ok=True)
                source = self._path(artifact.name, artifact.version, file.path)
                try:
                    fs.copy_files(source, str(draft / file.path), self._fs, fs.LocalFileSystem())
                except OSError as error:
                    raise RaylevanceError(f"{artifact.ref}: {source} can't be read: {error}") from None
                _check(draft / file.path, file, artifact.ref)
            (draft / MANIFEST).write_text(artifact.model_dump_json(indent=1), encoding="utf-8")
            with suppress(OSError):  # another reader was first
                draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def parse_reference(reference: str) -> tuple[str, str | None]:
    """Split `kind/name[@version]`; `UsageError` when it is anything else."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise UsageError(f"{reference!r} is not a reference: expected kind/name or kind/name@version")
    return match[1], match[2]


def _names(versions: Sequence[Artifact]) -> list[str]:
    return [artifact.version for artifact in versions]


def _hashed(folder: Path) -> Iterator[File]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            relative = path.relative_to(folder).as_posix()
            yield File(path=relative, sha256=_sha256(path), bytes=path.stat().st_size)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check(path: Path, file: File, reference: str) -> None:
    try:
        matches = path.stat().st_size == file.bytes and _sha256(path) == file.sha256
    except FileNotFoundError:
        raise RaylevanceError(f"{reference}: {path} is missing; remove the version and run its recipe again") from None
    if not matches:
        raise RaylevanceError(f"{reference}: {path} is damaged (its hash is not the manifest's); remove the version")


def _escapes(path: str) -> bool:
    parts = PurePosixPath(path)
    return parts.is_absolute() or ".." in parts.parts


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "raylevance"


def _write_durably(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _flush(path: Path) -> None:
    """Ask the kernel to put a file's or a folder's content on the disk before the rename that publishes it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(drafts: Path) -> None:
    """Remove what writers of this host left behind when they were killed."""
    for folder in drafts.iterdir():
        # An import writes into .NAME.draft beside the draft NAME.
        host, *rest = folder.name.removeprefix(".").rsplit("-", 2)
        pid = rest[0] if rest else ""
        if host == socket.gethostname() and pid.isdigit() and Path("/proc/self").exists() and not _alive(pid):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: str) -> bool:
    return Path("/proc", pid).exists()
