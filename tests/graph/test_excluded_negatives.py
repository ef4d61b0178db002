"""Tests of excluded negatives against the components and distances of small graphs."""

import numpy as np
import pyarrow as pa
import pytest

from raylevance.graph.building import BehaviourGraph
from raylevance.graph.csr import Csr
from raylevance.graph.excluded_negatives import all_neighbours, find_excluded_negatives
from raylevance.graph.walks import WalkSettings


def edges(shape: tuple[int, int], pairs: list[tuple[int, int]]) -> Csr:
    rows, columns = np.array(pairs, int).reshape(-1, 2).T
    return Csr.from_edges(rows, columns, np.ones(len(rows)), shape)


@pytest.fixture
def chain() -> BehaviourGraph:
    """Return the chain q0 - p0 - q1 - p1 - q2 - p2 and a separate q3 - p3. p0 has a PPMI edge to p3, p3 none."""
    return BehaviourGraph(
        pa.array(["q0", "q1", "q2", "q3"]),
        pa.array(["p0", "p1", "p2", "p3"]),
        edges=edges((4, 4), [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (3, 3)]),
        query_ppmi=edges((4, 4), []),
        item_ppmi=edges((4, 4), [(0, 3)]),
        query_item_ppmi=edges((4, 4), []),
    )


def rows(graph: Csr) -> list[list[int]]:
    return [graph.row(node)[0].tolist() for node in range(graph.rows)]


def test_neighbours_come_from_every_projection(chain: BehaviourGraph) -> None:
    assert rows(all_neighbours(chain)) == [[4], [4, 5], [5, 6], [7], [0, 1, 7], [1, 2], [2], [3, 4]]


@pytest.mark.ray
@pytest.mark.parametrize(("length", "expected"), [(1, [0, 4]), (3, [0, 1, 4, 5]), (5, [0, 1, 2, 4, 5, 6])])
def test_walks_visit_all_nodes_within_their_length(
    ray_cluster: None, chain: BehaviourGraph, length: int, expected: list[int]
) -> None:
    """200 walks from a query miss none of the nodes that they can reach."""
    excluded = find_excluded_negatives(chain, WalkSettings(walks_per_node=200, length=length), seed=0)
    assert excluded.row(0)[0].tolist() == expected
    assert excluded.row(3)[0].tolist() == [3, 7]


def test_without_walks_only_neighbours_are_excluded(chain: BehaviourGraph) -> None:
    assert rows(find_excluded_negatives(chain, None, seed=0)) == rows(all_neighbours(chain))
