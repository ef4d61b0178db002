"""Write a file that appears complete or not at all."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raylevance.errors import RaylevanceError


@contextmanager
def output_file(file: Path) -> Iterator[Path]:
    """Yield the path of a draft beside `file`, which replaces `file` when the block ends and is removed on an error.

    Raises `RaylevanceError` if the folder does not exist.
    """
    if not file.parent.is_dir():
        raise RaylevanceError(f"{file}: no such folder: {file.parent}")
    draft = file.with_name(f".{file.name}.{uuid.uuid4().hex}.draft")
    try:
        yield draft
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
