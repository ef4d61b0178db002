"""Count the rows of a stored table that repeat an earlier row in all columns."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from raylevance.data.hashing import MULTIPLIER, Hashes, hash_strings

ROWS_PER_PASS = 32_000_000
"""How many rows are compared at once, at 8 bytes each."""


def count_repeated_rows(folder: Path, rows_per_pass: int = ROWS_PER_PASS) -> int:
    """Return how many rows of the Parquet files in `folder` repeat an earlier one in all columns.

    The columns hold text, numbers or times. Rows are compared by a fast hash, and those with the same one by a 64-bit
    hash of all values. The files are read again for each `rows_per_pass` rows.
    """
    table = pyarrow.dataset.dataset(folder, format="parquet")
    passes = np.uint64(1 + table.count_rows() // rows_per_pass)
    repeats = 0
    for number in range(int(passes)):
        fast = [hashes[hashes % passes == number] for hashes in map(_fast_hashes, _batches(table))]
        values, counts = np.unique(np.concatenate([np.empty(0, np.uint64), *fast]), return_counts=True)
        shared = values[counts > 1]
        if len(shared):
            hashes = np.concatenate([_hashes(_with_hashes(batch, shared)) for batch in _batches(table)])
            repeats += len(hashes) - len(np.unique(hashes))
    return repeats


def _batches(table: pyarrow.dataset.Dataset) -> Iterator[pa.Table]:
    return (pa.table(batch) for batch in table.to_batches() if batch.num_rows)


def _with_hashes(rows: pa.Table, hashes: Hashes) -> pa.Table:
    return rows.filter(pa.array(np.isin(_fast_hashes(rows), hashes)))


def _fast_hashes(rows: pa.Table) -> Hashes:
    """Return a number for each row, equal for equal rows, from the lengths and the last eight bytes of its texts."""
    return _combined(rows, _ends_of)


def _hashes(rows: pa.Table) -> Hashes:
    return _combined(rows, hash_strings)


def _combined(rows: pa.Table, number_of_texts: Callable[[pa.Array], Hashes]) -> Hashes:
    combined = np.zeros(rows.num_rows, np.uint64)
    for column in rows.columns:
        values = column.combine_chunks()
        is_text = pa.types.is_string(values.type)
        numbers = number_of_texts(values) if is_text else _as_integers(values)
        combined = (combined ^ numbers) * MULTIPLIER
        combined ^= combined >> np.uint64(29)
    return combined


def _as_integers(values: pa.Array) -> Hashes:
    absent = np.iinfo(np.int64).min
    return np.asarray(pc.fill_null(values.cast(pa.int64()), absent)).view(np.uint64)


def _ends_of(texts: pa.Array) -> Hashes:
    """Return the last eight bytes of each text, zeros where it is shorter, mixed with its length."""
    texts = pc.fill_null(texts, "")
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    lengths = np.diff(ends)
    content = np.concatenate([np.zeros(8, np.uint8), np.frombuffer(data or b"", np.uint8)])
    eights = np.ndarray(len(content) - 7, "<u8", content.data, strides=(1,))  # the eight bytes from each place on
    absent = np.minimum(8 * np.maximum(8 - lengths, 0), 63).astype(np.uint64)
    numbers = np.where(lengths > 0, eights[ends[1:]] >> absent, 0)
    return np.asarray((numbers ^ lengths.astype(np.uint64) << np.uint64(56)) * MULTIPLIER, np.uint64)
