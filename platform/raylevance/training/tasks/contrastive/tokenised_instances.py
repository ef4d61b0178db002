"""Training instances, each a query with its items and their labels, tokenised once."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.data.hashing import Hashes
from raylevance.data.spelling import VARIANT
from raylevance.models.encoder import load_encoder_tokenizer
from raylevance.models.tokenizer import SideTokenizer
from raylevance.training.token_file import Ints, RowKind, Tokens
from raylevance.training.token_table import TokenTable

COLUMNS = ("query", "items", "labels")
SCHEMA = pa.schema(
    {
        "query": pa.list_(pa.int32()),
        "items": pa.list_(pa.list_(pa.int32())),
        "labels": pa.list_(pa.float32()),
        VARIANT: pa.list_(pa.int32()),
    }
)
"""Schema of the token file. The list of `VARIANT` is empty for a query without a variant."""


RELEVANT_FROM = 0.5
"""The label from which an item is a positive of its query."""


class TokenisedInstances:
    """The n instances of a token file, whose labels and lengths are held in memory.

    - `labels` float32 and `item_lengths` (tokens): one entry for each item, instance after instance.
    - `first_item` [n + 1]: where the items of each instance start in those two.
    - `query_lengths` [n] (tokens).
    """

    def __init__(self, file: Path) -> None:
        """Map a file that `write_tokens` wrote with `INSTANCES` into memory."""
        table = TokenTable(file)
        self._queries, self._items, self._variants = (
            table.lists("query"),
            table.nested_lists("items"),
            table.lists(VARIANT),
        )
        self.labels: npt.NDArray[np.float32] = table.lists("labels").flattened()
        self.item_lengths = self._items.inner_lengths
        self.query_lengths = self._queries.lengths
        self.first_item: Ints = np.concatenate([[0], np.cumsum(self._items.lengths, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self.query_lengths)

    def query_hashes(self) -> Hashes:
        """Return a hash of each query's tokens, uint64 [n]."""
        return self._queries.hashes()

    def item_hashes(self) -> Hashes:
        """Return a hash of each item's tokens, uint64, instance after instance."""
        return self._items.inner_hashes()

    def query(self, row: int) -> Tokens:
        """Return the tokens of an instance's query."""
        return self._queries[row]

    def variant(self, row: int) -> Tokens:
        """Return the tokens of the misspelt variant of an instance's query, none if it has no variant."""
        return self._variants[row]

    def items(self, row: int) -> list[Tokens]:
        """Return the tokens of each item of an instance."""
        return self._items[row]

    def is_positive(self) -> npt.NDArray[np.bool_]:
        """Return whether the label of each item is `RELEVANT_FROM` or more: the grade nearest to it is 1 or 2."""
        return self.labels >= RELEVANT_FROM

    def labels_of(self, row: int) -> npt.NDArray[np.float32]:
        """Return the labels of an instance's items."""
        return self.labels[self.first_item[row] : self.first_item[row + 1]]


def _find_fault(query: str | None, items: list[str | None] | None, labels: list[float | None] | None) -> str | None:
    if query is None or not items or not labels or None in items or None in labels:
        return "a query, items and labels are required, none of them null"
    if len(items) != len(labels):
        return f"{len(items)} items but {len(labels)} labels"
    if any(label is not None and not label >= 0 for label in labels):
        return "a label is negative or not a number"
    return None


def _tokenise(table: pa.Table, tokenizer: SideTokenizer) -> pa.Table:
    rows = list(zip(*(table[name].to_pylist() for name in COLUMNS), strict=True))
    tokens = tokenizer([item for _, items, _ in rows for item in items], "item")
    offsets = np.cumsum([0, *(len(items) for _, items, _ in rows)])
    return pa.table(
        {
            "query": tokenizer([query for query, _, _ in rows], "query"),
            "items": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(tokens, pa.list_(pa.int32()))),
            "labels": [labels for _, _, labels in rows],
            VARIANT: _tokenise_variants(table, tokenizer),
        },
        schema=SCHEMA,
    )


def _tokenise_variants(table: pa.Table, tokenizer: SideTokenizer) -> list[list[int]]:
    if VARIANT not in table.column_names:
        return [[]] * table.num_rows
    variants = table[VARIANT].to_pylist()
    tokens = iter(tokenizer([variant for variant in variants if variant], "query"))
    return [next(tokens) if variant else [] for variant in variants]


INSTANCES = RowKind(
    name="training instances",
    columns=COLUMNS,
    schema=SCHEMA,
    find_fault=_find_fault,
    load_tokenizer=load_encoder_tokenizer,
    tokenise=_tokenise,
    optional_columns=(VARIANT,),
)
"""Rows of query (string), items (list of string) and labels (list of numbers, one for each item: grades, or soft
labels between them). `VARIANT` (string or null), a misspelt variant of the query, is optional."""
