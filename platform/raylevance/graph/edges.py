"""Edges of the behaviour graph: events counted by query, item and action, and counts turned into weights.

Queries and items are numbers here: their place in the sorted ids (`Ids`). Events are counted inside each block before
anything is moved, so an edge costs one row a block however hot its query is, and what is moved is numbers.
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
from raylevance.data.hashing import Hashes, hash_strings
from raylevance.data.schema import ACTIONS
from raylevance.errors import RaylevanceError
from raylevance.graph.csr import Csr

COUNTS = pa.schema({"query": pa.int32(), "item": pa.int32()} | {action: pa.int64() for action in ACTIONS})
"""An edge: how often each action was seen between a query and an item."""

PARTIAL = pa.schema({"bucket": pa.int32(), "key": pa.uint64(), "count": pa.int64()})
ACTION_BITS, ITEM_BITS = np.uint64(2), np.uint64(31)
EDGES_PER_BUCKET = 50_000_000

Keys = npt.NDArray[np.uint64]


class EdgeWeights(Settings):
    """What an action is worth, how sums are damped, and what is too little to be an edge (our reading of CIKM 2022)."""

    exposure: float = Field(0, ge=0)
    click: float = Field(1, ge=0)
    cart: float = Field(3, ge=0)
    purchase: float = Field(5, ge=0)
    damping: Literal["log", "none"] = "log"
    """log: log(1 + weight), so that a hot pair does not drown all others."""
    minimum_support: PositiveInt = 2
    """Actions of a weight above 0 that an edge must have."""

    def weigh(self, counts: pa.Table, queries: int, items: int) -> Csr:
        """The graph of `counts` (`COUNTS`, each edge once): queries by rows, items by columns."""
        actions = {action: counts[action].to_numpy() for action in ACTIONS}
        values = {action: float(getattr(self, action)) for action in ACTIONS}
        weight = sum(values[action] * actions[action] for action in ACTIONS) + np.zeros(counts.num_rows)
        support = sum(actions[action] for action in ACTIONS if values[action]) + np.zeros(counts.num_rows)
        kept = np.flatnonzero((support >= self.minimum_support) & (weight > 0))
        damped = np.log1p(weight[kept]) if self.damping == "log" else weight[kept]
        rows, columns = counts["query"].to_numpy()[kept], counts["item"].to_numpy()[kept]
        return Csr.from_edges(rows, columns, damped, (queries, items))


@dataclass(frozen=True)
class Ids:
    """Ids as numbers: `of` [n] strings, ascending; `hashes` uint64 [n] of them, ascending; `places` [n] of them."""

    of: pa.Array
    hashes: Hashes
    places: npt.NDArray[np.int32]

    @classmethod
    def number(cls, ids: pa.Array | pa.ChunkedArray) -> Self:
        """Number the distinct values of `ids`. Raises `RaylevanceError` where two have one hash."""
        distinct = pc.unique(ids)
        distinct = distinct.take(pc.array_sort_indices(distinct))
        hashes = hash_strings(distinct)
        order = np.argsort(hashes)
        clash = np.flatnonzero(np.diff(hashes[order]) == 0)
        if len(clash):
            same = [distinct[int(order[clash[0] + step])].as_py() for step in (0, 1)]
            raise RaylevanceError(f"the ids {same[0]!r} and {same[1]!r} have one hash; rename one")
        return cls(distinct, hashes[order], order.astype(np.int32))

    def without(self, ids: pa.Array) -> Self:
        """The same numbers, but that `ids` are not known."""
        kept = ~pc.is_in(self.of, ids.cast(self.of.type)).to_numpy(zero_copy_only=False)[self.places]
        return replace(self, hashes=self.hashes[kept], places=self.places[kept])

    def numbers(self, ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int32]:
        """The number of each of `ids` [n]; -1 for one that is not known."""
        hashes = hash_strings(ids)
        place = np.searchsorted(self.hashes, hashes)
        found = place < len(self.hashes)
        found[found] = self.hashes[place[found]] == hashes[found]
        numbers = np.full(len(hashes), -1, np.int32)
        numbers[found] = self.places[place[found]]
        return numbers


def count_events(events: ray.data.Dataset, queries: Ids | None, items: Ids | None) -> ray.data.Dataset:
    """`COUNTS` of `events` (query_id, product_id, action), each edge once, ascending within a block.

    Without `queries` and `items` the ids are numbers already, and actions their places in `ACTIONS`. Events without a
    query, or of an id that has no number, are left out.
    """
    columns = events.select_columns(["query_id", "product_id", "action"])
    buckets = buckets_for(events.count())
    count = functools.partial(count_block, queries=queries, items=items, buckets=buckets)
    partial = columns.map_batches(count, batch_format="pyarrow", batch_size=None)
    return _sum_buckets(partial, buckets)


def buckets_for(rows: int) -> int:
    """In how many parts so many rows are summed, so that no worker holds more than it can."""
    return 1 + rows // EDGES_PER_BUCKET


def merge_counts(counts: list[ray.data.Dataset], buckets: int = 1) -> ray.data.Dataset:
    """The sum of several `COUNTS` over the same numbers: a new day's added to what was counted before."""
    unpivot = functools.partial(_unpivoted, buckets=buckets)
    partial = [part.map_batches(unpivot, batch_format="pyarrow", batch_size=None) for part in counts]
    return _sum_buckets(partial[0].union(*partial[1:]), buckets)


def count_block(events: pa.Table, queries: Ids | None, items: Ids | None, buckets: int = 1) -> pa.Table:
    """One block's `PARTIAL` counts: a row for each query, item and action in it, by ascending key."""
    query, item, action = _numbered(events, queries, items)
    known = (query >= 0) & (item >= 0)
    if not known.all():
        query, item, action = query[known], item[known], action[known]
    keys = (query.astype(np.uint64) << (ITEM_BITS + ACTION_BITS)) | (item.astype(np.uint64) << ACTION_BITS)
    keys |= action.astype(np.uint64)
    keys.sort()
    first = np.flatnonzero(_changes(keys))
    return _partial(keys[first], np.diff(np.append(first, len(keys))), buckets)


def _numbered(
    events: pa.Table, queries: Ids | None, items: Ids | None
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer], npt.NDArray[np.integer]]:
    if queries is None or items is None:
        return tuple(events[name].to_numpy() for name in ("query_id", "product_id", "action"))
    events = events.filter(events["query_id"].is_valid())
    action = pc.index_in(events["action"], pa.array(ACTIONS)).to_numpy()
    return queries.numbers(events["query_id"]), items.numbers(events["product_id"]), action


def _partial(keys: Keys, counts: npt.NDArray[np.integer], buckets: int) -> pa.Table:
    """Edges are spread over the buckets, so those of a hot query too."""
    spread = (keys >> ACTION_BITS) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)
    return pa.table([(spread % np.uint64(buckets)).astype(np.int32), keys, counts], schema=PARTIAL)


def _sum_buckets(partial: ray.data.Dataset, buckets: int) -> ray.data.Dataset:
    if buckets == 1:
        return partial.repartition(1).map_batches(_summed, batch_format="pyarrow", batch_size=None)
    return partial.groupby("bucket", num_partitions=buckets).map_groups(_summed, batch_format="pyarrow")


def _summed(partial: pa.Table) -> pa.Table:
    """`COUNTS` of one bucket. The parts are ascending already: a stable sort merges them."""
    keys: Keys = partial["key"].to_numpy()
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], partial["count"].to_numpy()[order]
    first = np.flatnonzero(_changes(keys))
    sums = np.add.reduceat(counts, first) if len(first) else counts
    keys = keys[first]
    new = _changes(keys >> ACTION_BITS)
    edges = keys[new] >> ACTION_BITS
    table = np.zeros((len(ACTIONS), len(edges)), np.int64)
    table[(keys & np.uint64(3)).astype(np.int64), np.cumsum(new) - 1] = sums
    columns = [(edges >> ITEM_BITS).astype(np.int32), (edges & np.uint64(2**31 - 1)).astype(np.int32), *table]
    return pa.table([pa.array(column) for column in columns], schema=COUNTS)


def _changes(keys: Keys) -> npt.NDArray[np.bool_]:
    """[n]: whether a key differs from the one before it."""
    return np.concatenate([np.ones(min(len(keys), 1), bool), keys[1:] != keys[:-1]])


def _unpivoted(counts: pa.Table, buckets: int) -> pa.Table:
    sums = np.stack([counts[action].to_numpy() for action in ACTIONS], axis=1)
    row, action = np.nonzero(sums)
    edges = counts["query"].to_numpy().astype(np.uint64) << ITEM_BITS | counts["item"].to_numpy().astype(np.uint64)
    keys = cast(Keys, (edges[row] << ACTION_BITS) | action.astype(np.uint64))
    return _partial(keys, sums[row, action], buckets)
