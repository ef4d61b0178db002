"""Tests of projections against a dense NumPy implementation."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from raylevance.graph.csr import Csr
from raylevance.graph.metapaths import Marginals, PpmiSettings, direct_ppmi, project, row_blocks

Matrix = npt.NDArray[np.float64]


@pytest.fixture
def graph() -> Csr:
    """Return a graph with many equal weights, so that there are ties, and one empty row and column."""
    random = np.random.default_rng(0)
    matrix = (random.random((25, 15)) < 0.25) * random.choice([1.0, 1.0, 2.5], (25, 15))
    matrix[3] = matrix[:, 5] = 0
    rows, columns = np.nonzero(matrix)
    return Csr.from_edges(rows, columns, matrix[rows, columns], matrix.shape)


def dense(graph: Csr) -> Matrix:
    matrix = np.zeros((graph.rows, graph.columns))
    matrix[graph.edge_rows() - graph.first, graph.indices] = graph.weights
    return matrix


def top_of_rows(values: Matrix, top: int) -> Matrix:
    kept = np.zeros_like(values)
    for row, out in zip(values, kept, strict=True):
        best = sorted(np.flatnonzero(row > 0), key=lambda column: (-row[column], column))[:top]
        out[best] = row[best]
    return kept


def dense_ppmi(matrix: Matrix, settings: PpmiSettings) -> Matrix:
    product = matrix @ matrix.T
    np.fill_diagonal(product, 0)
    shared = (matrix > 0).astype(int) @ (matrix > 0).T
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(product * product.sum() / np.outer(product.sum(1), product.sum(0)))
    ppmi = np.where(product > 0, np.maximum(0, pmi - np.log(settings.shift)), 0)
    ppmi[shared < settings.minimum_support] = 0
    return top_of_rows(ppmi.round(12), settings.top)


@pytest.mark.parametrize("settings", [PpmiSettings(), PpmiSettings(minimum_support=1, top=4), PpmiSettings(shift=1.3)])
@pytest.mark.parametrize("side", ["rows", "columns"])
def test_ppmi_of_a_projection(graph: Csr, settings: PpmiSettings, side: str) -> None:
    one, other = (graph, graph.transposed()) if side == "rows" else (graph.transposed(), graph)
    marginals = Marginals.of_projection(one)
    blocks = row_blocks(one, other, work=40)
    parts = [project(one, other, marginals, settings, *map(int, cut)) for cut in itertools.pairwise(blocks)]
    assert len(parts) > 3
    assert dense(Csr.concatenate(parts)) == pytest.approx(dense_ppmi(dense(one), settings), rel=1e-6)


def test_ppmi_of_the_edges_themselves(graph: Csr) -> None:
    matrix = dense(graph)
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(matrix * matrix.sum() / np.outer(matrix.sum(1), matrix.sum(0)))
    expected = top_of_rows(np.where(matrix > 0, np.maximum(pmi, 0), 0).round(12), 3)
    assert dense(direct_ppmi(graph, PpmiSettings(top=3))) == pytest.approx(expected, rel=1e-6)


def test_blocks_are_bounded_by_their_work(graph: Csr) -> None:
    other = graph.transposed()
    products = np.bincount(graph.edge_rows(), other.degrees[graph.indices], graph.rows)
    blocks = row_blocks(graph, other, work=40)
    assert blocks[0] == 0 and blocks[-1] == graph.rows
    for first, end in itertools.pairwise(blocks):
        assert end - first == 1 or products[first:end].sum() <= 40 + products.max()
