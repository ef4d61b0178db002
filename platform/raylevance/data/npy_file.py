"""Write an array as a .npy file that no reader sees half-written."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raylevance.data.output_file import output_file
from raylevance.errors import RaylevanceError


def write_npy(file: Path, values: npt.NDArray[Any]) -> None:
    """Write `values` to a temporary file next to `file`, then rename it.

    Raises `RaylevanceError` when the folder does not exist or the file can't be written.
    """
    try:
        with output_file(file) as draft, draft.open("wb") as stream:
            np.save(stream, values, allow_pickle=False)
    except OSError as error:
        raise RaylevanceError(f"{file}: can't be written: {error.strerror or error}") from None
