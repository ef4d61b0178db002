"""The artifact store: folders `kind/name/version` under one root, on a local disk or in an object store.

A version is prepared under a temporary name, and the hash of every file is written to `manifest.json`. The version
exists as soon as its manifest is published, so a reader sees a complete version or none. The version's name is a sha256
of the fingerprint and the files. Two writers of the same content therefore publish the same version, and can't damage
each other's.

    with Store("store").publish("encoder/stage1", fingerprint=f, parents=[warmup.ref]) as draft:
        encoder.save(draft.path)
        draft.metrics["loss"] = 0.12
    path = Store("store").path("encoder/stage1")        # the newest version, after a check of its hashes
"""

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow import fs
from pydantic import ValidationError

from raylevance import __version__
from raylevance.artifacts.drafts import private_folder
from raylevance.artifacts.manifest import (
    MANIFEST,
    Artifact,
    check_file,
    escapes,
    hash_files,
    parse_reference,
)
from raylevance.errors import RaylevanceError, UsageError, made_by, nearest

log = logging.getLogger(__name__)

DRAFTS = ".drafts"
WORK = ".work"


@dataclass
class Draft:
    """A version that is being written. Put files under `path` and figures into `metrics`.

    `artifact` is set when the version is published.
    """

    path: Path
    metrics: dict[str, Any] = field(default_factory=dict)
    artifact: Artifact | None = None

    @property
    def ref(self) -> str:
        """The reference of the published version."""
        assert self.artifact is not None, "a draft has no reference before it is published"
        return self.artifact.ref


class Store:
    """The published artifacts under one root."""

    def __init__(self, root: str | Path) -> None:
        """Open the store at `root`, a folder or a URI of a pyarrow file system, such as `s3://bucket/prefix`.

        Raises `UsageError` if there is no such file system.
        """
        text = str(root)
        try:
            if "://" in text:
                self._fs, self._root = fs.FileSystem.from_uri(text)
            else:
                self._fs, self._root = fs.LocalFileSystem(), str(Path(text).absolute())
        except (ValueError, OSError) as error:
            raise UsageError(f"store {text}: {error}") from None
        self._local = isinstance(self._fs, fs.LocalFileSystem)

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder, and not an object store."""
        return self._local

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
        """Write a new version of `name`, which is published at the end of the block.

        If the block raises, nothing is published and no file remains.

        Raises

        - `UsageError` if `name` includes a version,
        - `RaylevanceError` if the disk is full, the store can't be written, or nothing was written.
        """
        if parse_reference(name)[1]:
            raise UsageError(f"{name}: the store chooses the version; publish {name.partition('@')[0]!r}")
        with self._draft_folder() as folder:
            draft = Draft(folder)
            yield draft
            files = tuple(hash_files(folder))
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
        """Return the artifact `kind/name@version`, or the newest version of `kind/name` that can be read.

        Raises `RaylevanceError` if there is no such artifact, and names the one with the most similar name and the
        command that makes it.
        """
        name, version = parse_reference(reference)
        if version is not None and (artifact := self._manifest(name, version)):
            return artifact
        versions, faults = self.versions(name)
        if versions and version is None:
            _warn_of(faults)
            return versions[0]
        if versions:
            raise RaylevanceError(
                f"{reference}: no such version in {self}; {nearest(str(version), _version_names(versions))}"
            )
        if faults:
            raise RaylevanceError(f"{reference}: no such version in {self}; {faults[0]}" if version else faults[0])
        hints = [nearest(name, names)] if (names := self.names()) else []
        raise RaylevanceError(f"{reference}: no such artifact in {self}; {'; '.join([*hints, made_by(name)])}")

    def versions(self, name: str) -> tuple[list[Artifact], list[str]]:
        """Return the versions of `kind/name`, newest first, and why others can't be read, one line each."""
        found, faults = [], []
        for version in self._folders(name):
            try:
                artifact = self._manifest(name, version)
            except RaylevanceError as error:
                faults.append(str(error))
                continue
            if artifact is not None:
                found.append(artifact)
        return sorted(found, key=lambda artifact: (artifact.created, artifact.version), reverse=True), faults

    def find(self, name: str, fingerprint: str) -> Artifact | None:
        """Return the newest version of `name` with this `fingerprint`, or None if there is none."""
        versions, faults = self.versions(name)
        _warn_of(faults)
        return next((artifact for artifact in versions if artifact.fingerprint == fingerprint), None)

    def names(self) -> list[str]:
        """Return every `kind/name` that has a published version, also one that can't be read, sorted."""
        kinds = [kind for kind in self._folders("") if not kind.startswith(".")]
        names = [f"{kind}/{name}" for kind in kinds for name in self._folders(kind)]
        return sorted(name for name in names if any(self.versions(name)))

    def artifacts(self) -> list[Artifact]:
        """Return every published version that can be read, oldest first."""
        versions = []
        for name in self.names():
            found, faults = self.versions(name)
            _warn_of(faults)
            versions += found
        return sorted(versions, key=lambda artifact: (artifact.created, artifact.name))

    def path(self, reference: str) -> Path:
        """Return a local folder with the files of `reference`, after a check of their hashes.

        An artifact in an object store is copied to the user's cache, again where the copy is damaged.

        Raises `RaylevanceError` if there is no such artifact, or if a file is missing or damaged.
        """
        artifact = self.get(reference)
        if self._local:
            folder = Path(self._path(artifact.name, artifact.version))
            _check_files(folder, artifact)
            return folder
        folder = _cache() / artifact.name / artifact.version
        present = _inode(folder)
        try:
            _check_files(folder, artifact)
        except RaylevanceError:
            self._download(artifact, folder, present)
            _check_files(folder, artifact)
        return folder

    def work_folder(self, key: str) -> Path:
        """Return the folder for unfinished work named `key`, and create it if needed. The caller removes it.

        It is inside a local store, so that every node that mounts the store sees it. For an object store, it is in the
        cache of the user.
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
            entries = self._fs.get_file_info(selector)
        except OSError as error:
            raise RaylevanceError(f"{self}: not a store that can be read: {error}") from None
        return [info.base_name for info in entries if info.type == fs.FileType.Directory]

    def _manifest(self, name: str, version: str) -> Artifact | None:
        path = self._path(name, version, MANIFEST)
        try:
            with self._fs.open_input_stream(path) as stream:
                artifact = Artifact.model_validate_json(stream.read())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RaylevanceError(f"{path}: can't be read: {error}") from None
        except ValidationError as error:
            raise RaylevanceError(f"{path}: not a manifest ({error.errors()[0]['msg']}); remove the folder") from None
        if any(escapes(file.path) for file in artifact.files):
            raise RaylevanceError(f"{path}: names a file outside its folder; remove the folder")
        if (artifact.name, artifact.version) != (name, version):
            raise RaylevanceError(f"{path}: is the manifest of {artifact.ref}; remove the folder")
        return artifact

    @contextmanager
    def _draft_folder(self) -> Iterator[Path]:
        """Yield a private folder that is removed afterwards.

        It is inside a local store, so that publishing is one rename. For an object store, it is in the system's folder
        for temporary files.
        """
        try:
            if self._local:
                with private_folder(Path(self._root, DRAFTS)) as folder:
                    yield folder
            else:
                with tempfile.TemporaryDirectory(prefix="raylevance-", ignore_cleanup_errors=True) as temporary:
                    yield Path(temporary)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise RaylevanceError(f"{self}: the disk is full; free some space and run the same command") from error
            is_in_store = str(error.filename or "").startswith(self._root)
            if is_in_store and error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR):
                raise RaylevanceError(f"{self}: can't be written: {error.strerror}") from error
            raise

    def _commit(self, folder: Path, artifact: Artifact) -> None:
        """Publish the draft. If the version exists, its content is the same, and its files and manifest are renewed."""
        manifest = artifact.model_dump_json(indent=1)
        target = self._path(artifact.name, artifact.version)
        if not self._local:
            for file in artifact.files:
                self._fs.create_dir(str(PurePosixPath(target, file.path).parent), recursive=True)
                fs.copy_files(str(folder / file.path), f"{target}/{file.path}", fs.LocalFileSystem(), self._fs)
            with self._fs.open_output_stream(f"{target}/{MANIFEST}") as stream:
                stream.write(manifest.encode())
            return
        (folder / MANIFEST).write_text(manifest, encoding="utf-8")
        for path in (folder, *folder.rglob("*")):
            flush(path)
        published = Path(target)
        published.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(published)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            for file in artifact.files:  # equal content: this repairs damaged files and changes no others
                (published / file.path).parent.mkdir(parents=True, exist_ok=True)
                (folder / file.path).replace(published / file.path)
                flush((published / file.path).parent)
            (folder / MANIFEST).replace(published / MANIFEST)
        for path in (published, *published.parents[:3]):  # NAME, KIND and the root, which may be new
            flush(path)

    def _download(self, artifact: Artifact, folder: Path, damaged_inode: int | None) -> None:
        """Copy an artifact to `folder`, in place of the damaged copy with this inode (None: there is none)."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft, damaged = (Path(tempfile.mkdtemp(dir=folder.parent)) for _ in range(2))
        try:
            for file in artifact.files:
                (draft / file.path).parent.mkdir(parents=True, exist_ok=True)
                source = self._path(artifact.name, artifact.version, file.path)
                try:
                    fs.copy_files(source, str(draft / file.path), self._fs, fs.LocalFileSystem())
                except OSError as error:
                    raise RaylevanceError(f"{artifact.ref}: {source} can't be read: {error}") from None
                check_file(draft / file.path, file, artifact.ref)
            (draft / MANIFEST).write_text(artifact.model_dump_json(indent=1), encoding="utf-8")
            for path in (draft, *draft.rglob("*")):
                flush(path)
            if damaged_inode is not None and _inode(folder) == damaged_inode:
                with suppress(FileNotFoundError):
                    folder.rename(damaged)
            with suppress(OSError):  # another reader was faster
                draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            shutil.rmtree(damaged, ignore_errors=True)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _check_files(folder: Path, artifact: Artifact) -> None:
    for file in artifact.files:
        check_file(folder / file.path, file, artifact.ref)


def _version_names(versions: Sequence[Artifact]) -> list[str]:
    return [artifact.version for artifact in versions]


@cache
def _warn(fault: str) -> None:
    """Log a fault of the store, once."""
    log.warning("a version is passed over: %s", fault)


def _warn_of(faults: Sequence[str]) -> None:
    for fault in faults:
        _warn(fault)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "raylevance"


def flush(path: Path) -> None:
    """Write the content of a file or a folder to the disk, before the rename that publishes it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
