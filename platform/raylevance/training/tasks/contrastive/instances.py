"""Training instances: a query, its items and their labels, tokenised once into a file that workers map into memory.

A query may have a misspelt variant beside it, for `losses.consistency`.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.data.spelling import VARIANT
from raylevance.models.encoder import load_tokenizer
from raylevance.models.tokenizer import SideTokenizer
from raylevance.training.token_file import Ints, RowKind, Tokens, write_tokens

COLUMNS = ("query", "items", "labels")
SCHEMA = pa.schema(
    {
        "query": pa.list_(pa.int32()),
        "items": pa.list_(pa.list_(pa.int32())),
        "labels": pa.list_(pa.int8()),
        VARIANT: pa.list_(pa.int32()),
    }
)
"""`VARIANT` is empty where a query has none."""


def tokenise(instances: Path, encoder: Path, output: Path) -> None:
    """Write the instances as token ids to `output`, as `write_tokens` does.

    `instances`: Parquet with columns query (string), items (list of string), labels (list of int), and perhaps
    `VARIANT` (string or null). A row whose items and labels do not match is bad.
    """
    kind = RowKind("training instances", COLUMNS, SCHEMA, _fault, _tokenise_rows, optional=(VARIANT,))
    write_tokens(instances, encoder, output, kind)


class _Chunk(NamedTuple):
    """Zero-copy views of one record batch. Offsets have one entry more than what they delimit."""

    query_tokens: Tokens
    query_offsets: npt.NDArray[np.int32]
    item_tokens: Tokens
    item_offsets: npt.NDArray[np.int32]
    instance_offsets: npt.NDArray[np.int32]
    variant_tokens: Tokens
    variant_offsets: npt.NDArray[np.int32]


class Instances:
    """Tokenised instances in a memory-mapped file; labels and lengths are held in memory.

    `labels` [items] int8 and `item_lengths` [items] (tokens), instance after instance; `first_item` [n + 1]: where each
    instance's items start in them; `query_lengths` [n] (tokens).
    """

    def __init__(self, file: Path) -> None:
        """Map the file that `tokenise` wrote."""
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
        self._chunks = [_views(batch) for batch in batches if batch.num_rows]
        self._first_row = np.cumsum([0, *(len(chunk.query_offsets) - 1 for chunk in self._chunks)])
        self.labels: npt.NDArray[np.int8] = _joined(
            [batch.column("labels").flatten().to_numpy() for batch in batches], np.int8
        )
        self.item_lengths = _joined([np.diff(chunk.item_offsets) for chunk in self._chunks], np.int32)
        self.query_lengths = _joined([np.diff(chunk.query_offsets) for chunk in self._chunks], np.int32)
        counts = _joined([np.diff(chunk.instance_offsets) for chunk in self._chunks], np.int64)
        self.first_item: Ints = np.concatenate([[0], np.cumsum(counts)])

    def __len__(self) -> int:
        return len(self.query_lengths)

    def query(self, row: int) -> Tokens:
        chunk, local = self._find(row)
        return chunk.query_tokens[chunk.query_offsets[local] : chunk.query_offsets[local + 1]]

    def variant(self, row: int) -> Tokens:
        """Of the row's query; empty for none."""
        chunk, local = self._find(row)
        return chunk.variant_tokens[chunk.variant_offsets[local] : chunk.variant_offsets[local + 1]]

    def items(self, row: int) -> list[Tokens]:
        chunk, local = self._find(row)
        first, end = chunk.instance_offsets[local], chunk.instance_offsets[local + 1]
        return [
            chunk.item_tokens[chunk.item_offsets[item] : chunk.item_offsets[item + 1]] for item in range(first, end)
        ]

    def labels_of(self, row: int) -> npt.NDArray[np.int8]:
        return self.labels[self.first_item[row] : self.first_item[row + 1]]

    def _find(self, row: int) -> tuple[_Chunk, int]:
        index = int(np.searchsorted(self._first_row, row, side="right")) - 1
        return self._chunks[index], row - int(self._first_row[index])


def _fault(query: str | None, items: list[str | None] | None, labels: list[int | None] | None) -> str | None:
    if query is None or not items or not labels or None in items or None in labels:
        return "a query, items and labels are required, none of them null"
    if len(items) != len(labels):
        return f"{len(items)} items but {len(labels)} labels"
    if any(label is not None and label < 0 for label in labels):
        return "a label is negative"
    return None


@functools.lru_cache(maxsize=1)
def _tokenizer(encoder: str) -> SideTokenizer:
    return load_tokenizer(encoder)


def _tokenise_rows(table: pa.Table, encoder: str) -> pa.Table:
    rows = list(zip(*(table[name].to_pylist() for name in COLUMNS), strict=True))
    tokenize = _tokenizer(encoder)
    tokens = tokenize([item for _, items, _ in rows for item in items], "item")
    offsets = np.cumsum([0, *(len(items) for _, items, _ in rows)])
    return pa.table(
        {
            "query": tokenize([query for query, _, _ in rows], "query"),
            "items": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(tokens, pa.list_(pa.int32()))),
            "labels": [labels for _, _, labels in rows],
            VARIANT: _tokenise_variants(table, tokenize),
        },
        schema=SCHEMA,
    )


def _tokenise_variants(table: pa.Table, tokenize: SideTokenizer) -> list[list[int]]:
    if VARIANT not in table.column_names:
        return [[]] * table.num_rows
    variants = table[VARIANT].to_pylist()
    tokens = iter(tokenize([variant for variant in variants if variant], "query"))
    return [next(tokens) if variant else [] for variant in variants]


def _views(batch: pa.RecordBatch) -> _Chunk:
    query, items, variant = (batch.column(name) for name in ("query", "items", VARIANT))
    tokens = items.values
    return _Chunk(
        query_tokens=query.values.to_numpy(),
        query_offsets=query.offsets.to_numpy(),
        item_tokens=tokens.values.to_numpy(),
        item_offsets=tokens.offsets.to_numpy(),
        instance_offsets=items.offsets.to_numpy(),
        variant_tokens=variant.values.to_numpy(),
        variant_offsets=variant.offsets.to_numpy(),
    )


def _joined(parts: list[npt.NDArray[Any]], dtype: type[np.generic]) -> npt.NDArray[Any]:
    joined: npt.NDArray[Any] = np.concatenate([np.empty(0, dtype), *parts])
    return joined.astype(dtype, copy=False)
