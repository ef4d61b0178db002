"""Rows for momentum contrast, each an anchor, its positive, hard negatives and a cluster, tokenised once."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.data.hashing import hash_strings
from raylevance.data.text import normalised_query
from raylevance.models.encoder import load_encoder_tokenizer
from raylevance.models.tokenizer import Side, SideTokenizer
from raylevance.training.token_file import Ints, RowKind, Tokens
from raylevance.training.token_table import TokenTable

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
        "excluded_nodes": pa.list_(pa.int64()),
        "cluster": TEXTS,
        "cluster_weights": pa.list_(pa.float32()),
        "cluster_id": pa.int64(),
    }
)
NO_CLUSTER = -1
WEIGHT_TOLERANCE = 1e-3
"""Largest distance of the sum of a cluster's weights from 1; they are written and read as float32."""


class TokenisedContrastRows:
    """The n rows of a token file.

    Held in memory, each [n]:

    - `anchor_is_item`, `positive_is_item` bool: the sides of both texts.
    - `anchor_hash`, `positive_hash` int64: their `text_hashes`.
    - `positive_id` int64: node of the positive.
    - `cluster_id` int64: node whose cluster the row has, or `NO_CLUSTER`.
    - `negative_counts`, `cluster_sizes` int32: number of hard negatives, and of texts in the cluster.
    - `lengths` int64: tokens of anchor and positive together.
    """

    def __init__(self, file: Path) -> None:
        """Map a file that `write_tokens` wrote with `CONTRAST_ROWS` into memory."""
        table = TokenTable(file)
        self._anchors, self._positives = table.lists("anchor"), table.lists("positive")
        self._negatives, self._clusters = table.nested_lists("negatives"), table.nested_lists("cluster")
        self._excluded_nodes, self._cluster_weights = table.lists("excluded_nodes"), table.lists("cluster_weights")
        self.anchor_is_item: npt.NDArray[np.bool_] = table.numbers("anchor_is_item")
        self.positive_is_item: npt.NDArray[np.bool_] = table.numbers("positive_is_item")
        self.anchor_hash: Ints = table.numbers("anchor_hash")
        self.positive_hash: Ints = table.numbers("positive_hash")
        self.positive_id: Ints = table.numbers("positive_id")
        self.cluster_id: Ints = table.numbers("cluster_id")
        self.negative_counts: npt.NDArray[np.int32] = self._negatives.lengths
        self.cluster_sizes: npt.NDArray[np.int32] = self._clusters.lengths
        self.lengths: Ints = (self._anchors.lengths + self._positives.lengths).astype(np.int64)

    def __len__(self) -> int:
        return len(self.cluster_id)

    def anchor(self, row: int) -> Tokens:
        """Return the tokens of a row's anchor."""
        return self._anchors[row]

    def positive(self, row: int) -> Tokens:
        """Return the tokens of a row's positive."""
        return self._positives[row]

    def negatives(self, row: int) -> list[Tokens]:
        """Return the tokens of a row's hard negatives."""
        return self._negatives[row]

    def cluster(self, row: int) -> list[Tokens]:
        """Return the tokens of the texts in a row's cluster."""
        return self._clusters[row]

    def excluded_nodes(self, row: int) -> Ints:
        """Return the nodes whose keys are not negatives of a row's anchor."""
        return self._excluded_nodes[row]

    def cluster_weights(self, row: int) -> npt.NDArray[np.float32]:
        """Return the weights of the texts in a row's cluster."""
        return self._cluster_weights[row]


def _find_fault(*row: Any) -> str | None:
    named = dict(zip(COLUMNS, row, strict=True))
    for name, value in named.items():
        if value is None or (isinstance(value, list) and None in value):
            return f"{name} is null or holds a null"
    for name in ("anchor_side", "positive_side"):
        if named[name] not in SIDES:
            return f"{name} is {named[name]!r}, not 'query' or 'item'"
    return _find_cluster_fault(named["cluster"], named["cluster_weights"], named["cluster_id"])


def _find_cluster_fault(texts: list[str], weights: list[float], node: int) -> str | None:
    if len(texts) != len(weights):
        return f"cluster has {len(texts)} texts but {len(weights)} cluster_weights"
    if bool(texts) != (node >= 0):
        return f"cluster has {len(texts)} texts but cluster_id {node}: it must be -1 without texts, else a node"
    total = math.fsum(weights)
    if texts and not (min(weights) >= 0 and abs(total - 1) <= WEIGHT_TOLERANCE):
        return f"cluster_weights are {min(weights):g} or more with a sum of {total:g}, not 0 or more with a sum of 1"
    return None


def _tokenise(table: pa.Table, tokenizer: SideTokenizer) -> pa.Table:
    columns: dict[str, list[Any]] = {name: table[name].to_pylist() for name in COLUMNS}
    sides, nested = columns["positive_side"], ("negatives", "cluster")
    flat = {name: [text for texts in columns[name] for text in texts] for name in nested}
    offsets = {name: pa.array(np.cumsum([0, *map(len, columns[name])]), pa.int32()) for name in nested}
    side_of_negative = [side for side, texts in zip(sides, columns["negatives"], strict=True) for _ in texts]
    negatives = _tokenise_texts(tokenizer, flat["negatives"], side_of_negative)
    cluster = _tokenise_texts(tokenizer, flat["cluster"], ["query"] * len(flat["cluster"]))
    return pa.table(
        {
            "anchor": _tokenise_texts(tokenizer, columns["anchor"], columns["anchor_side"]),
            "anchor_is_item": [side == "item" for side in columns["anchor_side"]],
            "anchor_hash": text_hashes(columns["anchor"]),
            "positive": _tokenise_texts(tokenizer, columns["positive"], sides),
            "positive_is_item": [side == "item" for side in sides],
            "positive_hash": text_hashes(columns["positive"]),
            "positive_id": columns["positive_id"],
            "negatives": pa.ListArray.from_arrays(offsets["negatives"], pa.array(negatives, TEXT)),
            "excluded_nodes": columns["related"],
            "cluster": pa.ListArray.from_arrays(offsets["cluster"], pa.array(cluster, TEXT)),
            "cluster_weights": columns["cluster_weights"],
            "cluster_id": columns["cluster_id"],
        },
        schema=SCHEMA,
    )


def _tokenise_texts(tokenizer: SideTokenizer, texts: Sequence[str], sides: Sequence[Side]) -> list[list[int]]:
    """Return the token ids of each text by its own side, in the order of `texts`."""
    tokens: list[list[int]] = [[]] * len(texts)
    for side in SIDES:
        rows = [row for row, its_side in enumerate(sides) if its_side == side]
        if rows:
            for row, ids in zip(rows, tokenizer([texts[row] for row in rows], side), strict=True):
                tokens[row] = ids
    return tokens


def text_hashes(texts: Sequence[str]) -> Ints:
    """Return a hash of 64 bits for each text, int64 [n]. Texts that differ only in case or white space hash alike."""
    return hash_strings(normalised_query(pa.array(texts, pa.string()))).view(np.int64)


CONTRAST_ROWS = RowKind(
    name="contrast rows",
    columns=COLUMNS,
    schema=SCHEMA,
    find_fault=_find_fault,
    load_tokenizer=load_encoder_tokenizer,
    tokenise=_tokenise,
)
"""Rows with these columns, none of them null:

- anchor, positive (string), and anchor_side, positive_side ("query" or "item"): the two texts and their sides.
- negatives (list of string): hard negatives, texts of the positive's side.
- positive_id (int): node of the positive. Queries and items share one numbering.
- related (list of int): nodes close to the anchor in the graph, whose keys are not its negatives.
- cluster (list of string), cluster_weights (list of float, one for each text, with a sum of 1): queries whose weighted
  sum is a centroid, and cluster_id (int): the node that the cluster represents. Without a cluster both lists are empty
  and cluster_id is -1.
"""
