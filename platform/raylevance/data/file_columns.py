"""Columns of a file that is read whole, of which a bad row is an error. An import can quarantine such rows instead."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from raylevance.data.conversions import Kind
from raylevance.errors import RaylevanceError


def file_column(file: Path, table: pa.Table, name: str, kind: Kind, *, required: bool = True) -> pa.Array:
    """Return the column `name` of a `table` that was read from `file`, in the type of `kind`.

    Raises `RaylevanceError` for the first row whose value can't be converted or, if `required`, is missing. An empty
    text and NaN are missing.
    """
    values, faults = kind.convert(table[name])
    bad = values.is_null() if required else faults.is_valid()
    rows = np.flatnonzero(bad.to_numpy(zero_copy_only=False))
    if len(rows):
        row = int(rows[0])
        raise RaylevanceError(f"{file}: row {row + 1}: {name} {faults[row].as_py() or 'is missing'}")
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
