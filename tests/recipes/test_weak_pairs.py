"""Rows for MoCo from pairs by number, on a graph small enough to read."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from raylevance.errors import RaylevanceError
from raylevance.graph.building import BehaviourGraph
from raylevance.graph.csr import Csr
from raylevance.graph.excluded_negatives import all_neighbours
from raylevance.graph.metapaths import PpmiSettings, direct_ppmi
from raylevance.graph.sampling import PAIR_SCHEMA
from workloads.steps.graph_texts import GraphTexts, best_queries, node_rows

PAIR_ROWS = [
    {"kind": "query-query", "anchor": 0, "positive": 1, "negatives": [2]},
    {"kind": "item-item", "anchor": 0, "positive": 1, "negatives": []},
    {"kind": "query-item", "anchor": 0, "positive": 0, "negatives": [2, 1]},
    {"kind": "query-item", "anchor": 2, "positive": 2, "negatives": []},
    {"kind": "item-query", "anchor": 0, "positive": 1, "negatives": [2]},
]


def matrix(rows: list[list[float]]) -> Csr:
    values = np.array(rows)
    row, column = np.nonzero(values)
    return Csr.from_edges(row, column, values[row, column], values.shape)


@pytest.fixture
def nodes() -> GraphTexts:
    """Three queries and three items: queries 0 and 1 share item 0, query 2 has item 2 for itself."""
    edges = matrix([[1, 0, 0], [1, 1, 0], [0, 0, 1]])
    graph = BehaviourGraph(
        pa.array(["q0", "q1", "q2"]),
        pa.array(["p0", "p1", "p2"]),
        edges=edges,
        query_ppmi=matrix([[0, 1, 0], [1, 0, 0], [0, 0, 0]]),
        item_ppmi=matrix([[0, 1, 0], [1, 0, 0], [0, 0, 0]]),
        query_item_ppmi=matrix([[0.5, 0, 0], [1.5, 2, 0], [0, 0, 1]]),
    )
    categories = pa.array([["Home"]] * 3)
    return GraphTexts(
        graph, pa.array(["ask 0", "ask 1", "ask 2"]), pa.array(["thing 0", "thing 1", "thing 2"]), categories
    )


def test_pairs_become_texts_on_their_sides(nodes: GraphTexts) -> None:
    rows = nodes.contrast_rows(
        pa.Table.from_pylist(PAIR_ROWS, PAIR_SCHEMA), best_queries(nodes.graph, 5), all_neighbours(nodes.graph)
    ).to_pylist()
    read = [
        (row["anchor"], row["anchor_side"], row["positive"], row["positive_side"], row["negatives"]) for row in rows
    ]
    assert read == [
        ("ask 0", "query", "ask 1", "query", ["ask 2"]),
        ("thing 0", "item", "thing 1", "item", []),
        ("ask 0", "query", "thing 0", "item", ["thing 2", "thing 1"]),
        ("ask 2", "query", "thing 2", "item", []),
        ("thing 0", "item", "ask 1", "query", ["ask 2"]),
    ]
    assert [row["positive_id"] for row in rows] == [1, 4, 3, 5, 1]
    assert [sorted(row["related"]) for row in rows] == [[1, 3], [0, 1, 4], [1, 3], [5], [0, 1, 4]]


def test_another_node_of_the_same_text_is_no_negative(nodes: GraphTexts) -> None:
    same = replace(nodes, items=pa.array(["thing 0", "thing 1", "thing 0"]))
    rows = same.contrast_rows(
        pa.Table.from_pylist(PAIR_ROWS, PAIR_SCHEMA), best_queries(nodes.graph, 5), all_neighbours(nodes.graph)
    ).to_pylist()
    assert [row["negatives"] for row in rows] == [["ask 2"], [], ["thing 1"], [], ["ask 2"]]


def test_a_listing_of_a_related_product_is_no_negative(nodes: GraphTexts) -> None:
    """Query 1 has item 1 as a neighbour, and item 2 is the same product."""
    same = replace(nodes, items=pa.array(["thing 0", "thing 1", "Thing  1"]))
    pairs = pa.Table.from_pylist(
        [{"kind": "query-item", "anchor": 1, "positive": 0, "negatives": [2]}], schema=PAIR_SCHEMA
    )
    rows = same.contrast_rows(pairs, best_queries(nodes.graph, 5), all_neighbours(nodes.graph))
    assert rows["negatives"].to_pylist() == [[]]


def test_an_item_stands_in_the_cluster_of_its_queries_without_the_anchor(nodes: GraphTexts) -> None:
    rows = nodes.contrast_rows(
        pa.Table.from_pylist(PAIR_ROWS, PAIR_SCHEMA), best_queries(nodes.graph, 5), all_neighbours(nodes.graph)
    ).to_pylist()
    assert [(row["cluster"], row["cluster_id"]) for row in rows] == [
        ([], -1),
        (["ask 1"], 4),
        (["ask 1"], 3),
        ([], -1),
        (["ask 0", "ask 1"], 3),
    ]
    texts, weights = nodes.item_clusters(2)
    assert texts.to_pylist() == [["ask 0", "ask 1"], ["ask 1"], ["ask 2"]]
    assert weights.to_pylist()[0] == pytest.approx([2 / 3, 1 / 3]), "the PPMI are log 2 and 0"
    assert nodes.item_clusters(1)[0].to_pylist() == [["ask 0"], ["ask 1"], ["ask 2"]]


def test_an_item_keeps_its_only_query_however_broad(nodes: GraphTexts) -> None:
    """A query for 80 products, of which the graph's own PPMI edges keep 50; item 0 has a narrow query too."""
    clicks = np.zeros((2, 80))
    clicks[0], clicks[1, 0] = 1, 1
    rows, columns = np.nonzero(clicks)
    edges = Csr.from_edges(rows, columns, clicks[rows, columns], clicks.shape)
    kept = direct_ppmi(edges, PpmiSettings(top=50))
    assert len(kept.row(0)[0]) == 50
    best = best_queries(replace(nodes.graph, edges=edges, query_item_ppmi=kept), most=1)
    assert [best.row(item)[0].tolist() for item in range(80)] == [[1]] + [[0]] * 79


def test_of_equally_associated_queries_the_most_clicked_come_first(nodes: GraphTexts) -> None:
    """Each query has only item 0, so that all PPMI are equal, and the last query has the most clicks."""
    edges = Csr.from_edges(np.arange(3), np.zeros(3, int), np.array([1.0, 2.0, 8.0]), (3, 1))
    found = [best_queries(replace(nodes.graph, edges=edges), most).row(0)[0].tolist() for most in (1, 2, 3)]
    assert found == [[2], [1, 2], [0, 1, 2]]


def test_a_node_that_the_tables_lack_is_named() -> None:
    with pytest.raises(RaylevanceError, match="node 'b' of the graph is not in the tables"):
        node_rows(pa.array(["a", "b"]), pa.chunked_array([["c", "a"]]))
