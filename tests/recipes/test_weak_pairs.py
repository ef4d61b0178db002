"""Rows for MoCo from pairs by number, on a graph small enough to read."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from raylevance.errors import RaylevanceError
from raylevance.graph.building import BehaviourGraph
from raylevance.graph.csr import Csr
from raylevance.graph.excluded_negatives import all_neighbours
from raylevance.graph.sampling import PAIR_SCHEMA
from workloads.steps.graph_texts import GraphTexts, _places, best_queries
from workloads.steps.relevance_pairs import BehaviourPairs

PAIR_ROWS = [
    {"kind": "query-query", "anchor": 0, "positive": 1, "negatives": [2]},
    {"kind": "item-item", "anchor": 0, "positive": 1, "negatives": []},
    {"kind": "query-item", "anchor": 0, "positive": 0, "negatives": [2, 1]},
    {"kind": "query-item", "anchor": 2, "positive": 2, "negatives": []},
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
    ]
    assert [row["positive_id"] for row in rows] == [1, 4, 3, 5]
    assert [sorted(row["related"]) for row in rows] == [[1, 3], [0, 1, 4], [1, 3], [5]]


def test_another_node_of_the_same_text_is_no_negative(nodes: GraphTexts) -> None:
    same = replace(nodes, items=pa.array(["thing 0", "thing 1", "thing 0"]))
    rows = same.contrast_rows(
        pa.Table.from_pylist(PAIR_ROWS, PAIR_SCHEMA), best_queries(nodes.graph, 5), all_neighbours(nodes.graph)
    ).to_pylist()
    assert [row["negatives"] for row in rows] == [["ask 2"], [], ["thing 1"], []]


def test_an_item_stands_in_the_cluster_of_its_queries_without_the_anchor(nodes: GraphTexts) -> None:
    rows = nodes.contrast_rows(
        pa.Table.from_pylist(PAIR_ROWS, PAIR_SCHEMA), best_queries(nodes.graph, 5), all_neighbours(nodes.graph)
    ).to_pylist()
    assert [(row["cluster"], row["cluster_id"]) for row in rows] == [
        ([], -1),
        (["ask 1"], 4),
        (["ask 1"], 3),
        ([], -1),
    ]
    texts, weights = nodes.item_clusters(2)
    assert texts.to_pylist() == [["ask 0", "ask 1"], ["ask 1"], ["ask 2"]]
    softmax = np.exp([0.5, 1.5]) / np.exp([0.5, 1.5]).sum()
    assert weights.to_pylist()[0] == pytest.approx(softmax)
    assert nodes.item_clusters(1)[0].to_pylist() == [["ask 1"], ["ask 1"], ["ask 2"]]


def test_behaviour_pairs_are_query_item_pairs_alone(nodes: GraphTexts) -> None:
    rows = BehaviourPairs(nodes, pa.Table.from_pylist(PAIR_ROWS, PAIR_SCHEMA), 0.3).rows().to_pylist()
    assert [(row["query"], row["product_text"], row["label"]) for row in rows] == [
        ("ask 0", "thing 0", 1),
        ("ask 2", "thing 2", 1),
        ("ask 0", "thing 2", 0),
        ("ask 0", "thing 1", 0),
    ]
    assert {(row["source"], round(row["weight"], 6)) for row in rows} == {("behaviour", 0.3)}


def test_a_node_that_the_tables_lack_is_named() -> None:
    with pytest.raises(RaylevanceError, match="node 'b' of the graph is not in the tables"):
        _places(pa.array(["a", "b"]), pa.chunked_array([["c", "a"]]))
