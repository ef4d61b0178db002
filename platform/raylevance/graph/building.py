"""The behaviour graph as files: its nodes, its counted edges, and its PPMI projections, built on a Ray cluster.

A graph folder holds

    queries.parquet, items.parquet      the ids, in the order of the node numbers
    counts/                             rows of `COUNT_SCHEMA`, to which a new day is added
    edges/                              queries by items, weighted
    query_ppmi/, item_ppmi/             queries by queries and items by items, joined by shared neighbours
    query_item_ppmi/                    queries by items

The last four folders hold shards of a `Csr`.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
import ray.data
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from raylevance.config import Settings
from raylevance.data.collecting import collect
from raylevance.data.schema import ACTIONS
from raylevance.errors import RaylevanceError
from raylevance.graph.csr import Csr
from raylevance.graph.edges import COUNT_SCHEMA, EdgeWeights, NodeIds, bucket_count, count_events, merge_counts
from raylevance.graph.metapaths import Marginals, PpmiSettings, direct_ppmi, project, row_blocks

QUERIES_FILE, ITEMS_FILE, COUNTS_FOLDER = "queries.parquet", "items.parquet", "counts"
EDGES, QUERY_PPMI, ITEM_PPMI, QUERY_ITEM_PPMI = "edges", "query_ppmi", "item_ppmi", "query_item_ppmi"

MULTIPLICATIONS_PER_BLOCK = 200_000_000
"""Multiplications in one task of a projection, a few seconds of work."""

NO_QUERIES = pa.array([], pa.string())


class GraphSettings(Settings):
    """How the behaviour graph is built from events."""

    edges: EdgeWeights = EdgeWeights()
    """How actions are turned into the weights of edges."""
    ppmi: PpmiSettings = PpmiSettings()
    """Which edges of the PPMI projections are kept."""


@dataclass(frozen=True)
class BehaviourGraph:
    """A behaviour graph, mapped into memory from its folder.

    `queries` and `items` are the ids of the nodes, in the order of their numbers. The graphs are described in the
    module docstring.
    """

    queries: pa.Array
    items: pa.Array
    edges: Csr
    query_ppmi: Csr
    item_ppmi: Csr
    query_item_ppmi: Csr

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load the graph in `folder`. Raises `RaylevanceError` if one of its files is missing or damaged."""
        if not all((folder / name).is_file() for name in (QUERIES_FILE, ITEMS_FILE)):
            raise RaylevanceError(f"{folder}: not a behaviour graph: {QUERIES_FILE} or {ITEMS_FILE} is missing")
        ids = [pq.read_table(folder / name)["id"].combine_chunks() for name in (QUERIES_FILE, ITEMS_FILE)]
        return cls(*ids, *(Csr.load(folder / name) for name in (EDGES, QUERY_PPMI, ITEM_PPMI, QUERY_ITEM_PPMI)))


BasketReader = Callable[[NodeIds], Csr]
"""Given the item ids, returns a graph from baskets to items. Baskets count when items are projected on items."""


def build_graph(
    events: ray.data.Dataset,
    query_ids: pa.Array,
    item_ids: pa.Array,
    folder: Path,
    settings: GraphSettings,
    baskets: BasketReader | None = None,
    held_out_queries: pa.Array = NO_QUERIES,
) -> None:
    """Build the graph of `events` (query_id, product_id, action) and write it to `folder`.

    Events with an id that is not in `query_ids` and `item_ids` are left out. The `held_out_queries` (ids) become nodes
    without edges.

    Raises `RaylevanceError` if no edge is left.
    """
    queries, items = NodeIds.assign(query_ids), NodeIds.assign(item_ids)
    counts = count_events(events, queries.without(held_out_queries), items)
    _write(counts, queries, items, folder, settings, baskets)


def merge_graph(
    previous: Path,
    events: ray.data.Dataset,
    query_ids: pa.Array,
    item_ids: pa.Array,
    folder: Path,
    settings: GraphSettings,
    baskets: BasketReader | None = None,
    held_out_queries: pa.Array = NO_QUERIES,
) -> None:
    """Add new `events` to the graph in the folder `previous` and write the result to `folder`.

    The result equals that of `build_graph` on all events together, but only the new events are counted: earlier events
    of a query that was held out then, or had no id then, stay left out. Counts of the `held_out_queries` (ids) in the
    previous graph are dropped.

    Raises `RaylevanceError` if no edge is left.
    """
    previous_ids = [pq.read_table(previous / name)["id"].combine_chunks() for name in (QUERIES_FILE, ITEMS_FILE)]
    queries, items = (
        NodeIds.assign(pa.concat_arrays([old, new.cast(old.type)]))
        for old, new in zip(previous_ids, (query_ids, item_ids), strict=True)
    )
    counted_queries = queries.without(held_out_queries)
    new_numbers = [ids.lookup(old) for ids, old in zip((counted_queries, items), previous_ids, strict=True)]

    def renumber(counts: pa.Table) -> pa.Table:
        for column, numbers in zip(("query", "item"), new_numbers, strict=True):
            number = pa.array(numbers[counts[column].to_numpy()])
            counts = counts.set_column(counts.column_names.index(column), column, number)
        return counts.filter(pc.greater_equal(counts["query"], 0))

    old_counts = ray.data.read_parquet(str(previous / COUNTS_FOLDER))
    renumbered = old_counts.map_batches(renumber, batch_format="pyarrow", batch_size=None)
    new_counts = count_events(events, counted_queries, items)
    counts = merge_counts([renumbered, new_counts], bucket_count(old_counts.count()))
    _write(counts, queries, items, folder, settings, baskets)


def _write(
    counts: ray.data.Dataset,
    queries: NodeIds,
    items: NodeIds,
    folder: Path,
    settings: GraphSettings,
    baskets: BasketReader | None,
) -> None:
    for name, ids in ((QUERIES_FILE, queries), (ITEMS_FILE, items)):
        pq.write_table(pa.table({"id": ids.strings}), folder / name)
    table = collect(counts, COUNT_SCHEMA).sort_by([("query", "ascending"), ("item", "ascending")])
    (folder / COUNTS_FOLDER).mkdir()
    pq.write_table(table, folder / COUNTS_FOLDER / "part-000000.parquet")
    edges = settings.edges.weigh(table, len(queries), len(items))
    if not len(edges.indices):
        raise RaylevanceError(
            f"the behaviour graph has no edge: {table.num_rows} pairs were seen, none of them with "
            f"{settings.edges.minimum_support} weighted actions; lower edges.minimum_support or add events"
        )
    edges.save(folder / EDGES / "0.arrow")
    transposed = edges.transposed()
    project_on_cluster(edges, transposed, settings.ppmi, folder / QUERY_PPMI)
    with_baskets = Csr.concatenate([edges, baskets(items)]) if baskets else edges
    project_on_cluster(with_baskets.transposed(), with_baskets, settings.ppmi, folder / ITEM_PPMI)
    direct_ppmi(edges, settings.ppmi).save(folder / QUERY_ITEM_PPMI / "0.arrow")


def project_on_cluster(graph: Csr, transposed: Csr, settings: PpmiSettings, folder: Path) -> None:
    """Write the PPMI graph between the rows of `graph` to `folder`, one shard for each block of rows.

    The blocks are Ray tasks. A task whose worker dies is run again, with the same result.
    """
    blocks = row_blocks(graph, transposed, MULTIPLICATIONS_PER_BLOCK).tolist()
    shared = ray.put((graph, transposed, Marginals.of_projection(graph)))
    folder.mkdir()

    def write_block(block: dict[str, Any]) -> dict[str, Any]:
        graph, transposed, marginals = ray.get(shared)
        rows = project(graph, transposed, marginals, settings, block["first"], block["end"])
        file = folder / f"{block['first']}.arrow"
        rows.save(file.with_suffix(".draft"))
        file.with_suffix(".draft").rename(file)
        return {"edges": len(rows.indices)}

    cuts = [{"first": first, "end": end} for first, end in itertools.pairwise(blocks)]
    ray.data.from_items(cuts, override_num_blocks=len(cuts)).map(write_block).materialize()


def describe_graph(graph: BehaviourGraph, folder: Path) -> dict[str, Any]:
    """Return figures on `graph`, whose counts are in `folder`.

    They are the numbers of nodes, of nodes with an edge, of actions, of connected components and of edges of each
    projection, and the degrees of nodes that have an edge.
    """
    edges, queries, items = graph.edges, graph.edges.rows, graph.edges.columns
    degrees = {"query": edges.degrees, "item": np.bincount(edges.indices, minlength=items)}
    matrix = sparse.csr_array((np.ones(len(edges.indices), np.int32), edges.indices, edges.indptr), (queries, items))
    blocks: Any = [[None, matrix], [matrix.T, None]]
    both_directions = sparse.csr_array(sparse.block_array(blocks))
    _, component = connected_components(both_directions, directed=False)
    connected = np.concatenate([degrees["query"], degrees["item"]]) > 0
    sizes = np.bincount(component[connected])
    counts = pq.read_table(folder / COUNTS_FOLDER)
    return {
        "queries": queries,
        "items": items,
        "queries_with_an_edge": int((degrees["query"] > 0).sum()),
        "items_with_an_edge": int((degrees["item"] > 0).sum()),
        "actions": {action: int(counts[action].to_numpy().sum()) for action in ACTIONS},
        "pairs_seen": counts.num_rows,
        "edges": len(edges.indices),
        "degree": {side: _quantiles(values[values > 0]) for side, values in degrees.items()},
        "components": int((sizes > 0).sum()),
        "largest_component": int(sizes.max()),
        "query_ppmi_edges": len(graph.query_ppmi.indices),
        "item_ppmi_edges": len(graph.item_ppmi.indices),
        "query_item_ppmi_edges": len(graph.query_item_ppmi.indices),
    }


def _quantiles(values: Any) -> dict[str, float]:
    return {name: float(np.quantile(values, share)) for name, share in (("median", 0.5), ("p99", 0.99), ("most", 1))}
