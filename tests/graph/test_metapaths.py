"""Tests of projections against a dense NumPy implementation."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from raylevance.graph.csr import Csr
from raylevance.graph.metapaths import Marginals, PpmiSettings, direct_ppmi, project, row_blocks, strongest_edges

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


def top_of_rows(values: Matrix, top: int, weights: Matrix | None = None) -> Matrix:
    """Keep the highest values of each row, of equal ones those of the highest weight, then the smaller column."""
    kept, weights = np.zeros_like(values), np.zeros_like(values) if weights is None else weights
    for row, weight, out in zip(values, weights, kept, strict=True):
        best = sorted(np.flatnonzero(row > 0), key=lambda column: (-row[column], -weight[column], column))[:top]
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
    expected = top_of_rows(own_ppmi(matrix, 1.0), 3, matrix)
    assert dense(direct_ppmi(graph, PpmiSettings(top=3))) == pytest.approx(expected, rel=1e-6)


def own_ppmi(matrix: Matrix, shift: float) -> Matrix:
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(matrix * matrix.sum() / np.outer(matrix.sum(1), matrix.sum(0))) - np.log(shift)
    ppmi: Matrix = np.where(matrix > 0, np.maximum(pmi, 0), 0).round(12)
    return ppmi


@given(
    arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.sampled_from([0, 0, 1, 2, 4])),
    st.integers(1, 4),
    st.sampled_from([1.0, 1.7]),
)
@settings(max_examples=200, deadline=None)
def test_the_strongest_edges_of_every_row(matrix: Matrix, most: int, shift: float) -> None:
    """Every edge counts, also one that is no more frequent than by chance; ties go to the highest weight."""
    rows, columns = np.nonzero(matrix)
    found = strongest_edges(Csr.from_edges(rows, columns, matrix[rows, columns], matrix.shape), most, shift)
    ppmi = own_ppmi(matrix, shift)
    for row in range(len(matrix)):
        edges = sorted(
            np.flatnonzero(matrix[row]), key=lambda column: (-ppmi[row, column].round(6), -matrix[row, column], column)
        )
        indices, values = found.row(row)
        assert indices.tolist() == sorted(edges[:most])
        assert values == pytest.approx(ppmi[row, indices], abs=1e-6)


def test_a_query_keeps_its_most_clicked_product_of_equal_ppmi() -> None:
    """60 products that nobody else chose have the same PPMI; the last one has the most clicks."""
    clicks = np.ones(60)
    clicks[59] = 9
    edges = Csr.from_edges(np.array([*np.zeros(60, int), 1]), np.arange(61), np.append(clicks, 1), (2, 61))
    kept, _ = direct_ppmi(edges, PpmiSettings(top=50)).row(0)
    assert len(kept) == 50 and kept[-1] == 59


def test_blocks_are_bounded_by_their_work(graph: Csr) -> None:
    other = graph.transposed()
    products = np.bincount(graph.edge_rows(), other.degrees[graph.indices], graph.rows)
    blocks = row_blocks(graph, other, work=40)
    assert blocks[0] == 0 and blocks[-1] == graph.rows
    for first, end in itertools.pairwise(blocks):
        assert end - first == 1 or products[first:end].sum() <= 40 + products.max()
