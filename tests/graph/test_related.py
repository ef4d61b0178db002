"""Related nodes against the components and distances of small graphs."""

import numpy as np
import pyarrow as pa
import pytest

from raylevance.graph.building import BehaviourGraph
from raylevance.graph.csr import Csr
from raylevance.graph.related import both_ways, neighbours, related_on_cluster
from raylevance.graph.walks import WalkSettings


def edges(shape: tuple[int, int], pairs: list[tuple[int, int]]) -> Csr:
    rows, columns = np.array(pairs, int).reshape(-1, 2).T
    return Csr.from_edges(rows, columns, np.ones(len(rows)), shape)


@pytest.fixture
def chain() -> BehaviourGraph:
    """q0 - p0 - q1 - p1 - q2 - p2, and q3 - p3 apart; PPMI knows that p0 and p3 are alike."""
    return BehaviourGraph(
        pa.array(["q0", "q1", "q2", "q3"]),
        pa.array(["p0", "p1", "p2", "p3"]),
        edges=edges((4, 4), [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (3, 3)]),
        query_ppmi=edges((4, 4), []),
        item_ppmi=edges((4, 4), [(0, 3), (3, 0)]),
        query_item_ppmi=edges((4, 4), []),
    )


def rows(graph: Csr) -> list[list[int]]:
    return [graph.row(node)[0].tolist() for node in range(graph.rows)]


def test_neighbours_are_those_of_every_projection(chain: BehaviourGraph) -> None:
    assert rows(neighbours(chain)) == [[4], [4, 5], [5, 6], [7], [0, 1, 7], [1, 2], [2], [3, 4]]


def test_a_neighbour_of_one_side_is_one_of_the_other() -> None:
    """As where a node is one of another's best and has better ones itself."""
    assert rows(both_ways(edges((3, 3), [(0, 1), (0, 2), (2, 0)]))) == [[1, 2], [0], [0]]


@pytest.mark.ray
@pytest.mark.parametrize(("length", "expected"), [(1, [0, 4]), (3, [0, 1, 4, 5]), (5, [0, 1, 2, 4, 5, 6])])
def test_walks_relate_all_nodes_within_their_length(
    ray_cluster: None, chain: BehaviourGraph, length: int, expected: list[int]
) -> None:
    """200 walks of a query with 3 nodes to choose from miss none of them."""
    related = related_on_cluster(chain, WalkSettings(walks_per_node=200, length=length), seed=0)
    assert related.row(0)[0].tolist() == expected
    assert related.row(3)[0].tolist() == [3, 7]


def test_without_walks_neighbours_are_all(chain: BehaviourGraph) -> None:
    assert rows(related_on_cluster(chain, None, seed=0)) == rows(neighbours(chain))
