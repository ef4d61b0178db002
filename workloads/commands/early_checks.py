"""Checks of a command's options before it imports what it works with, which takes up to half a minute."""

from pathlib import Path

from raylevance.artifacts import Store
from raylevance.data.input_files import SUFFIXES, first_bytes, refuse_empty, suffix_of, unknown_kind
from raylevance.errors import RaylevanceError, UsageError


def require_files(*files: Path | None) -> None:
    """Check that files can be opened as tables; None is an option that was not given.

    Raises `UsageError` for an unknown kind of file, `RaylevanceError` for one that is missing or empty.
    """
    for file in files:
        if file is not None:
            if suffix_of(file) not in SUFFIXES:
                raise UsageError(unknown_kind(file))
            refuse_empty(file) if suffix_of(file) == ".parquet" else first_bytes(file)


def require_artifacts(store: str, **references: str | None) -> None:
    """Raise `RaylevanceError` if the store lacks an artifact of `references`, which are named by their kinds.

    A reference of another form than KIND/NAME, such as a path or None, is not checked.
    """
    for kind, reference in references.items():
        if reference is not None and reference.startswith(f"{kind}/"):
            Store(store).get(reference)


def require_parquet(**files: Path) -> None:
    """Raise `UsageError` for a file whose name does not end in .parquet; files are named by their options."""
    for option, file in files.items():
        if file.suffix.lower() != ".parquet":
            raise UsageError(f"--{option} {file}: expected a name that ends in .parquet")


def refuse_same_file(output: Path, **inputs: Path | None) -> None:
    """Raise `UsageError` if `output` is one of the `inputs`, which are named by their options."""
    for option, file in inputs.items():
        if file is not None and output.exists() and file.exists() and output.samefile(file):
            raise UsageError(f"--output {output}: is the file of --{option}; give another name")


def require_folder_of(output: Path) -> None:
    """Raise `RaylevanceError` if `output` is a folder, or would be in one that does not exist."""
    if output.is_dir():
        raise RaylevanceError(f"{output}: is a folder; name a file")
    if not output.absolute().parent.is_dir():
        raise RaylevanceError(f"{output}: no such folder: {output.parent}")
