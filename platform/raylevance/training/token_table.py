"""Read a token file, row by row and without copies."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.data.hashing import Hashes, hash_strings
from raylevance.training.token_file import Ints


class TokenTable:
    """A token file of n rows that `token_file.write_tokens` wrote, mapped into memory.

    Lists stay in the file until a row of them is read. Columns with one number for each row are held in memory.
    """

    def __init__(self, file: Path) -> None:
        """Map `file` into memory."""
        self._table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def numbers(self, column: str) -> npt.NDArray[Any]:
        """Return a column of numbers or truth values as an array [n]."""
        numbers: npt.NDArray[Any] = self._table[column].to_numpy()
        return numbers

    def lists(self, column: str) -> "ListColumn":
        """Return a column whose rows are lists of numbers."""
        return ListColumn(self._table[column])

    def nested_lists(self, column: str) -> "NestedListColumn":
        """Return a column whose rows are lists of lists of numbers, such as the tokens of several texts."""
        return NestedListColumn(self._table[column])


class ListColumn:
    """Lists of numbers, one for each row: `column[row]` is an array without a copy.

    `lengths` [n] int32 are the lengths of the lists.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._rows = _ChunkedRows(column)
        self._values = [chunk.values.to_numpy() for chunk in self._rows.chunks]
        self._dtype = column.type.value_type.to_pandas_dtype()
        self.lengths = _joined([np.diff(offsets) for offsets in self._rows.offsets], np.int32)

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        chunk, start, end = self._rows.span(row)
        numbers: npt.NDArray[Any] = self._values[chunk][start:end]
        return numbers

    def hashes(self) -> Hashes:
        """Return a hash of 64 bits for each list, uint64 [n]; lists of equal numbers hash alike."""
        return _joined([_hash_lists(*chunk) for chunk in zip(self._rows.offsets, self._values, strict=True)], np.uint64)

    def flattened(self) -> npt.NDArray[Any]:
        """Return the numbers of all lists, one list after another, in memory."""
        chunks = zip(self._values, self._rows.offsets, strict=True)
        return _joined([values[offsets[0] : offsets[-1]] for values, offsets in chunks], self._dtype)


class NestedListColumn:
    """Lists of lists of numbers, one outer list for each row: `column[row]` is a list of arrays without copies.

    `lengths` [n] int32 are the lengths of the outer lists; `inner_lengths` int32 are those of all inner lists, row
    after row.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._rows = _ChunkedRows(column)
        inner = [chunk.values for chunk in self._rows.chunks]
        self._inner_offsets = [lists.offsets.to_numpy() for lists in inner]
        self._values = [lists.values.to_numpy() for lists in inner]
        self.lengths = _joined([np.diff(offsets) for offsets in self._rows.offsets], np.int32)
        self.inner_lengths = _joined([np.diff(offsets) for offsets in self._inner_offsets], np.int32)

    def inner_hashes(self) -> Hashes:
        """Return a hash of 64 bits for each inner list, uint64, row after row; lists of equal numbers hash alike."""
        chunks = zip(self._inner_offsets, self._values, strict=True)
        return _joined([_hash_lists(offsets, values) for offsets, values in chunks], np.uint64)

    def __getitem__(self, row: int) -> list[npt.NDArray[Any]]:
        chunk, start, end = self._rows.span(row)
        offsets, values = self._inner_offsets[chunk], self._values[chunk]
        return [values[offsets[index] : offsets[index + 1]] for index in range(start, end)]


class _ChunkedRows:
    """The chunks of a list column, and where each row lies in them."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.chunks = [chunk for chunk in column.chunks if len(chunk)]
        self.offsets = [chunk.offsets.to_numpy() for chunk in self.chunks]
        self._first_row: Ints = np.cumsum([0, *map(len, self.chunks)])

    def span(self, row: int) -> tuple[int, int, int]:
        """Return the chunk of a row, and the start and the end of its list in the values of that chunk."""
        chunk = int(np.searchsorted(self._first_row, row, side="right")) - 1
        offsets, local = self.offsets[chunk], row - int(self._first_row[chunk])
        return chunk, int(offsets[local]), int(offsets[local + 1])


def _hash_lists(offsets: npt.NDArray[Any], values: npt.NDArray[Any]) -> Hashes:
    """Hash the bytes of the lists of one chunk."""
    ends = pa.py_buffer(offsets.astype(np.int64) * values.itemsize)
    lists = pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, [None, ends, pa.py_buffer(values)])
    return hash_strings(lists)


def _joined(parts: Sequence[npt.NDArray[Any]], dtype: type[np.generic]) -> npt.NDArray[Any]:
    """Return the arrays `parts`, of which there may be none, as one array of `dtype`."""
    whole: npt.NDArray[Any] = np.concatenate([np.empty(0, dtype), *parts])
    return whole.astype(dtype, copy=False)
