"""Write an array as a .npy file that no reader sees half-written."""

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raylevance.errors import RaylevanceError


def write_npy(file: Path, values: npt.NDArray[Any]) -> None:
    """Write `values` to a temporary file next to `file`, then rename it.

    Raises `RaylevanceError` when the folder does not exist or the file can't be written.
    """
    draft = file.with_name(f".{file.name}.{uuid.uuid4().hex}.draft")
    try:
        with draft.open("wb") as stream:
            np.save(stream, values, allow_pickle=False)
        draft.replace(file)
    except FileNotFoundError:
        raise RaylevanceError(f"{file}: no such folder: {file.parent}") from None
    except OSError as error:
        raise RaylevanceError(f"{file}: can't be written: {error.strerror or error}") from None
    finally:
        draft.unlink(missing_ok=True)
