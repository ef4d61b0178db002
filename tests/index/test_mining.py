"""Tests of hard pairs by rank and grade, and of the sharded search that finds their candidates."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
import ray

from raylevance.data.groups import ALL, Groups
from raylevance.errors import RaylevanceError
from raylevance.index import sharded_search
from raylevance.index.mining import (
    MiningSettings,
    candidate_table,
    choose_pairs_to_label,
    count_false_negatives,
    mine_hard_pairs,
    unjudged_pairs,
)
from raylevance.index.sharded_search import check_cluster_gpu, search_shards
from raylevance.index.vectors import IndexSettings, VectorIndex

SETTINGS = MiningSettings(k=4)
CANDIDATES = candidate_table(
    pa.array(["q1", "q2"]),
    pa.array(["a", "b", "c", "d", "e"]),
    np.array([[0.9, 0.8, 0.7, 0.6], [0.5, 0.4, 0.3, -np.inf]], np.float32),
    np.array([[4, 0, 1, 2], [3, 2, 1, -1]]),
)


def grades(*rows: tuple[str, str, int, str]) -> pa.Table:
    query, product, grade, source = zip(*rows, strict=True)
    columns = {"query_id": query, "product_id": product, "grade": pa.array(grade, pa.int8()), "source": source}
    return pa.table(columns | {"confidence": pa.array([0.7] * len(rows), pa.float32())})


def pairs(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["query_id"].to_pylist(), table["product_id"].to_pylist(), strict=True))


def test_candidates_are_ranked_and_skip_missing_rows() -> None:
    assert CANDIDATES.to_pylist()[0] == {"query_id": "q1", "product_id": "e", "rank": 1, "score": pytest.approx(0.9)}
    assert CANDIDATES["rank"].to_pylist() == [1, 2, 3, 4, 1, 2, 3]
    assert pairs(CANDIDATES)[4:] == [("q2", "d"), ("q2", "c"), ("q2", "b")]


def test_roles_follow_rank_and_grade() -> None:
    """k = 4: ranks 1 and 2 are the upper half."""
    known = grades(
        ("q1", "e", 0, "human"), ("q1", "a", 2, "llm:x"), ("q1", "b", 0, "llm:x"), ("q1", "c", 1, "llm:x"),
        ("q2", "c", 0, "llm:x"), ("q2", "b", 2, "human"),
    )  # fmt: skip
    roles = dict(
        zip(pairs(mined := mine_hard_pairs(CANDIDATES, known, SETTINGS)), mined["role"].to_pylist(), strict=True)
    )
    assert roles == {
        ("q1", "e"): "hard_negative", ("q1", "a"): None, ("q1", "b"): None, ("q1", "c"): "hard_positive",
        ("q2", "c"): "hard_negative", ("q2", "b"): "hard_positive",
    }  # fmt: skip
    strict = mine_hard_pairs(CANDIDATES, known, SETTINGS.model_copy(update={"skip_top": 1, "positives_from": 2}))
    assert dict(zip(pairs(strict), strict["role"].to_pylist(), strict=True)) == roles | {
        ("q1", "e"): None,
        ("q1", "c"): None,
    }


def test_a_pair_without_a_grade_is_not_mined() -> None:
    mined = mine_hard_pairs(CANDIDATES, grades(("q1", "c", 1, "human")), SETTINGS)
    assert pairs(mined) == [("q1", "c")] and mined["confidence"].to_pylist() == [pytest.approx(0.7)]


def test_skipped_ranks_leave_some_for_hard_negatives() -> None:
    assert MiningSettings(k=100, skip_top=49).skip_top == 49
    with pytest.raises(ValueError, match=r"skip_top=50 leaves no rank for hard negatives, which are up to rank 50"):
        MiningSettings(k=100, skip_top=50)


def test_false_negatives_are_counted_among_new_pairs_of_the_upper_half() -> None:
    known = grades(
        ("q1", "e", 2, "human"), ("q1", "a", 2, "llm:x"), ("q2", "d", 0, "llm:x"), ("q2", "c", 1, "llm:x"),
        ("q2", "b", 2, "llm:x"),
    )  # fmt: skip
    assert count_false_negatives(mine_hard_pairs(CANDIDATES, known, SETTINGS), SETTINGS) == (2, 3)


def test_pairs_to_label_come_from_both_halves_in_turn() -> None:
    new = unjudged_pairs(CANDIDATES, grades(("q1", "e", 2, "human"), ("q2", "e", 0, "human")))
    assert pairs(new) == [pair for pair in pairs(CANDIDATES) if pair != ("q1", "e")]
    whole = choose_pairs_to_label(new, None, SETTINGS, seed=0)
    assert sorted(pairs(whole)) == sorted(pairs(new))
    assert [rank > 2 for rank in whole["rank"].to_pylist()] == [False, True, False, True, False, True], "in turn"
    assert choose_pairs_to_label(new, 3, SETTINGS, seed=0).equals(whole.slice(0, 3))
    assert choose_pairs_to_label(new.take(list(reversed(range(new.num_rows)))), None, SETTINGS, seed=0).equals(whole)
    skipped = choose_pairs_to_label(new, None, SETTINGS.model_copy(update={"skip_top": 1}), seed=0)
    assert sorted(pairs(skipped)) == [pair for pair in sorted(pairs(new)) if pair != ("q2", "d")]
    lower = unjudged_pairs(
        CANDIDATES, grades(("q1", "e", 2, "human"), ("q1", "a", 0, "human"), ("q2", "d", 0, "human"))
    )
    assert pairs(choose_pairs_to_label(lower, 2, SETTINGS, seed=0))[0] == ("q2", "c"), "the only one of the upper half"


def test_pairs_to_label_are_a_fair_sample_of_the_upper_half() -> None:
    """40% of the ranks 1 to 50 are at most 20, and so are 40% of 200 drawn pairs, within five standard errors."""
    rows = np.tile(np.arange(100), (40, 1))
    scores = np.tile(np.linspace(1, 0, 100, dtype=np.float32), (40, 1))
    products = pa.array([f"p{number}" for number in range(100)])
    found = candidate_table(pa.array([f"q{number}" for number in range(40)]), products, scores, rows)
    asked = choose_pairs_to_label(found, 400, MiningSettings(k=100), seed=1)["rank"].to_numpy()
    upper = asked[asked <= 50]
    assert len(upper) == 200
    assert abs((upper <= 20).mean() - 0.4) < 5 * np.sqrt(0.4 * 0.6 / 200)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    rng = np.random.default_rng(0)
    made = rng.normal(size=(3000, 16)).astype(np.float32)
    made[1500] = made[3]  # equal scores in two shards
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def shards(vectors: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("shards")
    files = [folder / f"{number}.npy" for number in range(4)]
    for file, part in zip(files, np.split(vectors, [700, 1400, 2990]), strict=True):
        np.save(file, part)
    return files


def test_shards_find_what_one_exact_index_finds(ray_cluster: None, vectors: np.ndarray, shards: list[Path]) -> None:
    queries = vectors[[3, 10, 2999]]
    scores, rows = search_shards(shards, queries, 50, IndexSettings(kind="exact"))
    expected_scores, expected_rows = VectorIndex.build(vectors, IndexSettings(kind="exact")).search(queries, 50)
    assert rows[0, :2].tolist() == [3, 1500]
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)


def test_a_shard_is_indexed_once_for_all_passes_over_the_queries(
    ray_cluster: None, vectors: np.ndarray, shards: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    builds: list[int] = []
    build = VectorIndex.build
    monkeypatch.setattr(sharded_search, "QUERIES_PER_PASS", 3)
    monkeypatch.setattr(VectorIndex, "build", lambda *args: [builds.append(1), build(*args)][1])
    task = {"shard": np.array([str(shards[1])]), "first": np.array([700])}
    queries, groups = vectors[:8], Groups(np.arange(8) % 2, np.arange(3000) % 2)
    passes = list(sharded_search._search_shard(task, ray.put((queries, groups)), 5, IndexSettings(kind="exact")))
    assert builds == [1] and [int(found["start"][0]) for found in passes] == [0, 3, 6]
    rows = np.concatenate([found["rows"][0] for found in passes])
    allowed = [(np.arange(3000) % 2 == query % 2) & (np.arange(3000) // 700 == 1) for query in range(8)]
    scores = [np.where(mask, vectors @ query, -2) for mask, query in zip(allowed, queries, strict=True)]
    np.testing.assert_array_equal(rows, [np.argsort(-score, kind="stable")[:5] for score in scores])


def test_more_queries_than_one_pass(ray_cluster: None, vectors: np.ndarray, shards: list[Path]) -> None:
    queries = vectors[np.random.default_rng(1).integers(0, 3000, sharded_search.QUERIES_PER_PASS + 5)]
    scores, rows = search_shards(shards, queries, 3, IndexSettings(kind="exact"))
    expected, _ = VectorIndex.build(vectors, IndexSettings(kind="exact")).search(queries, 3)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    np.testing.assert_allclose(np.einsum("mkd,md->mk", vectors[rows], queries), scores, atol=1e-6)


def test_a_gpu_that_the_cluster_does_not_have_is_refused(ray_cluster: None, shards: list[Path]) -> None:
    """Without the check, the search would wait for such a node for ever."""
    with pytest.raises(RaylevanceError, match=r"index\.use_gpu is set, but no node of the cluster has a GPU"):
        search_shards(shards, np.eye(16, dtype=np.float32), 3, IndexSettings(use_gpu=True))
    with pytest.raises(
        RaylevanceError, match=r"mining\.index\.use_gpu searches exactly, but mining\.index\.kind is hnsw"
    ):
        check_cluster_gpu(IndexSettings(kind="hnsw", use_gpu=True), "mining.index.")


RESERVED = """
import sys
import numpy as np, ray
from raylevance.index import sharded_search
from raylevance.index.vectors import IndexSettings
def search_shard(task, shared, k, settings):
    claimed = ray.get_runtime_context().get_assigned_resources()
    yield {"start": np.zeros(1, int), "scores": np.array([[[claimed["GPU"]]]]), "rows": np.zeros((1, 1, 1), int)}
sharded_search._search_shard = search_shard
ray.init(num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False)
scores, _ = sharded_search.search_shards([sys.argv[1]], np.eye(1, 16, dtype=np.float32), 1, IndexSettings(use_gpu=True))
print(scores.tolist())
"""


def test_a_search_on_gpus_reserves_one_for_each_task(shards: list[Path]) -> None:
    """Ray is told of a GPU that this machine need not have."""
    command = [sys.executable, "-c", RESERVED, str(shards[0])]
    printed = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True).stdout
    assert printed.splitlines()[-1] == "[[1.0]]"


def test_approximate_shards_agree_with_exact_ones(ray_cluster: None, vectors: np.ndarray, shards: list[Path]) -> None:
    queries = vectors[::100]
    exact = search_shards(shards, queries, 20, IndexSettings(kind="exact"))[1]
    approximate = search_shards(shards, queries, 20, IndexSettings(kind="hnsw", recall_target=0.99))[1]
    overlap = np.mean([np.isin(a, b).mean() for a, b in zip(exact, approximate, strict=True)])
    assert overlap >= 0.95


def test_a_shard_too_small_for_ivfpq_is_searched_exactly(
    ray_cluster: None, vectors: np.ndarray, shards: list[Path]
) -> None:
    """The last shard has ten rows."""
    queries = vectors[2990:]
    rows = search_shards(shards, queries, 20, IndexSettings(kind="ivfpq"))[1]
    assert rows[:, 0].tolist() == list(range(2990, 3000))


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_a_query_finds_the_rows_of_its_own_group(
    ray_cluster: None, vectors: np.ndarray, shards: list[Path], kind: Literal["exact", "hnsw"]
) -> None:
    """A query without a group finds rows of all groups, and a query of a small group finds every row of it."""
    of_rows = np.arange(3000) % 3
    of_rows[:7] = 3
    groups = Groups(np.array([0, ALL, 1, 2, 3]), of_rows)
    queries = vectors[[50, 51, 52, 53, 54]]
    rows = search_shards(shards, queries, 20, IndexSettings(kind=kind), groups)[1]
    for group, found in zip((0, 1, 2), rows[[0, 2, 3]], strict=True):
        assert set(of_rows[found].tolist()) == {group}
    assert len(set(of_rows[rows[1]].tolist())) > 1
    assert sorted(rows[4, :7].tolist()) == list(range(7)) and (rows[4, 7:] == -1).all()
    if kind == "exact":
        allowed = VectorIndex.build(vectors, IndexSettings(kind="exact")).search(queries[2:3], 20, of_rows == 1)[1]
        np.testing.assert_array_equal(rows[2], allowed[0])


def test_fewer_rows_than_asked_for(ray_cluster: None, vectors: np.ndarray, shards: list[Path]) -> None:
    scores, rows = search_shards(shards[-1:], vectors[:2], 12, IndexSettings(kind="exact"))
    assert (rows[:, 10:] == -1).all() and (rows[:, :10] >= 0).all() and np.isneginf(scores[:, 10:]).all()
