"""Tests of graph files: merging equals rebuilding, sampling is the same for any chunks, and errors are clear."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import ray.data

from raylevance.data.schema import ACTIONS
from raylevance.errors import RaylevanceError
from raylevance.graph import building, excluded_negatives, sampling
from raylevance.graph.building import BehaviourGraph, GraphSettings, build_graph, describe_graph, merge_graph
from raylevance.graph.excluded_negatives import find_excluded_negatives
from raylevance.graph.features import NodeTexts, node_features
from raylevance.graph.sampling import (
    PAIR_KINDS,
    SamplingSettings,
    halves,
    mix_pairs,
    pair_sources,
    pairs_per_kind,
    sample_on_cluster,
)

WORDS = ["red", "blue", "shoe", "sock", "lamp", "desk", "chair", "cable"]


def log(rows: int, seed: int, queries: int = 30, items: int = 40) -> pa.Table:
    """Return events in which queries and items of the same residue go together."""
    random = np.random.default_rng(seed)
    query = random.integers(0, queries, rows)
    item = (random.integers(0, items, rows) // 4 * 4 + query % 4) % items
    action = random.choice(ACTIONS, rows, p=[0.2, 0.5, 0.2, 0.1])
    return pa.table(
        {"query_id": [f"q{n:02}" for n in query], "product_id": [f"p{n:02}" for n in item], "action": action}
    )


def ids(events: pa.Table) -> tuple[pa.Array, pa.Array]:
    return tuple(events[name].unique() for name in ("query_id", "product_id"))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> BehaviourGraph:
    folder = tmp_path_factory.mktemp("graph")
    events = log(3000, seed=0)
    build_graph(ray.data.from_arrow(events), *ids(events), folder, GraphSettings())
    return BehaviourGraph.load(folder)


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def folder_of(root: Path, name: str) -> Path:
    (root / name).mkdir()
    return root / name


@pytest.mark.ray
def test_a_new_day_merged_equals_a_rebuild(tmp_path: Path, ray_cluster: None) -> None:
    """The second day adds queries and items whose ids sort before, between and after the earlier ones."""
    first, second = log(800, seed=1, queries=11, items=22).slice(0, 700), log(900, seed=2)
    before, merged, whole = (folder_of(tmp_path, name) for name in ("before", "merged", "whole"))
    settings = GraphSettings()
    build_graph(ray.data.from_arrow(first), *ids(first), before, settings)
    merge_graph(before, ray.data.from_arrow(second), *ids(second), merged, settings)
    together = pa.concat_tables([first, second])
    build_graph(ray.data.from_arrow(together), *ids(together), whole, settings)
    assert files(merged) == files(whole)
    assert files(before) != files(whole)


@pytest.mark.ray
def test_a_held_out_query_has_no_edges_on_any_day(tmp_path: Path, ray_cluster: None) -> None:
    """Its events of the day before are removed too: the graph is that of the other events, over the same nodes."""
    first, second = log(700, seed=1), log(900, seed=2)
    before, merged, whole, others = (folder_of(tmp_path, name) for name in ("before", "merged", "whole", "others"))
    settings, held_out = GraphSettings(), pa.array(["q03", "q11", "unheard of"])
    build_graph(ray.data.from_arrow(first), *ids(first), before, settings)
    merge_graph(before, ray.data.from_arrow(second), *ids(second), merged, settings, held_out_queries=held_out)
    together = pa.concat_tables([first, second])
    build_graph(ray.data.from_arrow(together), *ids(together), whole, settings, held_out_queries=held_out)
    kept = together.filter(pc.invert(pc.is_in(together["query_id"], held_out)))
    build_graph(ray.data.from_arrow(kept), *ids(together), others, settings)
    assert files(merged) == files(whole) == files(others)
    loaded = BehaviourGraph.load(merged)
    assert [name.as_py() for name in loaded.queries.filter(pa.array(loaded.edges.degrees == 0))] == ["q03", "q11"]


@pytest.mark.ray
def test_the_blocks_of_a_projection_do_not_change_it(
    tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch, graph: BehaviourGraph
) -> None:
    monkeypatch.setattr(building, "MULTIPLICATIONS_PER_BLOCK", 500)
    transposed = graph.edges.transposed()
    building.project_on_cluster(graph.edges, transposed, GraphSettings().ppmi, tmp_path / "parts")
    assert len(list((tmp_path / "parts").iterdir())) > 3
    assert (building.Csr.load(tmp_path / "parts").weights == graph.query_ppmi.weights).all()


@pytest.mark.ray
def test_the_chunks_of_anchors_do_not_change_pairs(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch, graph: BehaviourGraph
) -> None:
    texts = [NodeTexts(pa.array([f"{WORDS[n % 8]} {WORDS[n // 8 % 8]}" for n in range(size)])) for size in (30, 40)]
    settings = SamplingSettings()
    pairs, excluded = {}, {}
    for chunk in (15, 1000):
        monkeypatch.setattr(sampling, "ANCHORS_PER_CHUNK", chunk)
        monkeypatch.setattr(excluded_negatives, "NODES_PER_CHUNK", chunk)
        excluded[chunk] = find_excluded_negatives(graph, settings.related, seed=0)
        sources = pair_sources(graph, excluded[chunk], tuple(node_features(texts)), settings.walks)
        pairs[chunk] = [sample_on_cluster(source, settings.pairs, seed=0) for source in sources]
    assert all(small.equals(large) for small, large in zip(pairs[15], pairs[1000], strict=True))
    assert all(part.num_rows > 20 for part in pairs[15])
    assert (excluded[15].indices == excluded[1000].indices).all()
    assert (excluded[15].indptr == excluded[1000].indptr).all()
    table = mix_pairs(pairs[15], settings.model_copy(update={"most": 50}), seed=0)
    assert [table["kind"].to_pylist().count(kind) for kind in PAIR_KINDS] == [20, 10, 10, 10]


def test_other_kinds_make_up_for_one_that_runs_out() -> None:
    shares = np.array([0.4, 0.2, 0.4])
    assert pairs_per_kind(np.array([100, 100, 100]), shares, 50) == [20, 10, 20]
    assert pairs_per_kind(np.array([5, 100, 100]), shares, 50) == [5, 15, 30]
    assert pairs_per_kind(np.array([100, 100, 100]), shares, 4) == [2, 1, 1]
    assert sum(pairs_per_kind(np.array([100, 100, 100]), shares, 1)) == 1
    assert pairs_per_kind(np.array([0, 4, 9]), shares, 50) == [0, 4, 9]
    assert pairs_per_kind(np.array([7, 8, 9]), np.array([0.0, 1.0, 1.0]), None) == [0, 8, 9]
    assert pairs_per_kind(np.array([0, 7000, 400]), shares, None) == [0, 200, 400]
    assert pairs_per_kind(np.array([10, 900, 400]), shares, None) == [10, 200, 400]
    assert pairs_per_kind(np.array([0, 0, 0]), shares, None) == [0, 0, 0]


def test_one_direction_makes_up_for_the_other() -> None:
    assert halves(20, 100, 100) == [10, 10]
    assert halves(21, 100, 100) == [11, 10]
    assert halves(20, 3, 100) == [3, 17]
    assert halves(20, 100, 3) == [17, 3]
    assert halves(5, 3, 2) == [3, 2]
    assert halves(0, 3, 2) == [0, 0]


@pytest.mark.ray
def test_description_of_a_graph(tmp_path: Path, ray_cluster: None) -> None:
    events = pa.table(
        {
            "query_id": ["a", "a", "b", "b", "c", "c", "d"],
            "product_id": ["x", "x", "x", "x", "y", "y", "y"],
            "action": ["click"] * 7,
        }
    )
    build_graph(ray.data.from_arrow(events), pa.array(list("abcde")), pa.array(list("xyz")), tmp_path, GraphSettings())
    report = describe_graph(BehaviourGraph.load(tmp_path), tmp_path)
    assert (report["queries_with_an_edge"], report["items_with_an_edge"], report["edges"]) == (3, 2, 3)
    assert (report["components"], report["largest_component"], report["pairs_seen"]) == (2, 3, 4)
    assert report["actions"]["click"] == 7


@pytest.mark.ray
def test_a_graph_without_edges_is_refused(tmp_path: Path, ray_cluster: None) -> None:
    events = log(20, seed=0).filter(pa.array([True] + [False] * 19))
    with pytest.raises(RaylevanceError, match="the behaviour graph has no edge: 1 pairs were seen"):
        build_graph(ray.data.from_arrow(events), *ids(events), tmp_path, GraphSettings())


def test_features_are_words_and_categories_that_are_not_too_common() -> None:
    texts = pa.array([f"Word{number % 50} Lamp, für a desk" for number in range(100)])
    categories = pa.array([["Home", "Lamps"]] * 10 + [None] * 80 + [[]] * 10)
    queries, items = node_features([NodeTexts(pa.array(["word3 LAMP", ""])), NodeTexts(texts, categories)])
    assert (queries.columns, queries.degrees.tolist()) == (items.columns, [2, 0])
    assert items.degrees.tolist() == [2] * 10 + [1] * 90
    shared = set(queries.row(0)[0].tolist()) & set(items.row(53)[0].tolist())
    assert len(shared) == 1
