"""A behaviour graph with the texts of its nodes, and pairs of nodes as the rows that momentum contrast learns from."""

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
from raylevance.graph.features import Described, features
from raylevance.graph.metapaths import rank_in_row


@dataclass(frozen=True)
class Nodes:
    """A graph and the texts of its nodes, by number; `categories` of its items."""

    graph: BehaviourGraph
    queries: pa.Array
    items: pa.Array
    categories: pa.Array

    @classmethod
    def read(cls, tables: Path, graph: Path, text: ProductText) -> "Nodes":
        loaded = BehaviourGraph.load(graph)
        queries, products = (pq.read_table(tables / name) for name in ("queries", "products"))
        queries = queries.take(_places(loaded.queries, queries["query_id"]))
        products = products.take(_places(loaded.items, products["product_id"]))
        items = pa.array(text.compose(products), pa.string())
        return cls(loaded, queries["query"].combine_chunks(), items, products["category"].combine_chunks())

    def features(self) -> tuple[Csr, Csr]:
        queries, items = features([Described(self.queries), Described(self.items, self.categories)])
        return queries, items

    def contrast_rows(self, pairs: pa.Table, best: Csr, related: Csr) -> pa.Table:
        """The rows of `raylevance.training.tasks.moco.rows.COLUMNS` of `pairs`; items are numbered after queries.

        `best`: the `best_queries` of each item, whose centroid stands for it. `related`: of each node those that are no
        negatives of it, as `related_on_cluster` says.
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
                    related.degrees[anchor], pa.array(related.indices[related.edges_of(anchor)], pa.int64())
                ),
                "cluster": lists,
                "cluster_weights": weights,
                "cluster_id": np.where(has_cluster, clustered, -1).astype(np.int64),
            }
        )

    def item_clusters(self, most: int) -> tuple[pa.Array, pa.Array]:
        """Of every item the texts and weights of its `most` best queries, each a list an item."""
        first_item = len(self.queries)
        everyone = np.arange(first_item, first_item + len(self.items))
        return self._clusters(everyone, np.full(len(everyone), -1), best_queries(self.graph, most))

    def _clusters(self, nodes: npt.NDArray[Any], anchors: npt.NDArray[Any], back: Csr) -> tuple[pa.Array, pa.Array]:
        """Texts and weights, softmax of PPMI, of each item node's queries in `back` but for the anchor itself."""
        items = nodes - len(self.queries)
        held = np.flatnonzero(items >= 0)
        row = np.repeat(held, back.degrees[items[held]])
        edge = back.edges_of(items[held])
        kept = back.indices[edge] != anchors[row]
        row, edge = row[kept], edge[kept]
        mass = np.exp(back.weights[edge].astype(np.float64))
        weights = mass / np.bincount(row, mass, len(nodes))[row]
        counts = np.bincount(row, minlength=len(nodes))
        texts = self.queries.take(pa.array(back.indices[edge]))
        return _lists(counts, texts), _lists(counts, pa.array(weights, pa.float32()))


def best_queries(graph: BehaviourGraph, most: int) -> Csr:
    """Items by the `most` queries of highest PPMI."""
    back = graph.query_item_ppmi.transposed()
    rows = back.edge_rows()
    kept = rank_in_row(rows, back.weights.astype(np.float64), back.indices) < most
    return Csr.from_edges(rows[kept], back.indices[kept], back.weights[kept], (back.rows, back.columns))


def _without_same_text(
    counts: npt.NDArray[Any], negatives: pa.Array, anchors: pa.Array, positives: pa.Array
) -> tuple[npt.NDArray[Any], pa.Array]:
    """Lists of `negatives` by their `counts` [n], without the texts of their row's anchor and positive [n]: another
    node may have the same."""
    row = np.repeat(np.arange(len(counts)), counts)
    same = pc.or_(pc.equal(negatives, anchors.take(row)), pc.equal(negatives, positives.take(row)))
    kept = ~same.to_numpy(zero_copy_only=False)
    return np.bincount(row[kept], minlength=len(counts)), negatives.filter(pa.array(kept))


def _lists(counts: npt.NDArray[Any], values: pa.Array) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _places(ids: pa.Array, column: pa.ChunkedArray) -> pa.Array:
    """Where each of `ids` stands in `column`. Raises `RaylevanceError` for one that does not."""
    places = pc.index_in(ids, column.combine_chunks())
    if places.null_count:
        missing = ids.filter(places.is_null())[0].as_py()
        raise RaylevanceError(
            f"node {missing!r} of the graph is not in the tables: import the older products and queries with the new"
        )
    return places
