"""Label graphs equal dense loops in float64, in any order and any blocks, and the normalisation equals PyG's own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import ray.data
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix

from raylevance.errors import RaylevanceError
from raylevance.graph import label_graphs
from raylevance.graph.label_graphs import (
    CELLS,
    cooccurrence_graph,
    fuse_graphs,
    hierarchy_graph,
    normalise,
    semantic_graph,
)

Dense = npt.NDArray[np.float64]


def lists(count: int, labels: int, seed: int) -> list[list[int] | None]:
    """Lists of labels, some empty or null, some with a label twice."""
    random = np.random.default_rng(seed)
    drawn: list[list[int] | None] = [
        random.zipf(1.2, random.integers(0, 6)).clip(1, labels).astype(int).tolist() for _ in range(count)
    ]
    return [None if n % 17 == 0 else [label - 1 for label in row or []] for n, row in enumerate(drawn)]


def dense_cooccurrence(rows: Sequence[list[int] | None], first: int, stop: int, alpha: float) -> Dense:
    size = stop - first
    together, alone = np.zeros((size, size)), np.zeros(size)
    for row in rows:
        mine = sorted({label - first for label in row or [] if first <= label < stop})
        for i in mine:
            alone[i] += 1
            for j in mine:
                together[i, j] += i != j
    graph = np.array([[together[i, j] / alone[i] if alone[i] else 0.0 for j in range(size)] for i in range(size)])
    graph[graph < alpha] = 0
    return graph


def dataset(rows: Sequence[list[int] | None], blocks: int) -> ray.data.Dataset:
    table = pa.table({"labels": pa.array(rows, pa.list_(pa.int32())), "other": np.arange(len(rows))})
    return ray.data.from_arrow(table).repartition(blocks)


@pytest.mark.ray
@pytest.mark.parametrize(("first", "stop", "alpha"), [(0, 12, 0.0), (2, 9, 0.1), (3, 12, 0.1)])
def test_cooccurrence_equals_counting(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch, first: int, stop: int, alpha: float
) -> None:
    monkeypatch.setattr(label_graphs, "CELLS_BEFORE_SUM", 10)
    rows = lists(300, 12, seed=first)
    expected = dense_cooccurrence(rows, first, stop, alpha)
    assert (expected > 0).sum() > 5
    assert not np.array_equal(expected, expected.T)
    graph = cooccurrence_graph(dataset(rows, 1), slice(first, stop), alpha)
    assert graph.dtype == np.float64
    np.testing.assert_array_equal(graph.toarray(), expected)
    shuffled = [rows[n] for n in np.random.default_rng(1).permutation(len(rows))]
    again = cooccurrence_graph(dataset(shuffled, 7), slice(first, stop), alpha)
    np.testing.assert_array_equal(again.toarray(), expected)


@pytest.mark.ray
def test_a_cell_at_alpha_is_kept_and_labels_without_rows_have_no_edge(ray_cluster: None) -> None:
    rows: list[list[int] | None] = [[0, 1], *([0] for _ in range(9))]
    graph = cooccurrence_graph(dataset(rows, 2), slice(0, 3), alpha=0.1)
    np.testing.assert_array_equal(graph.toarray(), [[0, 0.1, 0], [1, 0, 0], [0, 0, 0]])
    empty = cooccurrence_graph(dataset([None, []], 1), slice(0, 3))
    assert empty.nnz == 0


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 7), max_size=5), max_size=30), st.integers(1, 5))
def test_counts_add_up_over_any_split(rows: list[list[int]], parts: int) -> None:
    def cells(part: Sequence[list[int]]) -> pa.Table:
        table = pa.table({"labels": pa.array(part, pa.list_(pa.int32()))})
        return label_graphs._count_block(table, slice(1, 8))

    whole = label_graphs._summed([cells(rows)], 7).toarray()
    split = label_graphs._summed([cells(rows[part::parts]) for part in range(parts)], 7).toarray()
    assert cells(rows).schema == CELLS
    np.testing.assert_array_equal(split, whole)
    np.testing.assert_array_equal(whole, np.triu(whole))


def dense_semantic(vectors: Dense, beta: float, most: int) -> Dense:
    graph = np.zeros((len(vectors), len(vectors)))
    for i, vector in enumerate(vectors):
        cosines = [(-float(vector @ other), j) for j, other in enumerate(vectors) if j != i]
        for cosine, j in sorted(cosines)[:most]:
            if -cosine >= beta and cosine < 0:
                graph[i, j] = -cosine
    return graph


@settings(deadline=None)
@given(
    # Whole numbers are exact, so that equal cosines are equal for every size of block.
    arrays(np.float64, st.tuples(st.integers(1, 25), st.just(3)), elements=st.integers(-2, 2)),
    st.sampled_from([-1.0, 0.0, 1.0, 3.0]),
    st.integers(1, 6),
    st.integers(1, 30),
)
def test_semantic_equals_sorting(vectors: Dense, beta: float, most: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_graphs, "LABELS_AT_ONCE", block)
        graph = semantic_graph(vectors, beta, most)
    np.testing.assert_array_equal(graph.toarray(), dense_semantic(vectors, beta, most))


def test_semantic_of_unit_vectors_in_single_precision() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(50, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    graph = semantic_graph(vectors.astype(np.float32), beta=0.4, most=3)
    np.testing.assert_allclose(graph.toarray(), dense_semantic(vectors, 0.4, 3), atol=1e-6)
    assert np.diff(graph.indptr).max() == 3
    vectors[7, 2] = np.nan
    with pytest.raises(RaylevanceError, match="the vector of label 7 is not finite"):
        semantic_graph(vectors)


def test_hierarchy_by_hand() -> None:
    """0 is above 1, 2 and 3; 3 is above 4; 5 is alone; 6 is above 7 and 8 without samples."""
    graph = hierarchy_graph(np.array([-1, 0, 0, 0, 3, -1, -1, 6, 6]), np.array([9, 1, 2, 3, 4, 5, 0, 0, 0])).toarray()
    expected = np.zeros((9, 9))
    expected[0, [1, 2, 3]] = [1 / 3, 1 / 3, 7 / 10]  # 1, 2 and 3 + 4 of 10 samples
    expected[3, 4] = 1
    expected[6, [7, 8]] = 1 / 2
    expected[[1, 2, 3, 4, 7, 8], [0, 0, 0, 3, 6, 6]] = 1
    np.testing.assert_allclose(graph.T, expected, rtol=1e-15)  # a column hears: the child's row has the parent


TREES = st.lists(st.integers(0, 5), max_size=20).map(
    lambda choices: np.array([n - 1 - choice if choice < n else -1 for n, choice in enumerate(choices)], np.int64)
)


@settings(deadline=None)
@given(TREES, st.data())
def test_hierarchy_equals_a_loop_in_any_order(parents: npt.NDArray[np.int64], data: Any) -> None:
    size = len(parents)
    samples = np.array(data.draw(st.lists(st.integers(0, 9), min_size=size, max_size=size)), np.int64)
    order = np.array(data.draw(st.permutations(range(size))), np.int64)

    def below(label: int) -> int:
        return int(samples[label]) + sum(below(child) for child in np.flatnonzero(parents == label))

    expected = np.zeros((size, size))
    for parent in range(size):
        children = np.flatnonzero(parents == parent)
        total = sum(map(below, children))
        for child in children:
            expected[parent, child] = max(1 / len(children), below(child) / total if total else 0)
            expected[child, parent] = 1
    place = np.argsort(order)
    moved = np.append(place, -1)[parents[order]] if size else parents
    graph = hierarchy_graph(moved, samples[order])
    np.testing.assert_allclose(graph.toarray().T, expected[np.ix_(order, order)], rtol=1e-15)


CELLS_OF = arrays(np.float64, (5, 5), elements=st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0]))


@settings(deadline=None)
@given(CELLS_OF, CELLS_OF, CELLS_OF)
def test_fusion_equals_dense_arithmetic(together: Dense, alike: Dense, tree: Dense) -> None:
    a, b, h = csr_matrix(together), csr_matrix(alike), csr_matrix(tree)
    mean = (together + alike) / 2
    np.testing.assert_array_equal(fuse_graphs(a, b, h).toarray(), np.where(tree != 0, tree, mean))
    np.testing.assert_allclose(fuse_graphs(a, b, h, "average").toarray(), (together + alike + tree) / 3, rtol=1e-15)
    np.testing.assert_array_equal(fuse_graphs(a, None, h).toarray(), np.where(tree != 0, tree, together))
    np.testing.assert_array_equal(fuse_graphs(None, b, h).toarray(), np.where(tree != 0, tree, alike))
    np.testing.assert_array_equal(fuse_graphs(a, b, None).toarray(), mean)
    np.testing.assert_array_equal(fuse_graphs(None, None, h).toarray(), tree)
    np.testing.assert_array_equal(a.toarray(), together)


def test_a_stored_zero_of_the_tree_overwrites_nothing() -> None:
    tree = csr_matrix((np.zeros(1), ([0], [1])), (2, 2))
    np.testing.assert_array_equal(fuse_graphs(csr_matrix(np.ones((2, 2))), None, tree).toarray(), np.ones((2, 2)))


def test_no_graph_at_all() -> None:
    with pytest.raises(RaylevanceError, match="no label graph to fuse"):
        fuse_graphs(None, None, None)


@settings(deadline=None)
@given(
    arrays(
        np.float64, st.integers(0, 8).map(lambda n: (n, n)), elements=st.sampled_from([0.0, 0.0, 0.1, 0.5, 1.0, 3.0])
    )
)
def test_normalisation_equals_dense_arithmetic(graph: Dense) -> None:
    size = len(graph)
    whole = graph - np.diag(np.diag(graph)) + np.eye(size)
    degree = whole.sum(axis=1)
    expected = np.array([[whole[i, j] / np.sqrt(degree[i] * degree[j]) for j in range(size)] for i in range(size)])
    np.testing.assert_allclose(normalise(csr_matrix(graph)).toarray(), expected.reshape(size, size), rtol=1e-14)


def test_one_edge_in_one_direction() -> None:
    """Label 0 hears label 1: row 0 has two entries that sum to 3 before normalisation, row 1 only itself."""
    graph = normalise(csr_matrix(np.array([[5.0, 2.0], [0.0, 0.0]])))
    np.testing.assert_allclose(graph.toarray(), [[1 / 3, 2 / np.sqrt(3)], [0, 1]], rtol=1e-15)


@pytest.mark.parametrize("weight", [-0.1, np.nan, np.inf])
def test_weights_that_have_no_root(weight: float) -> None:
    with pytest.raises(RaylevanceError, match="negative or not finite"):
        normalise(csr_matrix(np.array([[0.0, weight], [1.0, 0.0]])))


def test_normalisation_equals_that_of_pyg() -> None:
    """PyG sums over the edges that end in a node: row 0 of edge_index is the column j, row 1 the row i."""
    torch = pytest.importorskip("torch")
    conv = pytest.importorskip("torch_geometric.nn.conv.gcn_conv")
    random = np.random.default_rng(0)
    dense = random.random((12, 12)) * (random.random((12, 12)) < 0.3)
    np.fill_diagonal(dense, 0)
    graph = csr_matrix(dense).tocoo()
    index, weight = conv.gcn_norm(
        torch.tensor(np.stack([graph.col, graph.row]).astype(np.int64)), torch.tensor(graph.data), num_nodes=12
    )
    theirs = np.zeros((12, 12))
    theirs[index[1].numpy(), index[0].numpy()] = weight.numpy()
    ours = normalise(csr_matrix(dense))
    np.testing.assert_allclose(ours.toarray(), theirs, rtol=1e-12)
    features = random.random((12, 3))
    layer = conv.GCNConv(3, 3, bias=False, normalize=False).double()
    with torch.no_grad():
        layer.lin.weight.copy_(torch.eye(3))
        edges = ours.tocoo()
        heard = layer(
            torch.tensor(features),
            torch.tensor(np.stack([edges.col, edges.row]).astype(np.int64)),
            torch.tensor(edges.data),
        )
    np.testing.assert_allclose(heard.numpy(), ours @ features, rtol=1e-12)
