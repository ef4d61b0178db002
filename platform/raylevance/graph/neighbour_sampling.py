"""Neighbours sampled by weight, with draws that depend on the seed and the node alone.

torch-geometric's samplers need compiled packages that its wheel does not have.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from raylevance.graph.compiled import compiled
from raylevance.graph.csr import Csr
from raylevance.graph.random_numbers import GOLDEN_GAMMA, initial_states, uniform

Ints = npt.NDArray[np.int64]


class NeighbourSampler:
    """Draws neighbours of the nodes of a graph with replacement, each with a probability proportional to its weight."""

    def __init__(self, graph: Csr) -> None:
        """Add up the weights, float64 [edges]. Raises `ValueError` for a weight that is not above 0."""
        if not (graph.weights > 0).all():
            raise ValueError("a weight is not above 0, so its edge could never be drawn; leave it out")
        self._graph = graph
        self._sums = np.cumsum(graph.weights, dtype=np.float64)

    def sample(self, nodes: Ints, count: int, seed: int) -> tuple[Ints, Ints]:
        """Draw `count` neighbours of each of `nodes` [n].

        Returns the position in `nodes` and the neighbour of each draw, both int64 [draws]. A node without neighbours
        has no draw. The draws of a node depend on `seed` and the node alone, not on the other nodes.
        """
        nodes = np.asarray(nodes, np.int64)
        has = np.flatnonzero(self._graph.degrees[nodes] > 0)
        drawn = np.empty((len(has), count), np.int64)
        states = initial_states(seed, nodes[has])
        _draw(self._graph.indptr, self._graph.indices, self._sums, nodes[has], states, drawn)
        return np.repeat(has, count), drawn.ravel()


@compiled
def _draw(indptr: Any, indices: Any, sums: Any, nodes: Any, states: Any, drawn: Any) -> None:
    for row in range(len(nodes)):
        begin, end = indptr[nodes[row]], indptr[nodes[row] + 1]
        before = sums[begin - 1] if begin else 0.0
        state = states[row]
        for place in range(drawn.shape[1]):
            state += GOLDEN_GAMMA
            target = before + uniform(state) * (sums[end - 1] - before)
            edge = begin + np.searchsorted(sums[begin:end], target, side="right")
            drawn[row, place] = indices[min(edge, end - 1)]
