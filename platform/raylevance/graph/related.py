"""Related nodes: those that are no negatives of a node, though no edge says so.

A query's unclicked products are not irrelevant to it: most of those that similar queries were clicked for are relevant
too. So a node's related nodes are its neighbours and all nodes that random walks from it come by (our choice; the
CIKM 2022 paper says nothing of false negatives). Walks bound their number, where all nodes within so many steps are
half the graph as soon as one of them is a hub.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import ray.data

from raylevance.data.blocks import collect
from raylevance.graph.alias import AliasTable
from raylevance.graph.building import BehaviourGraph
from raylevance.graph.csr import Csr
from raylevance.graph.walks import WalkSettings, walk

NODES_PER_CHUNK = 10_000
LISTS = pa.schema({"nodes": pa.large_list(pa.int32())})


def related_on_cluster(graph: BehaviourGraph, walks: WalkSettings | None, seed: int) -> Csr:
    """Of each node of `graph`, items numbered after queries, its related nodes: [queries + items, queries + items].

    None for `walks`: neighbours alone, in any projection. The same on any number of workers.
    """
    edges = neighbours(graph)
    if walks is None:
        return edges
    shared = ray.put((edges, AliasTable.build(bipartite(graph.edges)), walks))

    def visit(batch: pa.Table) -> pa.Table:
        near, table, settings = ray.get(shared)
        start = batch["start"][0].as_py()
        visited = with_visited(near.part(start, min(start + NODES_PER_CHUNK, near.rows)), table, settings, seed)
        lists = pa.LargeListArray.from_arrays(pa.array(visited.indptr), pa.array(visited.indices))
        return pa.table([lists], schema=LISTS)

    starts = [{"start": start} for start in range(0, edges.rows, NODES_PER_CHUNK)]
    rows = ray.data.from_items(starts, override_num_blocks=len(starts)).map_batches(
        visit, batch_size=1, batch_format="pyarrow"
    )
    rows.context.execution_options.preserve_order = True
    found = collect(rows, LISTS)["nodes"]
    counts = np.concatenate([chunk.value_lengths().to_numpy() for chunk in found.chunks])
    nodes = np.concatenate([chunk.flatten().to_numpy() for chunk in found.chunks])
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Csr(indptr, nodes, np.ones(len(nodes), np.float32), edges.columns)


def with_visited(near: Csr, table: AliasTable, walks: WalkSettings, seed: int) -> Csr:
    """The rows `near`, and in each the nodes that walks on `table` from its own node come by."""
    starts = np.arange(near.first, near.first + near.rows)
    paths = walk(table, starts, walks, seed).reshape(near.rows, -1)
    rows, columns = np.repeat(np.arange(near.rows), paths.shape[1]), paths.ravel()
    rows, columns = rows[columns >= 0], columns[columns >= 0]
    keys = [_keys(rows, columns, near.columns), _keys(near.edge_rows() - near.first, near.indices, near.columns)]
    rows, columns = np.divmod(np.unique(np.concatenate(keys)), near.columns)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=near.rows))])
    return Csr(indptr, columns.astype(np.int32), np.ones(len(rows), np.float32), near.columns)


def neighbours(graph: BehaviourGraph) -> Csr:
    """Of each node, items numbered after queries, its neighbours in any projection: [queries + items] square.

    In both directions: a projection keeps a node's best neighbours, and a hub is not always one of theirs.
    """
    first_item, nodes = graph.edges.rows, graph.edges.rows + graph.edges.columns
    parts = [(graph.query_ppmi, 0, 0), (graph.edges, 0, first_item), (graph.item_ppmi, first_item, first_item)]
    edges = [(part.edge_rows() + row, part.indices + column) for part, row, column in parts]
    rows, columns = (np.concatenate(side) for side in zip(*edges, strict=True))
    return _undirected(rows, columns, nodes)


def both_ways(graph: Csr) -> Csr:
    """The edges of a square `graph` and those back, each once, of weight 1."""
    return _undirected(graph.edge_rows(), graph.indices, graph.columns)


def _undirected(rows: npt.NDArray[Any], columns: npt.NDArray[Any], nodes: int) -> Csr:
    keys = np.unique(np.concatenate([_keys(rows, columns, nodes), _keys(columns, rows, nodes)]))
    rows, columns = np.divmod(keys, nodes)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=nodes))])
    return Csr(indptr, columns.astype(np.int32), np.ones(len(keys), np.float32), nodes)


def bipartite(edges: Csr) -> Csr:
    """Queries and items as one set of nodes, queries first, with every edge in both directions."""
    back = edges.transposed()
    indptr = np.concatenate([edges.indptr, edges.indptr[-1] + back.indptr[1:]])
    indices = np.concatenate([edges.indices + np.int32(edges.rows), back.indices])
    nodes = edges.rows + edges.columns
    return Csr(indptr, indices.astype(np.int32), np.concatenate([edges.weights, back.weights]), nodes)


def _keys(rows: npt.NDArray[Any], columns: npt.NDArray[Any], width: int) -> npt.NDArray[np.int64]:
    keys: npt.NDArray[np.int64] = rows.astype(np.int64) * width + columns
    return keys
