"""Private folders to write a version in, and the removal of those that killed processes left.

A process holds a lock on the file `NAME.lock` beside its folder `NAME`. The kernel frees the lock when the process
ends, however it ends. A process id would not do: containers may share a host name, and have ids of their own. Only
folders of this host are looked at, since a mount may keep locks to one node.
"""

import fcntl
import os
import secrets
import shutil
import socket
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".lock"


@contextmanager
def private_folder(drafts: Path) -> Iterator[Path]:
    """Yield a new folder below `drafts`, which is removed afterwards. Raises `OSError` where it can't be made."""
    drafts.mkdir(parents=True, exist_ok=True)
    remove_abandoned(drafts)
    name, descriptor = _locked_name(drafts)
    folder = drafts / name
    try:
        folder.mkdir()
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            with suppress(OSError):
                (drafts / f"{name}{LOCK}").unlink(missing_ok=True)
            os.close(descriptor)


def remove_abandoned(drafts: Path) -> None:
    """Remove the folders of processes that were killed."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in drafts.iterdir():
        # An import writes to .NAME.draft next to the draft NAME.
        found[path.name.removeprefix(".").removesuffix(".draft").removesuffix(LOCK)].append(path)
    for name, paths in found.items():
        if name.rsplit("-", 2)[0] != socket.gethostname():
            continue
        lock = drafts / f"{name}{LOCK}"
        if not lock.exists():
            if _was_killed(name):
                _remove(paths)
            continue
        descriptor = _lock(lock)
        if descriptor is not None:
            _remove([*paths, lock])
            os.close(descriptor)


def _locked_name(drafts: Path) -> tuple[str, int | None]:
    """Return a new name and the descriptor of its lock, None on a file system without locks."""
    while True:
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        lock = drafts / f"{name}{LOCK}"
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            os.close(descriptor)
            lock.unlink(missing_ok=True)
            return name, None
        if os.fstat(descriptor).st_nlink:
            return name, descriptor
        os.close(descriptor)  # another process removed the file before it was locked


def _lock(file: Path) -> int | None:
    """Return the descriptor of `file` with its lock, None where a process holds it."""
    descriptor = None
    try:
        descriptor = os.open(file, os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor


def _was_killed(name: str) -> bool:
    """Return whether a folder without a lock is of a process that is gone."""
    _, *rest = name.rsplit("-", 2)
    pid = rest[0] if rest else ""
    return pid.isdigit() and Path("/proc/self").exists() and not Path("/proc", pid).exists()


def _remove(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)
