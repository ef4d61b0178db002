"""The objective level of the item graph: edges from triggers to items, one graph for each objective.

A request joins each of its triggers with each of its items. The objectives are nested, purchase within click within
exposure; relevance is a test of its own. The triggers of a request share a weight of 1, so that a user with a long
history counts as much as one with a short history.

Where products have no categories, two items are relevant to each other if they were chosen in one request, a basket
(our choice: the paper has a model of relevance for queries, and a log of baskets has no queries). Each item of a basket
shares a weight of 1 among the others, so that a large basket says less about a pair than a small one does.

An item is numbered by how it was known when the request began: `i` if it had an event before, `i + items` if it was
new. A model can therefore learn from a log how items are found that it knows by their features alone.

Source: GCL-MO (arXiv 2307.04322), 4.2 and 4.3; the weights and the two numbers of an item are our choice.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import ray.data

from raylevance.data.schema import ACTIONS
from raylevance.graph.csr import Csr, segment_positions
from raylevance.graph.item_choices import chosen_items
from raylevance.graph.list_columns import flat_lists

Ints = npt.NDArray[np.int64]

Objective = Literal["relevance", "exposure", "click", "purchase"]
OBJECTIVES: tuple[Objective, ...] = ("relevance", "exposure", "click", "purchase")
LOWEST_ACTION = {"exposure": 0, "click": 1, "purchase": ACTIONS.index("purchase")}
"""The action from which an item of a request is a positive of an objective. An item in the cart counts as clicked."""

NEVER = np.iinfo(np.int64).max
"""The time of the first event of an item without events."""
REQUESTS_AT_ONCE, BASKETS_AT_ONCE = 1024, 64
"""How many requests are joined at a time; with baskets fewer, because a basket has more pairs."""
LARGEST_BASKET = 300
"""The most items of a basket that are joined with each other. The items of a larger one, which say little of each pair,
are not, so a request has 90,000 pairs at most."""
ROUNDING = 1e-6
"""Relative error of a float32 weight, by which an edge may fall short of chance."""
EDGES_PER_SHARD = 20_000_000
"""How many pairs of triggers and items are added up in one task."""
EDGE = pa.schema(
    {"shard": pa.int32(), "objective": pa.int8(), "trigger": pa.int32(), "item": pa.int32(), "weight": pa.float64()}
)


def write_objectives(
    requests: ray.data.Dataset,
    folder: Path,
    first_time: Ints,
    objectives: Sequence[Objective],
    categories: Ints | None = None,
) -> dict[str, int]:
    """Write the graph of each of `objectives` to `folder`/<objective>, and return how many edges each has.

    - `requests`: rows of `REQUESTS`.
    - `first_time`: when each item first has an event, in milliseconds since 1970, int64 [items]; `NEVER` without one.
    - `categories`: the number of each item's category, 0 where it has none. An item that has an event in the request
      and the category of the trigger is a positive of relevance. None makes the items that were chosen in one request,
      `LARGEST_BASKET` at most, positives of relevance of each other.

    A graph has a row for each trigger and two columns for each item. The result does not depend on the blocks of
    `requests`. Memory is that of the pairs of `REQUESTS_AT_ONCE` requests (`BASKETS_AT_ONCE` with baskets) and of one
    shard, about `EDGES_PER_SHARD`, or more where the pairs of a few triggers are many times those of others.
    """
    items = len(first_time)
    shared = ray.put((first_time, categories))
    with_baskets = "relevance" in objectives and categories is None
    count = functools.partial(_count_pairs, with_baskets=with_baskets)
    pairs = requests.map_batches(count, batch_format="pyarrow", batch_size=None)
    total = sum(int(block["pairs"].to_numpy().sum()) for block in _blocks(pairs))
    shards = 1 + total * len(objectives) // EDGES_PER_SHARD
    rows_per_shard = -(-items // shards)
    cuts = list(range(0, items, rows_per_shard))
    expand = functools.partial(_expand, shared=shared, objectives=objectives, rows_per_shard=rows_per_shard)
    write = functools.partial(_write_shard, folder=folder, items=items, cuts=cuts, objectives=objectives)
    at_once = BASKETS_AT_ONCE if with_baskets else REQUESTS_AT_ONCE
    edges = requests.map_batches(expand, batch_format="pyarrow", batch_size=at_once)
    for objective in objectives:
        (folder / objective).mkdir(parents=True)
    if len(cuts) == 1:
        written = edges.repartition(1).map_batches(write, batch_format="pyarrow", batch_size=None)
    else:
        written = edges.groupby("shard", num_partitions=len(cuts)).map_groups(write, batch_format="pyarrow")
    counts = dict.fromkeys(objectives, 0)
    for block in _blocks(written):
        for row in block.to_pylist():
            counts[OBJECTIVES[row["objective"]]] += row["edges"]
    for objective in objectives:
        for shard, first in enumerate(cuts):
            if not (file := folder / objective / f"{shard:05}.arrow").exists():
                rows = min(rows_per_shard, items - first)
                empty = np.empty(0, np.int32)
                Csr(np.zeros(rows + 1, np.int64), empty, np.empty(0, np.float32), 2 * items, first).save(file)
    return {objective: counts[objective] for objective in objectives}


def request_edges(
    requests: pa.Table, first_time: Ints, categories: Ints | None, objectives: Sequence[Objective]
) -> pa.Table:
    """Return the edges of `requests` before they are added up: objective, trigger, item and weight of each.

    The arguments are those of `write_objectives`.
    """
    trigger_rows, triggers = flat_lists(requests["triggers"])
    weights = requests["trigger_weights"].combine_chunks().flatten().to_numpy().astype(np.float64)
    item_rows, items = flat_lists(requests["items"])
    actions = requests["actions"].combine_chunks().flatten().to_numpy()
    size = requests.num_rows
    totals = np.bincount(trigger_rows, weights, size)[trigger_rows]
    # The weight of a very old trigger may be 0 in float32, and so may that of all triggers of a request.
    weights = np.divide(weights, totals, out=np.zeros_like(weights), where=totals > 0)
    is_new = first_time[items] >= requests["time"].to_numpy()[item_rows]
    codes = items + np.where(is_new, len(first_time), 0)
    starts = np.concatenate([[0], np.cumsum(np.bincount(item_rows, minlength=size))])
    # Each trigger, with each item of its request.
    left = np.repeat(np.arange(len(triggers)), np.diff(starts)[trigger_rows])
    right = segment_positions(starts, trigger_rows)
    # Edges are kept in float32, where a weight that is above 0 here may be 0.
    other = (triggers[left] != items[right]) & (weights[left].astype(np.float32) > 0)
    left, right = left[other], right[other]
    parts = []
    for objective in objectives:
        if objective == "relevance" and categories is None:
            first, second, shares = _basket_pairs(item_rows, actions > 0, size)
            parts.append(_edge_table(objective, items[first], codes[second], shares))
            continue
        if objective == "relevance":
            assert categories is not None
            kept = (categories[triggers[left]] > 0) & (categories[triggers[left]] == categories[items[right]])
        else:
            kept = actions[right] >= LOWEST_ACTION[objective]
        parts.append(_edge_table(objective, triggers[left[kept]], codes[right[kept]], weights[left[kept]]))
    return pa.concat_tables(parts)


def _basket_pairs(rows: Ints, chosen: npt.NDArray[np.bool_], size: int) -> tuple[Ints, Ints, npt.NDArray[np.float64]]:
    """Return which of a list of items were chosen in one request, as positions in it, and the weight of each pair.

    - `rows` [items]: the request of each item, ascending, below `size`.
    - `chosen` [items]: whether it was chosen, or only shown.
    """
    own = np.bincount(rows[chosen], minlength=size)
    own = np.where(own <= LARGEST_BASKET, own, 0)
    places = np.flatnonzero(chosen & (own[rows] > 0))
    left, right, weights = pairs_within(rows[places])
    return places[left], places[right], weights


def pairs_within(groups: Ints) -> tuple[Ints, Ints, npt.NDArray[np.float64]]:
    """Return the ordered pairs of different items of one group, as positions in `groups`, and the weight of each pair.

    `groups` [items] is the group of each item, ascending. An item shares a weight of 1 among the others of its group.
    """
    sizes = np.bincount(groups)
    own = sizes[groups]
    left = np.repeat(np.arange(len(groups)), own)
    right = segment_positions(np.concatenate([[0], np.cumsum(sizes)]), groups)
    other = left != right
    left, right = left[other], right[other]
    return left, right, 1.0 / (own[left] - 1)


def basket_sizes(requests: pa.Table) -> Ints:
    """Return how many items were chosen in each request, int64 [requests]."""
    rows, _ = chosen_items(requests)
    return np.bincount(rows, minlength=requests.num_rows).astype(np.int64)


def _edge_table(objective: Objective, triggers: Ints, codes: Ints, weights: npt.NDArray[np.float64]) -> pa.Table:
    numbers = np.full(len(triggers), OBJECTIVES.index(objective), np.int8)
    columns = {"trigger": triggers.astype(np.int32), "item": codes.astype(np.int32), "weight": weights}
    return pa.table({"objective": numbers, **columns})


def above_chance(graph: Csr) -> Csr:
    """Return the edges of `graph` that weigh at least what chance would make them: w_ti >= w_t. w_.i / w_..

    A dot means the sum over that index. In a log in which almost every item follows every other, the rest says nothing,
    and an item that follows a trigger less often than it follows others is a negative of it (our choice).
    """
    rows, weights = graph.edge_rows() - graph.first, graph.weights.astype(np.float64)
    row_sums = np.bincount(rows, weights, graph.rows)
    column_sums = np.bincount(graph.indices, weights, graph.columns)
    chance = row_sums[rows] * column_sums[graph.indices]
    kept = weights * weights.sum() >= chance * (1 - ROUNDING)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=graph.rows))]).astype(np.int64)
    return Csr(indptr, graph.indices[kept], graph.weights[kept], graph.columns, graph.first)


def strongest(graph: Csr, most: int) -> Csr:
    """Return the `most` edges of each trigger with the highest w_ti / sqrt(w_.i), which orders them as the cosine does.

    A dot means the sum over that index. Of equal edges the first by item are kept. In a log of large baskets an item is
    chosen above chance with a third of all others, and a loss without other positives does not tell these apart (our
    choice).
    """
    rows, weights = graph.edge_rows() - graph.first, graph.weights.astype(np.float64)
    column_sums = np.bincount(graph.indices, weights, graph.columns)
    order = np.lexsort((graph.indices, -weights / np.sqrt(column_sums[graph.indices]), rows))
    rank = np.arange(len(order)) - graph.indptr[rows[order]]
    kept = np.sort(order[rank < most])
    indptr = np.concatenate([[0], np.cumsum(np.minimum(np.diff(graph.indptr), most))]).astype(np.int64)
    return Csr(indptr, graph.indices[kept], graph.weights[kept], graph.columns, graph.first)


def sum_edges(
    rows: npt.NDArray[np.integer],
    columns: npt.NDArray[np.integer],
    weights: npt.NDArray[np.float64],
    shape: tuple[int, int],
) -> Csr:
    """Return the graph of `shape` in which edges given several times are added up, in whatever order they come."""
    order = np.lexsort((weights, columns, rows))
    rows, columns, weights = rows[order], columns[order], weights[order]
    first = np.flatnonzero(
        np.concatenate([np.ones(min(len(rows), 1), bool), (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])])
    )
    sums = np.add.reduceat(weights, first) if len(first) else weights
    return Csr.from_edges(rows[first], columns[first], sums, shape)


def _blocks(dataset: ray.data.Dataset) -> Any:
    return dataset.iter_batches(batch_format="pyarrow", batch_size=None)


def _count_pairs(requests: pa.Table, with_baskets: bool) -> pa.Table:
    triggers, items = (
        np.diff(requests[name].combine_chunks().offsets.to_numpy()).astype(np.int64) for name in ("triggers", "items")
    )
    pairs = triggers * items
    if with_baskets:
        chosen = basket_sizes(requests)
        pairs += np.where(chosen <= LARGEST_BASKET, chosen * (chosen - 1), 0)
    return pa.table({"pairs": [int(pairs.sum())]})


def _expand(
    requests: pa.Table, shared: "ray.ObjectRef[Any]", objectives: Sequence[Objective], rows_per_shard: int
) -> pa.Table:
    first_time, categories = ray.get(shared)
    edges = request_edges(requests, first_time, categories, objectives)
    shard = pa.array((edges["trigger"].to_numpy() // rows_per_shard).astype(np.int32))
    return edges.add_column(0, "shard", shard).cast(EDGE)


def _write_shard(
    edges: pa.Table, folder: Path, items: int, cuts: list[int], objectives: Sequence[Objective]
) -> pa.Table:
    counts = []
    if edges.num_rows:
        shard = edges["shard"][0].as_py()
        first = cuts[shard]
        rows = ([*cuts, items][shard + 1]) - first
        number, trigger, item, weight = (edges[name].to_numpy() for name in EDGE.names[1:])
        for objective in objectives:
            own = number == OBJECTIVES.index(objective)
            graph = sum_edges(trigger[own] - first, item[own], weight[own], (rows, 2 * items))
            graph = Csr(graph.indptr, graph.indices, graph.weights, 2 * items, first)
            file = folder / objective / f"{shard:05}.arrow"
            graph.save(file.with_suffix(".draft"))
            file.with_suffix(".draft").rename(file)
            counts.append({"objective": OBJECTIVES.index(objective), "edges": len(graph.indices)})
    return pa.Table.from_pylist(counts, pa.schema({"objective": pa.int8(), "edges": pa.int64()}))
