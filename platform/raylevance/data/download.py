"""Download public data sets from their authors, and check them against the published hashes."""

import errno
import hashlib
import shutil
from pathlib import Path
from typing import NamedTuple

import httpx

from raylevance.errors import RaylevanceError, UsageError, nearest
from raylevance.progress import progress_bar

CHUNK = 1 << 20
TIMEOUT = httpx.Timeout(30.0)


class RemoteFile(NamedTuple):
    """A published file: its address, its size in bytes and the sha256 of its content."""

    url: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]


ESCI = "https://github.com/amazon-science/esci-data/raw/main/shopping_queries_dataset"
FILES = {
    "esci": [
        RemoteFile(
            f"{ESCI}/shopping_queries_dataset_examples.parquet",
            51_286_808,
            "4a735b693b4a424a6fc67f5be6e4c811495c488bbf66d02a602d308b2744263a",
        ),
        RemoteFile(
            f"{ESCI}/shopping_queries_dataset_products.parquet",
            1_108_857_465,
            "25124442d064d64b26f74082d6fa09438d679efc0c183cf28d19064a2b65a265",
        ),
    ]
}
"""The files of each data set. Sizes and hashes are from the Git LFS pointers in the authors' repository."""


def download(name: str, destination: Path) -> list[Path]:
    """Download the files of the data set `name` into the folder `destination`, and return their paths.

    Files that are there already, and complete, are not downloaded again.

    Raises

    - `UsageError` if there is no such data set,
    - `RaylevanceError` if there is no network, if the disk is full, or if a file is not the published one.
    """
    if name not in FILES:
        raise UsageError(f"{name}: unknown data set; {nearest(name, list(FILES))}")
    return [fetch(file, destination) for file in FILES[name]]


def fetch(file: RemoteFile, destination: Path) -> Path:
    """Download one file into the folder `destination`, and return its path.

    The data goes to `<name>.part` first. An interrupted download continues where it stopped. Raises as `download` does.
    """
    target = destination / file.name
    part = destination / f"{file.name}.part"
    if target.exists() and target.stat().st_size == file.size and _sha256(target) == file.sha256:
        return target
    try:
        destination.mkdir(parents=True, exist_ok=True)
        _check_space(file, part)
        _stream(file, part)
    except httpx.HTTPError as error:
        raise RaylevanceError(
            f"{file.url}: can't be downloaded: {error or type(error).__name__}; check the network"
        ) from None
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
        raise RaylevanceError(f"{part}: can't be written: {reason}") from None
    _check_content(file, part)
    part.replace(target)
    return target


def _check_space(file: RemoteFile, part: Path) -> None:
    missing = file.size - (part.stat().st_size if part.exists() else 0)
    free = shutil.disk_usage(part.parent).free
    if free < missing:
        raise RaylevanceError(f"{part.parent}: {file.name} needs {missing:,} more bytes, and only {free:,} are free")


def _stream(file: RemoteFile, part: Path) -> None:
    start = part.stat().st_size if part.exists() else 0
    if start >= file.size:
        return
    headers = {"Range": f"bytes={start}-"} if start else {}
    with httpx.stream("GET", file.url, headers=headers, follow_redirects=True, timeout=TIMEOUT) as response:
        response.raise_for_status()
        # A server that ignores the range sends the whole file again.
        start = start if response.status_code == httpx.codes.PARTIAL_CONTENT else 0
        with part.open("ab" if start else "wb") as sink, progress_bar(file.name, "bytes") as bar:
            bar.restart(file.size, start)
            for chunk in response.iter_bytes(CHUNK):
                sink.write(chunk)
                bar.advance(len(chunk))


def _check_content(file: RemoteFile, part: Path) -> None:
    size = part.stat().st_size
    if size < file.size:
        raise RaylevanceError(f"{part}: only {size:,} of {file.size:,} bytes arrived; run the same command to continue")
    if _sha256(part) != file.sha256:
        part.unlink()
        raise RaylevanceError(f"{file.url}: not the published file (its sha256 differs); the download was deleted")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
