"""Rows for momentum contrast: an anchor, its positive, hard negatives and a cluster, tokenised once."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.hashing import hash_strings
from raylevance.data.text import normalised_query
from raylevance.models.encoder import load_tokenizer
from raylevance.models.tokenizer import Side, SideTokenizer
from raylevance.training.token_file import Ints, RowKind, Tokens, write_tokens

SIDES: tuple[Side, Side] = ("query", "item")
COLUMNS = (
    "anchor",
    "anchor_side",
    "positive",
    "positive_side",
    "negatives",
    "positive_id",
    "related",
    "cluster",
    "cluster_weights",
    "cluster_id",
)
TEXT, TEXTS = pa.list_(pa.int32()), pa.list_(pa.list_(pa.int32()))
SCHEMA = pa.schema(
    {
        "anchor": TEXT,
        "anchor_is_item": pa.bool_(),
        "anchor_hash": pa.int64(),
        "positive": TEXT,
        "positive_is_item": pa.bool_(),
        "positive_hash": pa.int64(),
        "positive_id": pa.int64(),
        "negatives": TEXTS,
        "related": pa.list_(pa.int64()),
        "cluster": TEXTS,
        "cluster_weights": pa.list_(pa.float32()),
        "cluster_id": pa.int64(),
    }
)
NO_CLUSTER = -1
WEIGHT_TOLERANCE = 1e-3
"""How far the weights of a cluster may be from a sum of 1: float32, written and read."""


def tokenise(rows: Path, encoder: Path, output: Path) -> None:
    """Write the rows as token ids to `output`, as `write_tokens` does.

    `rows`: Parquet with the columns of `COLUMNS`, none of them null.

    - anchor, positive (string) and their sides anchor_side, positive_side ("query" or "item");
    - negatives (list of string): hard negatives, texts of the positive's side;
    - positive_id (int): the positive's node; queries and items share one numbering;
    - related (list of int): nodes near the anchor, whose keys are none of its negatives;
    - cluster (list of string), cluster_weights (list of float, as many, sum 1): query texts that make a centroid, and
      cluster_id (int): the node whose cluster it is. Empty, empty and -1: the anchor has none.
    """
    write_tokens(rows, encoder, output, RowKind("contrast rows", COLUMNS, SCHEMA, _fault, _tokenise_rows))


class MoCoRows:
    """Tokenised rows in a memory-mapped file of n rows; what is one number a row is held in memory, as arrays [n].

    `anchor_is_item`, `positive_is_item` bool: their sides. `anchor_hash`, `positive_hash`: `text_hashes` of both.
    `positive_id`, `cluster_id` int64. `lengths`: tokens of anchor and positive.
    """

    def __init__(self, file: Path) -> None:
        """Map the file that `tokenise` wrote."""
        self._table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
        self.anchor_is_item: npt.NDArray[np.bool_] = self._table["anchor_is_item"].to_numpy()
        self.positive_is_item: npt.NDArray[np.bool_] = self._table["positive_is_item"].to_numpy()
        self.anchor_hash: Ints = self._table["anchor_hash"].to_numpy()
        self.positive_hash: Ints = self._table["positive_hash"].to_numpy()
        self.positive_id: Ints = self._table["positive_id"].to_numpy()
        self.cluster_id: Ints = self._table["cluster_id"].to_numpy()
        self.lengths: Ints = (self.count("anchor") + self.count("positive")).astype(np.int64)

    def __len__(self) -> int:
        return len(self.cluster_id)

    def count(self, column: str) -> npt.NDArray[np.int32]:
        """[n]: what a row's list holds, tokens or texts."""
        counts: npt.NDArray[np.int32] = pc.list_value_length(self._table[column]).to_numpy()
        return counts

    def anchor(self, row: int) -> Tokens:
        return self._numbers("anchor", row)

    def positive(self, row: int) -> Tokens:
        return self._numbers("positive", row)

    def negatives(self, row: int) -> list[Tokens]:
        return self._texts("negatives", row)

    def cluster(self, row: int) -> list[Tokens]:
        return self._texts("cluster", row)

    def related(self, row: int) -> Ints:
        return self._numbers("related", row)

    def cluster_weights(self, row: int) -> npt.NDArray[np.float32]:
        return self._numbers("cluster_weights", row)

    def _numbers(self, column: str, row: int) -> npt.NDArray[Any]:
        numbers: npt.NDArray[Any] = self._table[column][int(row)].values.to_numpy()
        return numbers

    def _texts(self, column: str, row: int) -> list[Tokens]:
        return [text.values.to_numpy() for text in self._table[column][int(row)].values]


def _fault(*row: Any) -> str | None:
    named = dict(zip(COLUMNS, row, strict=True))
    for name, value in named.items():
        if value is None or (isinstance(value, list) and None in value):
            return f"{name} is null or holds a null"
    for name in ("anchor_side", "positive_side"):
        if named[name] not in SIDES:
            return f"{name} is {named[name]!r}, not 'query' or 'item'"
    return _cluster_fault(named["cluster"], named["cluster_weights"], named["cluster_id"])


def _cluster_fault(texts: list[str], weights: list[float], node: int) -> str | None:
    if len(texts) != len(weights):
        return f"cluster has {len(texts)} texts but {len(weights)} cluster_weights"
    if bool(texts) != (node >= 0):
        return f"cluster has {len(texts)} texts but cluster_id {node}: -1 goes with none, a node with some"
    total = math.fsum(weights)
    if texts and not (min(weights) >= 0 and abs(total - 1) <= WEIGHT_TOLERANCE):
        return f"cluster_weights are {min(weights):g} or more with a sum of {total:g}, not 0 or more with a sum of 1"
    return None


@functools.lru_cache(maxsize=1)
def _tokenizer(encoder: str) -> SideTokenizer:
    return load_tokenizer(encoder)


def _tokenise_rows(table: pa.Table, encoder: str) -> pa.Table:
    columns: dict[str, list[Any]] = {name: table[name].to_pylist() for name in COLUMNS}
    sides, kinds = columns["positive_side"], ("negatives", "cluster")
    flat = {name: [text for texts in columns[name] for text in texts] for name in kinds}
    offsets = {name: pa.array(np.cumsum([0, *map(len, columns[name])]), pa.int32()) for name in kinds}
    side_of_negative = [side for side, texts in zip(sides, columns["negatives"], strict=True) for _ in texts]
    tokenize = _tokenizer(encoder)
    negatives = _tokenise_texts(tokenize, flat["negatives"], side_of_negative)
    cluster = _tokenise_texts(tokenize, flat["cluster"], ["query"] * len(flat["cluster"]))
    return pa.table(
        {
            "anchor": _tokenise_texts(tokenize, columns["anchor"], columns["anchor_side"]),
            "anchor_is_item": [side == "item" for side in columns["anchor_side"]],
            "anchor_hash": text_hashes(columns["anchor"]),
            "positive": _tokenise_texts(tokenize, columns["positive"], sides),
            "positive_is_item": [side == "item" for side in sides],
            "positive_hash": text_hashes(columns["positive"]),
            "positive_id": columns["positive_id"],
            "negatives": pa.ListArray.from_arrays(offsets["negatives"], pa.array(negatives, TEXT)),
            "related": columns["related"],
            "cluster": pa.ListArray.from_arrays(offsets["cluster"], pa.array(cluster, TEXT)),
            "cluster_weights": columns["cluster_weights"],
            "cluster_id": columns["cluster_id"],
        },
        schema=SCHEMA,
    )


def _tokenise_texts(tokenize: SideTokenizer, texts: Sequence[str], sides: Sequence[Side]) -> list[list[int]]:
    """Token ids of each text by its own side, in the order of `texts`."""
    tokens: list[list[int]] = [[]] * len(texts)
    for side in SIDES:
        rows = [row for row, its_side in enumerate(sides) if its_side == side]
        if rows:
            for row, ids in zip(rows, tokenize([texts[row] for row in rows], side), strict=True):
                tokens[row] = ids
    return tokens


def text_hashes(texts: Sequence[str]) -> Ints:
    """64 bits a text, int64 [n]; texts that differ in case or white space alone are one."""
    return hash_strings(normalised_query(pa.array(texts, pa.string()))).view(np.int64)
