"""NumPy arrays in messages between processes: MessagePack has bytes, but no arrays."""

from typing import Any

import numpy as np
import numpy.typing as npt

Packed = tuple[str, list[int], bytes]
"""The type of the elements (a key of `TYPES`), the shape, and the elements in C order."""
TYPES = {"float32": np.float32, "int64": np.int64, "bits": np.uint8}


def pack(array: npt.NDArray[Any]) -> Packed:
    """Return float32, int64 or bool elements as bytes; bool takes a bit each."""
    if array.dtype == np.bool_:
        return "bits", list(array.shape), np.packbits(array).tobytes()
    return str(array.dtype), list(array.shape), np.ascontiguousarray(array).tobytes()


def unpack(packed: Packed) -> npt.NDArray[Any]:
    """Return the array that `pack` was given, read-only unless it is bool. Raises `KeyError` for another type."""
    name, shape, elements = packed
    array = np.frombuffer(elements, TYPES[name])
    if name == "bits":
        return np.unpackbits(array, count=int(np.prod(shape))).astype(np.bool_).reshape(shape)
    return array.reshape(shape)
