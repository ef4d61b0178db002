"""Meta-path projections of the behaviour graph: which nodes of one kind share neighbours of the other, by PPMI.

The pair of ideas is Alimama's (Zeng et al., CIKM 2022, "Graph-based weakly supervised semantic relevance", component
A); the formula is our reading: with A the weights between the two kinds, M = A A^T and no diagonal,

    PMI(u, v) = log( M_uv * M.. / (M_u. * M_.v) ),    PPMI = max(0, PMI - log k)

A dot sums over an index. Rows are made one at a time from their neighbours' neighbours: M is never held, and neither
is more than one row of it.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import PositiveFloat, PositiveInt

from raylevance.config import Settings
from raylevance.graph.compiled import compiled
from raylevance.graph.csr import Csr, Ints, Nodes

Floats = npt.NDArray[np.float64]


class PpmiSettings(Settings):
    """`shift`: k; `minimum_support`: neighbours that two nodes must share (PMI rewards what is rare); `top`: the
    neighbours that a node keeps, the smaller id first among equals."""

    shift: PositiveFloat = 1.0
    minimum_support: PositiveInt = 2
    top: PositiveInt = 50


@dataclass(frozen=True)
class Marginals:
    """M_u. of every node, float64 [n], and their sum."""

    of: Floats
    total: float

    @classmethod
    def of_projection(cls, graph: Csr) -> "Marginals":
        """Of A A^T without its diagonal, from A alone."""
        weights = graph.weights.astype(np.float64)
        columns = np.bincount(graph.indices, weights, graph.columns)
        rows = np.bincount(graph.edge_rows(), weights * (columns[graph.indices] - weights), graph.rows)
        return cls(rows.astype(np.float64), float(rows.sum()))


def project(graph: Csr, transposed: Csr, marginals: Marginals, settings: PpmiSettings, first: int, end: int) -> Csr:
    """Rows `first` to `end` of the PPMI graph between the rows of `graph` (A), a whole one; `transposed` is A^T.

    Takes memory for one dense row and the rows asked for.
    """
    counts = np.zeros(end - first, np.int64)
    indices = np.empty((end - first) * settings.top, np.int32)
    weights = np.empty((end - first) * settings.top, np.float32)
    kept = _project(
        graph.indptr,
        graph.indices,
        graph.weights,
        transposed.indptr,
        transposed.indices,
        transposed.weights,
        marginals.of,
        marginals.total,
        math.log(settings.shift),
        settings.minimum_support,
        settings.top,
        first,
        counts,
        indices,
        weights,
    )
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return Csr(indptr, indices[:kept].copy(), weights[:kept].copy(), graph.rows, first)


def direct_ppmi(graph: Csr, settings: PpmiSettings) -> Csr:
    """PPMI of the edges of `graph` themselves: of a query with an item. Support is not asked for again."""
    weights = graph.weights.astype(np.float64)
    rows = graph.edge_rows()
    row_sums = np.bincount(rows, weights, graph.rows)
    column_sums = np.bincount(graph.indices, weights, graph.columns)
    with np.errstate(divide="ignore"):
        pmi = np.log(weights * weights.sum() / (row_sums[rows] * column_sums[graph.indices])) - math.log(settings.shift)
    kept = np.flatnonzero(pmi > 0)
    kept = kept[rank_in_row(rows[kept], pmi[kept], graph.indices[kept]) < settings.top]
    return Csr.from_edges(rows[kept], graph.indices[kept], pmi[kept], (graph.rows, graph.columns))


def row_blocks(graph: Csr, transposed: Csr, work: int) -> Ints:
    """Where to cut the rows of `graph`, so that the projection of each block makes about `work` products at most."""
    products = np.bincount(graph.edge_rows(), transposed.degrees[graph.indices], graph.rows)
    block = np.cumsum(products) // work
    return np.concatenate([[0], np.flatnonzero(np.diff(block)) + 1, [graph.rows]]).astype(np.int64)


def rank_in_row(rows: Nodes, values: Floats, indices: Nodes) -> Ints:
    """The place of each edge among those of its row, from the highest value, 0-based."""
    order = np.lexsort((indices, -values, rows))
    starts = np.searchsorted(rows[order], rows[order])
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows)) - starts
    return rank


@compiled
def _project(
    indptr: Any,
    indices: Any,
    weights: Any,
    t_indptr: Any,
    t_indices: Any,
    t_weights: Any,
    marginal: Any,
    total: Any,
    shift: Any,
    support: Any,
    top: Any,
    first: Any,
    counts: Any,
    out_indices: Any,
    out_weights: Any,
) -> Any:
    nodes = len(marginal)
    mass, shared, touched = np.zeros(nodes), np.zeros(nodes, np.int32), np.empty(nodes, np.int32)
    candidates, values = np.empty(nodes, np.int32), np.empty(nodes)
    kept = 0
    for place in range(len(counts)):
        node, many, found = first + place, 0, 0
        for edge in range(indptr[node], indptr[node + 1]):
            middle, weight = indices[edge], np.float64(weights[edge])
            for back in range(t_indptr[middle], t_indptr[middle + 1]):
                other = t_indices[back]
                if shared[other] == 0:
                    touched[many] = other
                    many += 1
                shared[other] += 1
                mass[other] += weight * t_weights[back]
        for index in range(many):
            other = touched[index]
            if other != node and shared[other] >= support:
                value = math.log(mass[other] * total / (marginal[node] * marginal[other])) - shift
                if value > 0:
                    candidates[found], values[found] = other, value
                    found += 1
            mass[other], shared[other] = 0.0, 0
        counts[place] = _keep(candidates[:found], values[:found], top, out_indices[kept:], out_weights[kept:])
        kept += counts[place]
    return kept


@compiled
def _keep(candidates: Any, values: Any, top: Any, out_indices: Any, out_weights: Any) -> Any:
    """Write the `top` best, by ascending id; how many they are."""
    bar, ties = 0.0, 0
    if len(values) > top:
        bar = np.partition(values, len(values) - top)[len(values) - top]
        ties = top - (values > bar).sum()
    kept = 0
    for place in np.argsort(candidates):
        at_bar = values[place] == bar
        if values[place] > bar or (at_bar and ties > 0):
            out_indices[kept], out_weights[kept] = candidates[place], values[place]
            kept += 1
            ties -= at_bar
    return kept
