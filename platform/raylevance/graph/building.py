"""The behaviour graph as files: its nodes, counted edges, and PPMI projections, made on a Ray cluster.

A folder holds

    queries.parquet, items.parquet      ids, by node number
    counts/                             `COUNTS`: what was seen, to which a new day is added
    edges/                              queries by items, weighted
    query_ppmi/, item_ppmi/             queries by queries and items by items, over what they share
    query_item_ppmi/                    queries by items

The last four are shards of `Csr`.
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
from raylevance.data.blocks import collect
from raylevance.data.schema import ACTIONS
from raylevance.errors import RaylevanceError
from raylevance.graph.csr import Csr
from raylevance.graph.edges import COUNTS, EdgeWeights, Ids, buckets_for, count_events, merge_counts
from raylevance.graph.metapaths import Marginals, PpmiSettings, direct_ppmi, project, row_blocks

QUERIES, ITEMS, COUNTED = "queries.parquet", "items.parquet", "counts"
EDGES, QUERY_PPMI, ITEM_PPMI, QUERY_ITEM_PPMI = "edges", "query_ppmi", "item_ppmi", "query_item_ppmi"
PRODUCTS_PER_BLOCK = 200_000_000
"""Products of two weights that a task of a projection makes: some seconds of work."""


class GraphSettings(Settings):
    """How edges are weighed, and what PPMI keeps."""

    edges: EdgeWeights = EdgeWeights()
    ppmi: PpmiSettings = PpmiSettings()


@dataclass(frozen=True)
class BehaviourGraph:
    """A graph folder, mapped into memory."""

    queries: pa.Array
    items: pa.Array
    edges: Csr
    query_ppmi: Csr
    item_ppmi: Csr
    query_item_ppmi: Csr

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises `RaylevanceError` where a part is missing or torn."""
        if not all((folder / name).is_file() for name in (QUERIES, ITEMS)):
            raise RaylevanceError(f"{folder}: has no {QUERIES} or no {ITEMS}; it is no behaviour graph")
        ids = [pq.read_table(folder / name)["id"].combine_chunks() for name in (QUERIES, ITEMS)]
        return cls(*ids, *(Csr.load(folder / name) for name in (EDGES, QUERY_PPMI, ITEM_PPMI, QUERY_ITEM_PPMI)))


Baskets = Callable[[Ids], Csr]
"""Baskets by items, given the items' numbers: they count where items are projected on items."""
NOBODY = pa.array([], pa.string())


def build_graph(
    events: ray.data.Dataset,
    query_ids: pa.Array,
    item_ids: pa.Array,
    folder: Path,
    settings: GraphSettings,
    baskets: Baskets | None = None,
    without: pa.Array = NOBODY,
) -> None:
    """Write the graph of `events` (query_id, product_id, action) to `folder`; other ids than those given are left out.

    The queries `without` (ids) are nodes that nothing is known of. Raises `RaylevanceError` where no edge is left.
    """
    queries, items = Ids.number(query_ids), Ids.number(item_ids)
    counts = count_events(events, queries.without(without), items)
    _write(counts, queries, items, folder, settings, baskets)


def merge_graph(
    before: Path,
    events: ray.data.Dataset,
    query_ids: pa.Array,
    item_ids: pa.Array,
    folder: Path,
    settings: GraphSettings,
    baskets: Baskets | None = None,
    without: pa.Array = NOBODY,
) -> None:
    """Write to `folder` the graph at `before` with new `events`: equal to `build_graph` of all events together.

    Only the new events are counted; the counts of before are numbered anew and added, but for those of the queries
    `without`, which may have been known then.
    """
    known = [pq.read_table(before / name)["id"].combine_chunks() for name in (QUERIES, ITEMS)]
    queries, items = (
        Ids.number(pa.concat_arrays([old, new.cast(old.type)]))
        for old, new in zip(known, (query_ids, item_ids), strict=True)
    )
    seen = queries.without(without)
    places = [ids.numbers(old) for ids, old in zip((seen, items), known, strict=True)]

    def renumber(counts: pa.Table) -> pa.Table:
        for column, place in zip(("query", "item"), places, strict=True):
            number = pa.array(place[counts[column].to_numpy()])
            counts = counts.set_column(counts.column_names.index(column), column, number)
        return counts.filter(pc.greater_equal(counts["query"], 0))

    old = ray.data.read_parquet(str(before / COUNTED))
    renumbered = old.map_batches(renumber, batch_format="pyarrow", batch_size=None)
    counts = merge_counts([renumbered, count_events(events, seen, items)], buckets_for(old.count()))
    _write(counts, queries, items, folder, settings, baskets)


def _write(
    counts: ray.data.Dataset, queries: Ids, items: Ids, folder: Path, settings: GraphSettings, baskets: Baskets | None
) -> None:
    for name, ids in ((QUERIES, queries), (ITEMS, items)):
        pq.write_table(pa.table({"id": ids.of}), folder / name)
    table = collect(counts, COUNTS).sort_by([("query", "ascending"), ("item", "ascending")])
    (folder / COUNTED).mkdir()
    pq.write_table(table, folder / COUNTED / "part-000000.parquet")
    edges = settings.edges.weigh(table, len(queries.of), len(items.of))
    if not len(edges.indices):
        raise RaylevanceError(f"the behaviour graph has no edge: {table.num_rows} pairs were seen, none often enough")
    edges.save(folder / EDGES / "0.arrow")
    transposed = edges.transposed()
    project_on_cluster(edges, transposed, settings.ppmi, folder / QUERY_PPMI)
    together = Csr.joined([edges, baskets(items)]) if baskets else edges
    project_on_cluster(together.transposed(), together, settings.ppmi, folder / ITEM_PPMI)
    direct_ppmi(edges, settings.ppmi).save(folder / QUERY_ITEM_PPMI / "0.arrow")


def project_on_cluster(graph: Csr, transposed: Csr, settings: PpmiSettings, folder: Path) -> None:
    """Write the PPMI graph between the rows of `graph` to `folder`, a shard a block of rows, on all processors.

    A task that dies is made again, with the same result.
    """
    blocks = row_blocks(graph, transposed, PRODUCTS_PER_BLOCK).tolist()
    whole = ray.put((graph, transposed, Marginals.of_projection(graph)))
    folder.mkdir()

    def write_block(block: dict[str, Any]) -> dict[str, Any]:
        source, back, marginals = ray.get(whole)
        rows = project(source, back, marginals, settings, block["first"], block["end"])
        file = folder / f"{block['first']}.arrow"
        rows.save(file.with_suffix(".draft"))
        file.with_suffix(".draft").rename(file)
        return {"edges": len(rows.indices)}

    cuts = [{"first": first, "end": end} for first, end in itertools.pairwise(blocks)]
    ray.data.from_items(cuts, override_num_blocks=len(cuts)).map(write_block).materialize()


def describe_graph(graph: BehaviourGraph, counts: Path) -> dict[str, Any]:
    """What the graph covers: nodes with an edge, degrees, connected components, and the edges of each projection."""
    edges, queries, items = graph.edges, graph.edges.rows, graph.edges.columns
    degrees = {"query": edges.degrees, "item": np.bincount(edges.indices, minlength=items)}
    matrix = sparse.csr_array((np.ones(len(edges.indices), np.int32), edges.indices, edges.indptr), (queries, items))
    blocks: Any = [[None, matrix], [matrix.T, None]]
    joined = sparse.csr_array(sparse.block_array(blocks))
    _, component = connected_components(joined, directed=False)
    connected = np.concatenate([degrees["query"], degrees["item"]]) > 0
    sizes = np.bincount(component[connected])
    seen = pq.read_table(counts / COUNTED)
    return {
        "queries": queries,
        "items": items,
        "queries_with_an_edge": int((degrees["query"] > 0).sum()),
        "items_with_an_edge": int((degrees["item"] > 0).sum()),
        "actions": {action: int(seen[action].to_numpy().sum()) for action in ACTIONS},
        "pairs_seen": seen.num_rows,
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
