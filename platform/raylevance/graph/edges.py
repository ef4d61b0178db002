"""Edges of the behaviour graph: events counted by query, item and action, and the counts turned into weights.

Queries and items are numbers here, their positions among the sorted ids (`NodeIds`). Events are counted inside each
block before anything is moved. An edge therefore costs one row per block, however popular its query is, and only
numbers are moved.
"""

import functools
from dataclasses import dataclass, replace
from typing import Literal, Self, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray.data
from pydantic import Field, PositiveInt

from raylevance.config import Settings
from raylevance.data.actions import ACTION_WEIGHTS
from raylevance.data.hashing import MULTIPLIER, Hashes, hash_strings
from raylevance.data.schema import ACTIONS
from raylevance.errors import RaylevanceError
from raylevance.graph.csr import Csr

COUNT_SCHEMA = pa.schema({"query": pa.int32(), "item": pa.int32()} | {action: pa.int64() for action in ACTIONS})
"""Schema of edge counts: how often each action was seen between a query and an item, both given by number."""

PARTIAL_SCHEMA = pa.schema({"bucket": pa.int32(), "key": pa.uint64(), "count": pa.int64()})
"""Schema of the counts of one block. The key packs the numbers of query, item and action."""

ACTION_BITS, ITEM_BITS = np.uint64(2), np.uint64(31)
EDGES_PER_BUCKET = 50_000_000

Keys = npt.NDArray[np.uint64]


class EdgeWeights(Settings):
    """How counts of actions become the weight of an edge (our reading of the CIKM 2022 paper)."""

    exposure: float = Field(ACTION_WEIGHTS["exposure"], ge=0)
    """Weight of one exposure (an item shown for the query)."""
    click: float = Field(ACTION_WEIGHTS["click"], ge=0)
    """Weight of one click."""
    cart: float = Field(ACTION_WEIGHTS["cart"], ge=0)
    """Weight of one addition to the cart."""
    purchase: float = Field(ACTION_WEIGHTS["purchase"], ge=0)
    """Weight of one purchase."""
    damping: Literal["log", "none"] = "log"
    """How the summed weight of an edge is damped. log takes log(1 + weight), so that very popular pairs do not dominate
    all others; none leaves it as it is."""
    minimum_support: PositiveInt = 2
    """Number of actions with a weight above 0 that a query and an item need to get an edge."""

    def weigh(self, counts: pa.Table, queries: int, items: int) -> Csr:
        """Return the weighted graph from `queries` queries to `items` items.

        `counts` has the schema `COUNT_SCHEMA` and each edge once.
        """
        actions = {action: counts[action].to_numpy() for action in ACTIONS}
        values = {action: float(getattr(self, action)) for action in ACTIONS}
        weight = sum(values[action] * actions[action] for action in ACTIONS) + np.zeros(counts.num_rows)
        support = sum(actions[action] for action in ACTIONS if values[action]) + np.zeros(counts.num_rows)
        supported = np.flatnonzero((support >= self.minimum_support) & (weight > 0))
        damped = np.log1p(weight[supported]) if self.damping == "log" else weight[supported]
        rows, columns = counts["query"].to_numpy()[supported], counts["item"].to_numpy()[supported]
        return Csr.from_edges(rows, columns, damped, (queries, items))


@dataclass(frozen=True)
class NodeIds:
    """The ids of nodes and their numbers. The number of an id is its position in `strings`.

    - `strings` [n]: the ids, ascending.
    - `hashes` uint64 [n]: the hashes of the ids that can be looked up, ascending.
    - `numbers` int32 [n]: the number of the id with each hash.
    """

    strings: pa.Array
    hashes: Hashes
    numbers: npt.NDArray[np.int32]

    @classmethod
    def assign(cls, ids: pa.Array | pa.ChunkedArray) -> Self:
        """Number the distinct values of `ids` in ascending order.

        Raises `RaylevanceError` if two ids have the same hash.
        """
        distinct = pc.unique(ids)
        distinct = distinct.take(pc.array_sort_indices(distinct))
        hashes = hash_strings(distinct)
        order = np.argsort(hashes)
        clash = np.flatnonzero(np.diff(hashes[order]) == 0)
        if len(clash):
            same = [distinct[int(order[clash[0] + step])].as_py() for step in (0, 1)]
            raise RaylevanceError(f"the ids {same[0]!r} and {same[1]!r} have the same hash; rename one of them")
        return cls(distinct, hashes[order], order.astype(np.int32))

    def __len__(self) -> int:
        return len(self.strings)

    def without(self, ids: pa.Array) -> Self:
        """Return a copy that does not find `ids`. All numbers stay the same."""
        findable = ~pc.is_in(self.strings, ids.cast(self.strings.type)).to_numpy(zero_copy_only=False)[self.numbers]
        return replace(self, hashes=self.hashes[findable], numbers=self.numbers[findable])

    def lookup(self, ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int32]:
        """Return the number of each of `ids` [n], int32 [n], with -1 for an unknown id."""
        hashes = hash_strings(ids)
        positions = np.searchsorted(self.hashes, hashes)
        known = positions < len(self.hashes)
        known[known] = self.hashes[positions[known]] == hashes[known]
        numbers = np.full(len(hashes), -1, np.int32)
        numbers[known] = self.numbers[positions[known]]
        return numbers


def count_events(events: ray.data.Dataset, queries: NodeIds | None, items: NodeIds | None) -> ray.data.Dataset:
    """Count `events` (query_id, product_id, action) by edge.

    Returns rows of `COUNT_SCHEMA`, each edge once, ascending within a block. Events without a query or with an unknown
    id are left out. If `queries` and `items` are None, the ids must be numbers already, and actions must be positions
    in `ACTIONS`.
    """
    columns = events.select_columns(["query_id", "product_id", "action"])
    buckets = bucket_count(events.count())
    count = functools.partial(count_block, queries=queries, items=items, buckets=buckets)
    partial = columns.map_batches(count, batch_format="pyarrow", batch_size=None)
    return _sum_buckets(partial, buckets)


def bucket_count(rows: int) -> int:
    """Return the number of buckets into which to split `rows` counts so that one worker can hold each bucket."""
    return 1 + rows // EDGES_PER_BUCKET


def merge_counts(counts: list[ray.data.Dataset], buckets: int = 1) -> ray.data.Dataset:
    """Add up several datasets of `COUNT_SCHEMA` that use the same numbers, such as a new day and all days before it."""
    unpivot = functools.partial(_unpivot, buckets=buckets)
    partial = [part.map_batches(unpivot, batch_format="pyarrow", batch_size=None) for part in counts]
    return _sum_buckets(partial[0].union(*partial[1:]), buckets)


def count_block(events: pa.Table, queries: NodeIds | None, items: NodeIds | None, buckets: int = 1) -> pa.Table:
    """Count the events of one block.

    Returns rows of `PARTIAL_SCHEMA`, one for each query, item and action in the block, by ascending key.
    """
    query, item, action = _number_events(events, queries, items)
    known = (query >= 0) & (item >= 0)
    if not known.all():
        query, item, action = query[known], item[known], action[known]
    keys = (query.astype(np.uint64) << (ITEM_BITS + ACTION_BITS)) | (item.astype(np.uint64) << ACTION_BITS)
    keys |= action.astype(np.uint64)
    keys.sort()
    first = np.flatnonzero(_changes(keys))
    return _partial_counts(keys[first], np.diff(np.append(first, len(keys))), buckets)


def _number_events(
    events: pa.Table, queries: NodeIds | None, items: NodeIds | None
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer], npt.NDArray[np.integer]]:
    """Return the numbers of the query, item and action of each event."""
    if queries is None or items is None:
        return tuple(events[name].to_numpy() for name in ("query_id", "product_id", "action"))
    events = events.filter(events["query_id"].is_valid())
    action = pc.index_in(events["action"], pa.array(ACTIONS))
    if action.null_count:
        unknown = next(name for name in events["action"].unique().to_pylist() if name not in ACTIONS)
        raise RaylevanceError(f"events: action {unknown!r} is not one of {', '.join(ACTIONS)}")
    action = action.to_numpy()
    return queries.lookup(events["query_id"]), items.lookup(events["product_id"]), action


def _partial_counts(keys: Keys, counts: npt.NDArray[np.integer], buckets: int) -> pa.Table:
    """The bucket is a hash of the edge, so that the edges of a popular query are spread over all buckets."""
    spread = (keys >> ACTION_BITS) * MULTIPLIER >> np.uint64(32)
    return pa.table([(spread % np.uint64(buckets)).astype(np.int32), keys, counts], schema=PARTIAL_SCHEMA)


def _sum_buckets(partial: ray.data.Dataset, buckets: int) -> ray.data.Dataset:
    if buckets == 1:
        return partial.repartition(1).map_batches(_sum_bucket, batch_format="pyarrow", batch_size=None)
    return partial.groupby("bucket", num_partitions=buckets).map_groups(_sum_bucket, batch_format="pyarrow")


def _sum_bucket(partial: pa.Table) -> pa.Table:
    """Return the rows of `COUNT_SCHEMA` of one bucket. Its parts ascend already, so a stable sort merges them."""
    keys: Keys = partial["key"].to_numpy()
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], partial["count"].to_numpy()[order]
    first = np.flatnonzero(_changes(keys))
    sums = np.add.reduceat(counts, first) if len(first) else counts
    keys = keys[first]
    new_edge = _changes(keys >> ACTION_BITS)
    edges = keys[new_edge] >> ACTION_BITS
    table = np.zeros((len(ACTIONS), len(edges)), np.int64)
    table[(keys & np.uint64(3)).astype(np.int64), np.cumsum(new_edge) - 1] = sums
    columns = [(edges >> ITEM_BITS).astype(np.int32), (edges & np.uint64(2**31 - 1)).astype(np.int32), *table]
    return pa.table([pa.array(column) for column in columns], schema=COUNT_SCHEMA)


def _changes(keys: Keys) -> npt.NDArray[np.bool_]:
    """Return whether each key differs from the one before it, bool [n]."""
    return np.concatenate([np.ones(min(len(keys), 1), bool), keys[1:] != keys[:-1]])


def _unpivot(counts: pa.Table, buckets: int) -> pa.Table:
    """Turn rows of `COUNT_SCHEMA` back into rows of `PARTIAL_SCHEMA`."""
    sums = np.stack([counts[action].to_numpy() for action in ACTIONS], axis=1)
    row, action = np.nonzero(sums)
    edges = counts["query"].to_numpy().astype(np.uint64) << ITEM_BITS | counts["item"].to_numpy().astype(np.uint64)
    keys = cast(Keys, (edges[row] << ACTION_BITS) | action.astype(np.uint64))
    return _partial_counts(keys, sums[row, action], buckets)
