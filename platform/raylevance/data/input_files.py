"""The files that can be read: how they are named, found and opened."""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pyarrow as pa

from raylevance.data.single_values import LONGEST_VALUE
from raylevance.errors import RaylevanceError, one_line

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
CSV_SUFFIXES = (".csv", ".tsv")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
SUFFIXES = (".parquet", *CSV_SUFFIXES, *JSON_SUFFIXES)

COMPRESSION_RATIO = 8
"""How many times larger a compressed file of text is taken to be, to plan memory."""

TOO_LONG = f"row is longer than {LONGEST_VALUE >> 20} MiB"
NOT_UTF8 = "row is not UTF-8 text"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
AS_UTF8 = "can't be read as UTF-8 text; save it as UTF-8 text"
NOT_TEXT_FILES = {
    b"\xff\xfe": f"is UTF-16, {AS_UTF8}",
    b"\xfe\xff": f"is UTF-16, {AS_UTF8}",
    b"PK\x03\x04": f"is a zip archive or an Excel workbook, {AS_UTF8}",
    b"\xd0\xcf\x11\xe0": f"is an Excel workbook, {AS_UTF8}",
    b"PAR1": "is a Parquet file; name it .parquet",
}
"""The first bytes of files that are often saved under the name of a text file, and what to say of them."""
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
"""The first bytes of compressed files."""


class NoRowsError(ValueError):
    """A file has no rows."""

    def __init__(self) -> None:
        super().__init__("empty: it has no rows")


def suffix_of(file: Path) -> str:
    """Return the suffix of `file` in lower case, without that of a compression, such as .csv for `A.CSV.gz`.

    Only text files can be compressed: the suffix of `a.parquet.gz` is .gz.
    """
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS and suffixes[-2:-1] not in ([], [".parquet"]):
        return suffixes[-2]
    return suffixes[-1] if suffixes else ""


def is_readable(file: Path) -> bool:
    """Return whether `file` has a suffix of `SUFFIXES`, perhaps with a compression, and is not hidden."""
    return suffix_of(file) in SUFFIXES and not file.name.startswith((".", "_"))


def require_known_kind(file: Path) -> None:
    """Raise `RaylevanceError` if `file` has another suffix than `SUFFIXES`."""
    if suffix_of(file) not in SUFFIXES:
        raise RaylevanceError(unknown_kind(file))


def unknown_kind(file: Path) -> str:
    """Return the message for a file with another suffix than `SUFFIXES`."""
    return f"{file}: unknown kind of file; use one of {', '.join(SUFFIXES)}, text also in .gz or .zst"


def files_below(folder: Path) -> list[Path]:
    """Return the files in `folder` and its subfolders, in the order of their paths.

    Links are followed, and a folder that is reached twice is read once. Raises `RaylevanceError` for what can't be
    read, and for a link to a folder that `folder` is in.
    """
    found: list[Path] = []
    root = folder.resolve()
    visited = {root}
    for path, subfolders, names in os.walk(folder, onerror=_raise_unreadable, followlinks=True):
        new: list[str] = []
        for name in sorted(subfolders):
            target = (Path(path) / name).resolve()
            if target in root.parents or (target == root and (Path(path) / name).is_symlink()):
                raise RaylevanceError(f"{Path(path) / name}: is a link to a folder that it is in; remove it")
            if target not in visited:
                visited.add(target)
                new.append(name)
        subfolders[:] = new
        try:
            found += [file for name in names if (file := Path(path) / name).is_file()]
        except OSError as error:
            _raise_unreadable(error)
    return sorted(found)


def _raise_unreadable(error: OSError) -> NoReturn:
    raise RaylevanceError(f"{error.filename}: can't be read: {error.strerror}") from None


def matching_files(folder: Path, *stems: str) -> list[Path]:
    """Return the readable files in the subfolders of `folder` that are named as one of `stems`, sorted by name.

    Without readable files in such a subfolder, return the files of `folder` whose names start with one of `stems`.
    Upper and lower case are the same. Raises `RaylevanceError` if both have such files, because one of them would not
    be read.
    """
    try:
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        _raise_unreadable(error)
    subfolders = [entry for entry in entries if entry.is_dir() and entry.name.lower() in stems]
    inside = _readable(file for subfolder in subfolders for file in files_below(subfolder))
    beside = _readable(entry for entry in entries if entry.name.lower().startswith(stems))
    if inside and beside:
        read = inside[0].relative_to(folder).parts[0]
        what_to_do = "move the files of the table into the folder, and rename or remove the others"
        raise RaylevanceError(f"{folder}: has the folder {read} and {beside[0].name} beside it; {what_to_do}")
    return inside or beside


def _readable(files: Iterable[Path]) -> list[Path]:
    return sorted(file for file in files if is_readable(file) and file.is_file())


def named_file(folder: Path, name: str) -> Path:
    """Return the file `name` of `folder` in the spelling that it has there: upper or lower case, perhaps compressed.

    Return the path with the name as given if there is none.
    """
    spellings = [name.lower() + suffix for suffix in ("", *COMPRESSIONS)]
    entries = {entry.name.lower(): entry for entry in sorted(folder.iterdir(), reverse=True)} if folder.is_dir() else {}
    exact = folder / name
    return exact if exact.exists() else next((entries[name] for name in spellings if name in entries), exact)


def bytes_when_read(file: Path) -> int:
    """Return about how many bytes `file` has when it is decompressed."""
    return file.stat().st_size * (COMPRESSION_RATIO if file.suffix.lower() in COMPRESSIONS else 1)


def open_bytes(file: Path) -> io.BufferedReader:
    """Open `file` to read its bytes, decompressed if it is compressed, whatever its name says.

    Raises `RaylevanceError` if it is missing, a Git LFS pointer, or text in another encoding than UTF-8. A stream that
    turns out to be damaged raises `OSError` while it is read.
    """
    start = first_bytes(file)
    compression = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
    try:
        stream = io.BufferedReader(pa.input_stream(str(file), compression=compression), 1 << 20)
        start = stream.peek(4)[:4]
    except OSError as error:
        raise RaylevanceError(f"{file}: incomplete or unreadable: {one_line(error)}") from None
    for magic, reason in NOT_TEXT_FILES.items():
        if start.startswith(magic):
            raise RaylevanceError(f"{file}: {reason}")
    if b"\0" in start:
        raise RaylevanceError(f"{file}: is UTF-16, UTF-32 or no text, {AS_UTF8}")
    return stream


def refuse_empty(file: Path) -> None:
    """Raise `RaylevanceError` for a file of 0 bytes, and as `first_bytes` does. Even a table without rows has some."""
    if not first_bytes(file):
        raise RaylevanceError(f"{file}: is empty, it has 0 bytes; write it again")


def first_bytes(file: Path) -> bytes:
    """Return the first bytes of `file`. Raises `RaylevanceError` if it is missing or a Git LFS pointer."""
    try:
        with file.open("rb") as opened:
            start = opened.read(len(LFS_POINTER))
    except FileNotFoundError:
        raise RaylevanceError(f"{file}: no such file") from None
    except OSError as error:
        raise RaylevanceError(f"{file}: can't be read: {error.strerror}") from None
    if start == LFS_POINTER:
        raise RaylevanceError(f"{file}: is a Git LFS pointer, not the data; run `git lfs pull` where it was cloned")
    return start
