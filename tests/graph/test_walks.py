"""Tests of walks against the exact second-order probabilities, by a chi-square test on small graphs."""

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError
from scipy import stats

from raylevance.errors import RaylevanceError
from raylevance.graph.alias import AliasTable
from raylevance.graph.csr import Csr
from raylevance.graph.sharded_walks import walk_shards
from raylevance.graph.walks import END, WalkSettings, walk

QUERIES = 4
"""Number of nodes that are queries in graphs with two node types. The nodes after them are items."""

Matrix = npt.NDArray[np.float64]


def graph_of(matrix: Matrix) -> Csr:
    rows, columns = np.nonzero(matrix)
    return Csr.from_edges(rows, columns, matrix[rows, columns], matrix.shape)


def random_graph(nodes: int, density: float, seed: int) -> Matrix:
    """Return symmetric weights, except for an isolated node and a last node with no edge but the one to it."""
    random = np.random.default_rng(seed)
    upper = np.triu(random.random((nodes, nodes)) < density, 1) * random.uniform(0.2, 3.0, (nodes, nodes))
    matrix: Matrix = upper + upper.T
    matrix[-2:] = matrix[:, -2:] = 0
    matrix[0, -1] = 1.5
    return matrix


def exact(matrix: Matrix, p: float, q: float, before: int, node: int, allowed: Matrix) -> Matrix:
    """Return the probability of each node after `before` and `node`. In the first step, `before` is -1."""
    weights = matrix[node] * allowed
    if before >= 0:
        alpha = np.where(matrix[before] > 0, 1.0, 1 / q)
        alpha[before] = 1 / p
        weights = weights * alpha
    total: Matrix = weights / weights.sum() if weights.sum() else weights
    return total


def assert_exact(walks: npt.NDArray[np.int32], matrix: Matrix, settings: WalkSettings, kinds: Matrix) -> None:
    """Assert that walks go on with the exact probabilities after every pair of nodes visited often enough."""
    tested = 0
    for step in range(settings.length):
        path = settings.meta_path
        allowed = kinds == path[(step + 1) % len(path)] if path else np.ones(len(matrix))
        before = walks[:, step - 1] if step else np.full(len(walks), -1)
        for came, node in itertools.product(range(-1, len(matrix)), range(len(matrix))):
            after = walks[(before == came) & (walks[:, step] == node), step + 1]
            expected = exact(matrix, settings.p, settings.q, came, node, allowed)
            if expected.sum() == 0:
                assert (after == END).all()
                continue
            assert (after != END).all()
            if len(after) * expected[expected > 0].min() < 5 or (expected > 0).sum() < 2:
                continue
            counts = np.bincount(after, minlength=len(matrix))
            assert counts[expected == 0].sum() == 0
            assert stats.chisquare(counts[expected > 0], len(after) * expected[expected > 0]).pvalue > 1e-6
            tested += 1
    assert tested > 5


@pytest.mark.parametrize(("p", "q"), [(1.0, 1.0), (0.5, 2.0), (4.0, 0.25), (0.25, 0.5), (3.0, 4.0)])
def test_steps_follow_the_exact_probabilities(p: float, q: float) -> None:
    matrix = random_graph(9, 0.5, seed=1)
    settings = WalkSettings(length=4, walks_per_node=20_000, p=p, q=q)
    walks = walk(AliasTable.build(graph_of(matrix)), np.arange(9), settings, seed=0)
    assert (walks[:, 0] == np.repeat(np.arange(9), 20_000)).all()
    assert_exact(walks, matrix, settings, np.zeros(9))


@pytest.mark.parametrize("meta_path", [(0, 1), (0, 1, 1), (0, 0, 1)])
def test_walks_follow_a_meta_path(meta_path: tuple[int, ...]) -> None:
    matrix = random_graph(12, 0.7, seed=2)
    settings = WalkSettings(length=4, walks_per_node=20_000, p=0.5, q=2.0, meta_path=meta_path)
    table = AliasTable.build(graph_of(matrix), (0, QUERIES))
    walks = walk(table, np.arange(QUERIES), settings, seed=0)
    assert_exact(walks, matrix, settings, (np.arange(12) >= QUERIES).astype(float))


def test_a_walk_does_not_depend_on_other_walks() -> None:
    table = AliasTable.build(graph_of(random_graph(30, 0.3, seed=3)))
    settings = WalkSettings(length=6, walks_per_node=5, p=0.5, q=2.0)
    together = walk(table, np.arange(30), settings, seed=1).reshape(30, 5, -1)
    few = walk(table, np.array([17, 3]), settings, seed=1, threads=2).reshape(2, 5, -1)
    assert (few == together[[17, 3]]).all()
    assert (walk(table, np.arange(30), settings, seed=2).reshape(30, 5, -1) != together).any()


@pytest.mark.ray
@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("q", [0.5, 2.0])
def test_sharded_walks_equal_those_of_the_whole_graph(tmp_path: Path, ray_cluster: None, shards: int, q: float) -> None:
    graph = graph_of(random_graph(40, 0.2, seed=4))
    settings = WalkSettings(length=6, walks_per_node=20, p=0.5, q=q, meta_path=(0, 1, 1))
    cuts = np.linspace(0, 40, shards + 1).astype(int)
    files = [tmp_path / f"{first}.arrow" for first in cuts[:-1]]
    for file, first, end in zip(files, cuts[:-1], cuts[1:], strict=True):
        graph.select_rows(first, end).save(file)
    starts = np.array([5, 0, 12, 39, 7])
    whole = walk(AliasTable.build(graph, (0, 20)), starts, settings, seed=3)
    assert (walk_shards(files, starts, settings, seed=3, type_starts=(0, 20)) == whole).all()
    assert (whole[:, 2] != END).any()


@pytest.mark.ray
def test_errors_name_a_shard_that_is_out_of_order(tmp_path: Path, ray_cluster: None) -> None:
    graph = graph_of(random_graph(10, 0.5, seed=4))
    files = [tmp_path / "0.arrow", tmp_path / "5.arrow"]
    for file, first in zip(files, (0, 5), strict=True):
        graph.select_rows(first, first + 5).save(file)
    with pytest.raises(RaylevanceError, match=r"5\.arrow: begins at node 5, but the shard before it ends at 0"):
        walk_shards(files[::-1], np.array([1]), WalkSettings(), seed=0)
    assert walk_shards(files, np.array([], np.int64), WalkSettings(), seed=0).shape == (0, 9)


@pytest.mark.parametrize(("types", "meta_path"), [((0,), (0, 1)), ((0, 5), ()), ((0, 5), (0, 2))])
def test_types_and_a_meta_path_go_together(types: tuple[int, ...], meta_path: tuple[int, ...]) -> None:
    table = AliasTable.build(graph_of(random_graph(10, 0.5, seed=4)), types)
    with pytest.raises(ValueError, match="meta_path="):
        walk(table, np.arange(10), WalkSettings(meta_path=meta_path), seed=0)


@pytest.mark.parametrize(("setting", "value"), [("p", 0), ("q", -1), ("length", 0), ("walks_per_node", 0)])
def test_settings_that_cannot_walk_are_refused(setting: str, value: float) -> None:
    with pytest.raises(ValidationError, match=setting):
        WalkSettings.model_validate({setting: value})
