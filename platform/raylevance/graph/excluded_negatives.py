"""Nodes that must not be drawn as negatives of a node, although no edge of the log joins them.

A product that was not clicked for a query is not irrelevant to it: most products clicked for similar queries are
relevant too. Excluded as negatives of a node are therefore its neighbours and all nodes that random walks from it visit
(our choice; the CIKM 2022 paper does not mention false negatives). Walks limit how many nodes these are, whereas all
nodes within a number of steps would be half the graph as soon as one of them is a hub.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import ray.data

from raylevance.data.collecting import collect
from raylevance.graph.alias import AliasTable
from raylevance.graph.building import BehaviourGraph
from raylevance.graph.csr import Csr
from raylevance.graph.walks import WalkSettings, walk

NODES_PER_CHUNK = 10_000
NODE_LIST_SCHEMA = pa.schema({"nodes": pa.large_list(pa.int32())})


def find_excluded_negatives(graph: BehaviourGraph, walks: WalkSettings | None, seed: int) -> Csr:
    """Return for each node of `graph` the nodes that must not be drawn as its negatives.

    These are its neighbours in any projection and the nodes that `walks` from it visit; if `walks` is None, only the
    neighbours. The result is square, [queries + items, queries + items], with items numbered after queries. The walks
    run on a Ray cluster, and the result is the same on any number of workers.
    """
    neighbours = all_neighbours(graph)
    if walks is None:
        return neighbours
    shared = ray.put((neighbours, AliasTable.build(bipartite(graph.edges)), walks))

    def visit(batch: pa.Table) -> pa.Table:
        neighbours, table, settings = ray.get(shared)
        start = batch["start"][0].as_py()
        rows = neighbours.select_rows(start, min(start + NODES_PER_CHUNK, neighbours.rows))
        excluded = add_visited_nodes(rows, table, settings, seed)
        lists = pa.LargeListArray.from_arrays(pa.array(excluded.indptr), pa.array(excluded.indices))
        return pa.table([lists], schema=NODE_LIST_SCHEMA)

    starts = [{"start": start} for start in range(0, neighbours.rows, NODES_PER_CHUNK)]
    chunks = ray.data.from_items(starts, override_num_blocks=len(starts)).map_batches(
        visit, batch_size=1, batch_format="pyarrow"
    )
    chunks.context.execution_options.preserve_order = True
    lists = collect(chunks, NODE_LIST_SCHEMA)["nodes"]
    counts = np.concatenate([chunk.value_lengths().to_numpy() for chunk in lists.chunks])
    nodes = np.concatenate([chunk.flatten().to_numpy() for chunk in lists.chunks])
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Csr(indptr, nodes, np.ones(len(nodes), np.float32), neighbours.columns)


def add_visited_nodes(neighbours: Csr, table: AliasTable, walks: WalkSettings, seed: int) -> Csr:
    """Return the rows of `neighbours` with the nodes added that walks on `table` from each row's node visit.

    Rows are numbered from 0 in the result. Each node is listed once, with weight 1.
    """
    starts = np.arange(neighbours.first, neighbours.first + neighbours.rows)
    paths = walk(table, starts, walks, seed).reshape(neighbours.rows, -1)
    rows, columns = np.repeat(np.arange(neighbours.rows), paths.shape[1]), paths.ravel()
    rows, columns = rows[columns >= 0], columns[columns >= 0]
    keys = [
        _edge_keys(rows, columns, neighbours.columns),
        _edge_keys(neighbours.edge_rows() - neighbours.first, neighbours.indices, neighbours.columns),
    ]
    rows, columns = np.divmod(np.unique(np.concatenate(keys)), neighbours.columns)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=neighbours.rows))])
    return Csr(indptr, columns.astype(np.int32), np.ones(len(rows), np.float32), neighbours.columns)


def all_neighbours(graph: BehaviourGraph) -> Csr:
    """Return the neighbours of each node in any projection of `graph`, with every edge in both directions.

    The result is square, [queries + items, queries + items], with items numbered after queries. Both directions are
    needed because a projection keeps only the best edges of a node, and a popular node may not keep the edge back.
    """
    first_item, nodes = graph.edges.rows, graph.edges.rows + graph.edges.columns
    parts = [(graph.query_ppmi, 0, 0), (graph.edges, 0, first_item), (graph.item_ppmi, first_item, first_item)]
    edges = [(part.edge_rows() + row, part.indices + column) for part, row, column in parts]
    rows, columns = (np.concatenate(side) for side in zip(*edges, strict=True))
    return _undirected(rows, columns, nodes)


def _undirected(rows: npt.NDArray[Any], columns: npt.NDArray[Any], nodes: int) -> Csr:
    keys = np.unique(np.concatenate([_edge_keys(rows, columns, nodes), _edge_keys(columns, rows, nodes)]))
    rows, columns = np.divmod(keys, nodes)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=nodes))])
    return Csr(indptr, columns.astype(np.int32), np.ones(len(keys), np.float32), nodes)


def bipartite(edges: Csr) -> Csr:
    """Return the graph of queries by items as one square graph, with every edge in both directions.

    Queries come first, and items are numbered after them. Weights are those of `edges`.
    """
    back = edges.transposed()
    indptr = np.concatenate([edges.indptr, edges.indptr[-1] + back.indptr[1:]])
    indices = np.concatenate([edges.indices + np.int32(edges.rows), back.indices])
    nodes = edges.rows + edges.columns
    return Csr(indptr, indices.astype(np.int32), np.concatenate([edges.weights, back.weights]), nodes)


def _edge_keys(rows: npt.NDArray[Any], columns: npt.NDArray[Any], width: int) -> npt.NDArray[np.int64]:
    keys: npt.NDArray[np.int64] = rows.astype(np.int64) * width + columns
    return keys
