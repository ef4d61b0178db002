"""Meta-path projections of the behaviour graph: nodes of one kind joined by the neighbours they share.

The weight of a joined pair is its positive pointwise mutual information (PPMI). With A the weights between the two
kinds of nodes and M = A A^T without its diagonal,

    PMI(u, v) = log( M_uv * M.. / (M_u. * M_.v) ),    PPMI = max(0, PMI - log k)

where a dot means the sum over that index. Rows are computed one at a time, so M is never in memory as a whole.

Source: the idea is from CIKM 2022 (DOI 10.1145/3511808.3557143), component A; the formula is our reading.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import PositiveFloat, PositiveInt

from raylevance.config import Settings
from raylevance.graph.compiled import compiled
from raylevance.graph.csr import Csr, Ints, Nodes, Weights

Floats = npt.NDArray[np.float64]


class PpmiSettings(Settings):
    """Which edges of a PPMI graph are kept."""

    shift: PositiveFloat = 1.0
    """The k in PPMI = max(0, PMI - log k). Above 1, only pairs with a stronger association get an edge."""
    minimum_support: PositiveInt = 2
    """Number of neighbours that two nodes must share to get an edge. PMI alone overrates rare nodes."""
    top: PositiveInt = 50
    """Number of edges a node keeps, those of the highest PPMI. Of equal ones, a projection keeps those to the smaller
    node numbers, and the graph of queries and items those of the highest click weight."""


@dataclass(frozen=True)
class Marginals:
    """The row sums `M_u.` of a projection, float64 [n], and their total `M..`."""

    row_sums: Floats
    total: float

    @classmethod
    def of_projection(cls, graph: Csr) -> "Marginals":
        """Compute the row sums of A A^T without its diagonal from A, which is `graph`."""
        weights = graph.weights.astype(np.float64)
        columns = np.bincount(graph.indices, weights, graph.columns)
        rows = np.bincount(graph.edge_rows(), weights * (columns[graph.indices] - weights), graph.rows)
        return cls(rows.astype(np.float64), float(rows.sum()))


def project(graph: Csr, transposed: Csr, marginals: Marginals, settings: PpmiSettings, first: int, end: int) -> Csr:
    """Return the rows `first` to `end` (exclusive) of the PPMI graph between the rows of `graph`.

    `graph` (A) is a whole graph, `transposed` is A^T, and `marginals` are those of the projection. Memory use is one
    dense row and the rows returned.
    """
    out = _ProjectedRows(
        counts=np.zeros(end - first, np.int64),
        indices=np.empty((end - first) * settings.top, np.int32),
        weights=np.empty((end - first) * settings.top, np.float32),
    )
    edges = _project(
        _Matrix(graph.indptr, graph.indices, graph.weights),
        _Matrix(transposed.indptr, transposed.indices, transposed.weights),
        marginals.row_sums,
        marginals.total,
        _Limits(math.log(settings.shift), settings.minimum_support, settings.top),
        first,
        out,
    )
    indptr = np.concatenate([[0], np.cumsum(out.counts)])
    return Csr(indptr, out.indices[:edges].copy(), out.weights[:edges].copy(), graph.rows, first)


def direct_ppmi(graph: Csr, settings: PpmiSettings) -> Csr:
    """Return the PPMI of the edges of `graph` themselves, such as those between queries and items.

    A row keeps its `settings.top` best edges with a PPMI above 0; of equal ones, those of the highest weight in
    `graph`. `settings.minimum_support` is not used, because the edges have passed a minimum of their own.
    """
    edges = strongest_edges(graph, settings.top, settings.shift)
    positive = np.flatnonzero(edges.weights > 0)
    shape = (graph.rows, graph.columns)
    return Csr.from_edges(edges.edge_rows()[positive], edges.indices[positive], edges.weights[positive], shape)


def strongest_edges(graph: Csr, most: int, shift: float = 1.0) -> Csr:
    """Return the `most` edges of each row of `graph` that have the highest PPMI, weighted by it.

    Of edges whose PPMI is equal in float32, those of the highest weight in `graph` come first, then those to the
    smaller number. Unlike `direct_ppmi`, it keeps edges with a PPMI of 0, so a row with an edge never ends up empty.
    """
    weights = graph.weights.astype(np.float64)
    rows = graph.edge_rows()
    row_sums = np.bincount(rows, weights, graph.rows)
    column_sums = np.bincount(graph.indices, weights, graph.columns)
    with np.errstate(divide="ignore"):
        pmi = np.log(weights * weights.sum() / (row_sums[rows] * column_sums[graph.indices])) - math.log(shift)
    ppmi = np.maximum(pmi, 0).astype(np.float32)
    kept = rank_in_row(rows, graph.indices, ppmi, graph.weights) < most
    return Csr.from_edges(rows[kept], graph.indices[kept], ppmi[kept], (graph.rows, graph.columns))


def row_blocks(graph: Csr, transposed: Csr, work: int) -> Ints:
    """Return where to cut the rows of `graph` so that projecting each block takes about `work` multiplications.

    The result is int64, from 0 to the number of rows.
    """
    products = np.bincount(graph.edge_rows(), transposed.degrees[graph.indices], graph.rows)
    block = np.cumsum(products) // work
    return np.concatenate([[0], np.flatnonzero(np.diff(block)) + 1, [graph.rows]]).astype(np.int64)


def rank_in_row(rows: Nodes, indices: Nodes, *values: Weights) -> Ints:
    """Return the rank of each edge within its row, int64 [edges]. Rank 0 is the highest of the first of `values`.

    `rows`, `indices` and each of `values` are [edges]. Edges that are equal in one of the values are ranked by the next
    one, and in the end by the smaller index.
    """
    order = np.lexsort((indices, *(-value for value in reversed(values)), rows))
    starts = np.searchsorted(rows[order], rows[order])
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows)) - starts
    return rank


class _Matrix(NamedTuple):
    indptr: Any
    indices: Any
    weights: Any


class _Limits(NamedTuple):
    log_shift: float
    minimum_support: int
    top: int


class _ProjectedRows(NamedTuple):
    """The number of edges of each row, and the edges of all rows one after another."""

    counts: Any
    indices: Any
    weights: Any


@compiled
def _project(graph: Any, transposed: Any, marginal: Any, total: Any, limits: Any, first: Any, out: Any) -> Any:
    nodes = len(marginal)
    mass, shared, touched = np.zeros(nodes), np.zeros(nodes, np.int32), np.empty(nodes, np.int32)
    candidates, values = np.empty(nodes, np.int32), np.empty(nodes)
    edges = 0
    for row in range(len(out.counts)):
        node, touched_count, candidate_count = first + row, 0, 0
        for edge in range(graph.indptr[node], graph.indptr[node + 1]):
            middle, weight = graph.indices[edge], np.float64(graph.weights[edge])
            for back in range(transposed.indptr[middle], transposed.indptr[middle + 1]):
                other = transposed.indices[back]
                if shared[other] == 0:
                    touched[touched_count] = other
                    touched_count += 1
                shared[other] += 1
                mass[other] += weight * transposed.weights[back]
        for index in range(touched_count):
            other = touched[index]
            if other != node and shared[other] >= limits.minimum_support:
                value = math.log(mass[other] * total / (marginal[node] * marginal[other])) - limits.log_shift
                if value > 0:
                    candidates[candidate_count], values[candidate_count] = other, value
                    candidate_count += 1
            mass[other], shared[other] = 0.0, 0
        out.counts[row] = write_top(
            candidates[:candidate_count], values[:candidate_count], limits.top, out.indices[edges:], out.weights[edges:]
        )
        edges += out.counts[row]
    return edges


@compiled
def write_top(candidates: Any, values: Any, top: Any, out_indices: Any, out_weights: Any) -> Any:
    """Write the `top` candidates of the highest values by ascending id. Return how many were written."""
    bar, ties = 0.0, 0
    if len(values) > top:
        bar = np.partition(values, len(values) - top)[len(values) - top]
        ties = top - (values > bar).sum()
    written = 0
    for index in np.argsort(candidates):
        at_bar = values[index] == bar
        if values[index] > bar or (at_bar and ties > 0):
            out_indices[written], out_weights[written] = candidates[index], values[index]
            written += 1
            ties -= at_bar
    return written
