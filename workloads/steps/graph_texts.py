"""A behaviour graph with the texts of its nodes, and pairs of nodes as training rows of momentum contrast."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError
from raylevance.graph.building import BehaviourGraph
from raylevance.graph.csr import Csr
from raylevance.graph.features import NodeTexts, node_features
from raylevance.graph.metapaths import rank_in_row


@dataclass(frozen=True)
class GraphTexts:
    """A behaviour graph with the texts of its query and item nodes, and the category paths of its items."""

    graph: BehaviourGraph
    queries: pa.Array
    items: pa.Array
    categories: pa.Array

    @classmethod
    def read(cls, tables: Path, graph: Path, text: ProductText) -> "GraphTexts":
        """Read a behaviour graph, and compose the texts of its nodes from the tables."""
        loaded = BehaviourGraph.load(graph)
        queries, products = (pq.read_table(tables / name) for name in ("queries", "products"))
        queries = queries.take(_places(loaded.queries, queries["query_id"]))
        products = products.take(_places(loaded.items, products["product_id"]))
        items = pa.array(text.compose(products), pa.string())
        return cls(loaded, queries["query"].combine_chunks(), items, products["category"].combine_chunks())

    def features(self) -> tuple[Csr, Csr]:
        """Return the features of query nodes and of item nodes."""
        queries, items = node_features([NodeTexts(self.queries), NodeTexts(self.items, self.categories)])
        return queries, items

    def contrast_rows(self, pairs: pa.Table, best: Csr, related: Csr) -> pa.Table:
        """Return `pairs` as `training.tasks.moco.contrast_rows.CONTRAST_ROWS`. Items are numbered after queries.

        `best` are the `best_queries` of each item, whose centroid represents it. `related` are the nodes that must not
        be negatives of each node, as `find_excluded_negatives` returns them.
        """
        first_item = len(self.queries)
        kind = pairs["kind"].to_numpy()
        from_item, to_item = kind == "item-item", kind != "query-query"
        anchor = pairs["anchor"].to_numpy() + first_item * from_item
        positive = pairs["positive"].to_numpy() + first_item * to_item
        drawn = pairs["negatives"].combine_chunks()
        counts = drawn.value_lengths().to_numpy()
        negative = drawn.flatten().to_numpy() + np.repeat(first_item * to_item, counts)
        clustered = np.where(to_item, positive, anchor)
        texts = pa.concat_arrays([self.queries, self.items])
        counts, negatives = _without_same_text(counts, texts.take(negative), texts.take(anchor), texts.take(positive))
        lists, weights = self._clusters(clustered, anchor, best)
        has_cluster = lists.value_lengths().to_numpy() > 0
        return pa.table(
            {
                "anchor": texts.take(pa.array(anchor)),
                "anchor_side": np.where(from_item, "item", "query"),
                "positive": texts.take(pa.array(positive)),
                "positive_side": np.where(to_item, "item", "query"),
                "negatives": _lists(counts, negatives),
                "positive_id": positive.astype(np.int64),
                "related": _lists(
                    related.degrees[anchor], pa.array(related.indices[related.edge_positions(anchor)], pa.int64())
                ),
                "cluster": lists,
                "cluster_weights": weights,
                "cluster_id": np.where(has_cluster, clustered, -1).astype(np.int64),
            }
        )

    def item_clusters(self, most: int) -> tuple[pa.Array, pa.Array]:
        """Return the texts and the weights of the `most` best queries of every item, both a list for each item."""
        first_item = len(self.queries)
        everyone = np.arange(first_item, first_item + len(self.items))
        return self._clusters(everyone, np.full(len(everyone), -1), best_queries(self.graph, most))

    def neighbour_queries(self, count: int) -> pa.Table:
        """Return the rows of `ProductQueries.of`: each item with its `count` queries of highest PPMI."""
        queries, weights = self.item_clusters(count)
        columns = {"product_id": self.graph.items, "product_text": self.items, "queries": queries, "weights": weights}
        return pa.table(columns)

    def _clusters(self, nodes: npt.NDArray[Any], anchors: npt.NDArray[Any], back: Csr) -> tuple[pa.Array, pa.Array]:
        """Return texts and weights (softmax of PPMI) of the queries of each item node, without the anchor itself."""
        items = nodes - len(self.queries)
        held = np.flatnonzero(items >= 0)
        row = np.repeat(held, back.degrees[items[held]])
        edge = back.edge_positions(items[held])
        kept = back.indices[edge] != anchors[row]
        row, edge = row[kept], edge[kept]
        mass = np.exp(back.weights[edge].astype(np.float64))
        weights = mass / np.bincount(row, mass, len(nodes))[row]
        counts = np.bincount(row, minlength=len(nodes))
        texts = self.queries.take(pa.array(back.indices[edge]))
        return _lists(counts, texts), _lists(counts, pa.array(weights, pa.float32()))


def best_queries(graph: BehaviourGraph, most: int) -> Csr:
    """Return, for each item, its `most` queries of highest PPMI: items are rows and queries columns."""
    back = graph.query_item_ppmi.transposed()
    rows = back.edge_rows()
    kept = rank_in_row(rows, back.weights.astype(np.float64), back.indices) < most
    return Csr.from_edges(rows[kept], back.indices[kept], back.weights[kept], (back.rows, back.columns))


def _without_same_text(
    counts: npt.NDArray[Any], negatives: pa.Array, anchors: pa.Array, positives: pa.Array
) -> tuple[npt.NDArray[Any], pa.Array]:
    """Remove negatives whose text is that of the anchor or the positive of their row; another node may share it.

    `negatives` are n lists one after the other, whose lengths are `counts` [n].
    """
    row = np.repeat(np.arange(len(counts)), counts)
    same = pc.or_(pc.equal(negatives, anchors.take(row)), pc.equal(negatives, positives.take(row)))
    kept = ~same.to_numpy(zero_copy_only=False)
    return np.bincount(row[kept], minlength=len(counts)), negatives.filter(pa.array(kept))


def _lists(counts: npt.NDArray[Any], values: pa.Array) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _places(ids: pa.Array, column: pa.ChunkedArray) -> pa.Array:
    """Return the row of each of `ids` in `column`. Raises `RaylevanceError` for an id that is not there."""
    places = pc.index_in(ids, column.combine_chunks())
    if places.null_count:
        missing = ids.filter(places.is_null())[0].as_py()
        raise RaylevanceError(
            f"node {missing!r} of the graph is not in the tables: import older products and queries with the new ones"
        )
    return places
