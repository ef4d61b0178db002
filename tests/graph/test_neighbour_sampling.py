"""Sampled neighbours against their exact probabilities, and draws that do not depend on the other nodes."""

import numpy as np
import pytest

from raylevance.graph.csr import Csr
from raylevance.graph.neighbour_sampling import NeighbourSampler


@pytest.fixture
def graph() -> Csr:
    rows, columns = np.array([0, 0, 0, 2, 3, 3]), np.array([1, 2, 3, 0, 1, 2])
    weights = np.array([1.0, 2.0, 7.0, 5.0, 0.001, 1000.0])
    return Csr.from_edges(rows, columns, weights, (5, 5))


def test_draws_follow_the_weights(graph: Csr) -> None:
    places, drawn = NeighbourSampler(graph).sample(np.array([0]), 20_000, seed=3)
    assert set(places) == {0}
    shares = np.bincount(drawn, minlength=5) / len(drawn)
    np.testing.assert_allclose(shares, [0, 0.1, 0.2, 0.7, 0], atol=0.015)
    assert np.mean(NeighbourSampler(graph).sample(np.array([3]), 1000, seed=1)[1] == 2) > 0.99


def test_draws_of_a_node_depend_on_the_seed_and_the_node_alone(graph: Csr) -> None:
    sampler = NeighbourSampler(graph)
    places, drawn = sampler.sample(np.array([1, 3, 0, 4, 2]), 8, seed=11)
    assert sorted(set(places)) == [1, 2, 4], "nodes 1 and 4 have no neighbours"
    alone = sampler.sample(np.array([0]), 8, seed=11)[1]
    assert drawn[places == 2].tolist() == alone.tolist()
    assert alone.tolist() != sampler.sample(np.array([0]), 8, seed=12)[1].tolist()


def test_an_edge_that_could_never_be_drawn_is_refused() -> None:
    graph = Csr.from_edges(np.array([0, 0]), np.array([1, 2]), np.array([1.0, 0.0]), (3, 3))
    with pytest.raises(ValueError, match="weight is not above 0"):
        NeighbourSampler(graph)
