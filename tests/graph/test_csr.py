"""Tests of compressed sparse rows: shards are read as they were saved, and damaged files are refused."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from raylevance.errors import RaylevanceError
from raylevance.graph.csr import Csr


@pytest.fixture
def graph() -> Csr:
    random = np.random.default_rng(0)
    return Csr.from_edges(random.integers(0, 20, 60), random.integers(0, 7, 60), random.random(60), (20, 7))


def dense(graph: Csr) -> list[list[tuple[int, float]]]:
    rows = (graph.row(node) for node in range(graph.first, graph.first + graph.rows))
    return [list(zip(indices.tolist(), weights.tolist(), strict=True)) for indices, weights in rows]


@pytest.mark.parametrize("cuts", [[0, 20], [0, 1, 1, 13, 20]])
def test_shards_hold_the_graph(tmp_path: Path, graph: Csr, cuts: list[int]) -> None:
    for first, end in itertools.pairwise(cuts):
        if end > first:
            graph.select_rows(first, end).save(tmp_path / f"{first}.arrow")
    loaded = Csr.load(tmp_path)
    assert dense(loaded) == dense(graph)
    assert (loaded.rows, loaded.columns) == (20, 7)


def test_transposing_twice_changes_nothing(graph: Csr) -> None:
    assert dense(graph.transposed().transposed()) == dense(graph)
    assert [node for node, row in enumerate(dense(graph)) for index, _ in row if index == 3] == [
        node for node, _ in dense(graph.transposed())[3]
    ]


def test_a_mapped_shard_copies_nothing(tmp_path: Path, graph: Csr) -> None:
    graph.save(tmp_path / "a.arrow")
    shard = Csr.map(tmp_path / "a.arrow")
    assert not any(array.flags.owndata or array.flags.writeable for array in (shard.indptr, shard.indices))


def test_missing_and_damaged_shards_are_refused(tmp_path: Path, graph: Csr) -> None:
    with pytest.raises(RaylevanceError, match="shards of the graph are missing"):
        Csr.load(tmp_path)
    graph.select_rows(5, 20).save(tmp_path / "b.arrow")
    with pytest.raises(RaylevanceError, match="shards of the graph are missing"):
        Csr.load(tmp_path)
    file = tmp_path / "a.arrow"
    graph.select_rows(0, 5).save(file)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(RaylevanceError, match=r"a\.arrow: not a shard of a graph"):
        Csr.load(tmp_path)
