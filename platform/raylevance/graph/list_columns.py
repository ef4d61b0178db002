"""List columns of Arrow tables as flat arrays, and back."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]


def flat_lists(lists: pa.ChunkedArray) -> tuple[Ints, Ints]:
    """Return the row of each value of a list column, and the values, both int64 [values]."""
    combined = lists.combine_chunks()
    lengths = np.diff(combined.offsets.to_numpy())
    return np.repeat(np.arange(len(combined)), lengths), combined.flatten().to_numpy().astype(np.int64)


def list_column(counts: npt.NDArray[np.integer], values: npt.NDArray[Any] | pa.Array) -> pa.ListArray:
    """Return a list column [rows] whose row r holds the next `counts[r]` of `values`."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, values if isinstance(values, pa.Array) else pa.array(values))
