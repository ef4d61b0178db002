"""A behaviour graph with the texts of its nodes, and pairs of nodes as training rows of momentum contrast."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from raylevance.data.hashing import hash_strings
from raylevance.data.id_rows import rows_of_ids
from raylevance.data.text import ProductText, normalised_query
from raylevance.graph.building import BehaviourGraph
from raylevance.graph.csr import Csr
from raylevance.graph.features import NodeTexts, node_features
from raylevance.graph.list_columns import list_column
from raylevance.graph.metapaths import PpmiSettings, strongest_edges

DEFAULT_PPMI = PpmiSettings()
FROM_ITEMS, TO_ITEMS = ("item-item", "item-query"), ("item-item", "query-item")
"""The kinds of pairs whose anchor is an item, and whose positive is one."""


@dataclass(frozen=True)
class GraphTexts:
    """A behaviour graph with the texts of its query and item nodes, and the category paths of its items.

    `ppmi` are the settings that the graph was built with.
    """

    graph: BehaviourGraph
    queries: pa.Array
    items: pa.Array
    categories: pa.Array
    ppmi: PpmiSettings = DEFAULT_PPMI

    @classmethod
    def read(cls, tables: Path, graph: Path, text: ProductText, ppmi: PpmiSettings = DEFAULT_PPMI) -> "GraphTexts":
        """Read a behaviour graph, and compose the texts of its nodes from the tables."""
        loaded = BehaviourGraph.load(graph)
        queries, products = (pq.read_table(tables / name) for name in ("queries", "products"))
        queries = queries.take(node_rows(loaded.queries, queries["query_id"]))
        products = products.take(node_rows(loaded.items, products["product_id"]))
        items = pa.array(text.compose(products), pa.string())
        return cls(loaded, queries["query"].combine_chunks(), items, products["category"].combine_chunks(), ppmi)

    @cached_property
    def text_ids(self) -> npt.NDArray[np.int64]:
        """A number for the text of each node, items after queries, int64 [queries + items].

        It is the same for texts that differ only in case or white space. Nodes may share a text, as listings of one
        product do.
        """
        hashes = hash_strings(normalised_query(pa.concat_arrays([self.queries, self.items])))
        ids: npt.NDArray[np.int64] = np.unique(hashes, return_inverse=True)[1].astype(np.int64)
        return ids

    def pair_ids(self, queries: npt.NDArray[Any], items: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return a number for the texts of each pair of a query and an item, int64 [n], the same for equal texts."""
        texts = self.text_ids
        ids: npt.NDArray[np.int64] = texts[queries] * len(texts) + texts[items + len(self.queries)]
        return ids

    def features(self) -> tuple[Csr, Csr]:
        """Return the features of query nodes and of item nodes."""
        queries, items = node_features([NodeTexts(self.queries), NodeTexts(self.items, self.categories)])
        return queries, items

    def contrast_rows(self, pairs: pa.Table, best: Csr, related: Csr) -> pa.Table:
        """Return `pairs` as `training.tasks.moco.contrast_rows.CONTRAST_ROWS`. Items are numbered after queries.

        Negatives with the text of the anchor, of the positive or of a related node are left out.

        `best` are the `best_queries` of each item, whose centroid represents it. `related` are the nodes that must not
        be negatives of each node, as `find_excluded_negatives` returns them.
        """
        first_item = len(self.queries)
        kind = pairs["kind"].to_numpy()
        from_item, to_item = (np.isin(kind, kinds) for kinds in (FROM_ITEMS, TO_ITEMS))
        anchor = pairs["anchor"].to_numpy() + first_item * from_item
        positive = pairs["positive"].to_numpy() + first_item * to_item
        drawn = pairs["negatives"].combine_chunks()
        counts = drawn.value_lengths().to_numpy()
        negative = drawn.flatten().to_numpy() + np.repeat(first_item * to_item, counts)
        clustered, one = np.where(to_item, positive, anchor), np.ones(len(anchor), np.int64)
        texts = pa.concat_arrays([self.queries, self.items])
        near = Lists(related.degrees[anchor], related.indices[related.edge_positions(anchor)])
        kept = Lists(counts, negative).without_texts(self.text_ids, near, Lists(one, anchor), Lists(one, positive))
        lists, weights = self._clusters(clustered, anchor, best)
        has_cluster = lists.value_lengths().to_numpy() > 0
        return pa.table(
            {
                "anchor": texts.take(pa.array(anchor)),
                "anchor_side": np.where(from_item, "item", "query"),
                "positive": texts.take(pa.array(positive)),
                "positive_side": np.where(to_item, "item", "query"),
                "negatives": list_column(kept.counts, texts.take(pa.array(kept.values))),
                "positive_id": positive.astype(np.int64),
                "related": list_column(near.counts, near.values.astype(np.int64)),
                "cluster": lists,
                "cluster_weights": weights,
                "cluster_id": np.where(has_cluster, clustered, -1).astype(np.int64),
            }
        )

    def item_clusters(self, most: int) -> tuple[pa.Array, pa.Array]:
        """Return the texts and the weights of the `best_queries` of every item, both a list for each item."""
        first_item = len(self.queries)
        everyone = np.arange(first_item, first_item + len(self.items))
        return self._clusters(everyone, np.full(len(everyone), -1), best_queries(self.graph, most, self.ppmi.shift))

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
        return list_column(counts, texts), list_column(counts, weights.astype(np.float32))


def best_queries(graph: BehaviourGraph, most: int, shift: float = 1.0) -> Csr:
    """Return the neighbour queries N(i) of each item i: the `most` queries of highest PPMI, ties by click weight.

    They are chosen among all queries with an edge to the item, however many products those queries have. Rows are
    items, columns queries, and weights the PPMI with the `shift` of `PpmiSettings`.

    Source: the CIKM 2022 paper (DOI 10.1145/3511808.3557143) for the set; how it is ordered is our reading.
    """
    return strongest_edges(graph.edges.transposed(), most, shift)


def node_rows(ids: pa.Array, column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return the row of each node of a graph in a table, int64 [n].

    `ids` [n] are those of the nodes, and `column` those of the table. Raises `RaylevanceError` for a node that is not
    in the table.
    """
    absent = "is not in the tables: import older products and queries with the new ones"
    return rows_of_ids(ids, column, f"node {{}} of the graph {absent}")


@dataclass(frozen=True)
class Lists:
    """Lists of nodes, one after the other: `counts` [n] are their lengths, and `values` the nodes of all of them."""

    counts: npt.NDArray[Any]
    values: npt.NDArray[Any]

    @property
    def rows(self) -> npt.NDArray[Any]:
        """The list that each of `values` is in."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def without_texts(self, text_ids: npt.NDArray[np.int64], *others: "Lists") -> "Lists":
        """Remove the nodes whose text is that of a node in the same row of `others`.

        `text_ids` are those of `GraphTexts`.
        """
        own, *seen = (lists.rows * len(text_ids) + text_ids[lists.values] for lists in (self, *others))
        kept = ~np.isin(own, np.concatenate(seen))
        return Lists(np.bincount(self.rows[kept], minlength=len(self.counts)), self.values[kept])
