"""The item graph against loops: objectives, how items were known, neighbours and relevance."""

import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data

from raylevance.data.schema import ACTIONS, EVENTS
from raylevance.errors import RaylevanceError
from raylevance.graph import item_objectives
from raylevance.graph.csr import Csr
from raylevance.graph.edges import NodeIds
from raylevance.graph.item_graph import (
    REQUESTS_FOLDER,
    ItemGraph,
    ItemGraphSettings,
    NeighbourSettings,
    build_item_graph,
    relevance_by_basket,
)
from raylevance.graph.item_objectives import OBJECTIVES, above_chance, request_edges, strongest, write_objectives
from raylevance.graph.item_relevance import write_judged_relevance
from raylevance.graph.item_requests import DAY, REQUESTS, make_requests
from raylevance.models.item_features import CATEGORY, ItemVocabulary, categories_below
from tests.graph.test_item_requests import log

ITEMS = 9
PRODUCTS = pa.table(
    {
        "product_id": [f"p{i}" for i in range(ITEMS)],
        "category": pa.array([["a", "b"], ["a"], None, ["a", "b"], ["c"], ["a"], ["c"], ["a", "b"], ["a"]]),
        "brand": pa.array(["x", None, "y", "x", None, None, "y", "x", "x"]),
        "price": pa.array([1.0, None, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
    }
)
CATEGORIES = ItemVocabulary.of(PRODUCTS).numbers(PRODUCTS)[:, CATEGORY]
BELOW = categories_below(ItemVocabulary.of(PRODUCTS).categories)


def dense(graph: Csr) -> np.ndarray:
    table = np.zeros((graph.rows, graph.columns))
    table[graph.edge_rows() - graph.first, graph.indices] = graph.weights
    return table


def first_event(rows: list[dict[str, Any]], product: str) -> int:
    """When a product first has an event, in milliseconds."""
    return min(int(row["timestamp"].timestamp() * 1000) for row in rows if row["product_id"] == product)


def baskets_by_hand(requests: list[dict[str, Any]], first: np.ndarray) -> np.ndarray:
    found = np.zeros((ITEMS, 2 * ITEMS))
    for request in requests:
        chosen = [item for item, action in zip(request["items"], request["actions"], strict=True) if action > 0]
        for one in chosen:
            for other in chosen:
                if one != other:
                    found[one, other + ITEMS * (first[other] >= request["time"])] += 1 / (len(chosen) - 1)
    return found


def objectives_by_hand(requests: list[dict[str, Any]], first: np.ndarray) -> dict[str, np.ndarray]:
    found = {name: np.zeros((ITEMS, 2 * ITEMS)) for name in OBJECTIVES}
    for request in requests:
        total = sum(request["trigger_weights"])
        for trigger, weight in zip(request["triggers"], request["trigger_weights"], strict=True):
            for item, action in zip(request["items"], request["actions"], strict=True):
                if item == trigger:
                    continue
                column = item + ITEMS * (first[item] >= request["time"])
                same = CATEGORIES[item] == CATEGORIES[trigger] > 0
                positive = {"relevance": same, "exposure": True, "click": action > 0, "purchase": action == 3}
                for name, holds in positive.items():
                    found[name][trigger, column] += weight / total * holds
    return found


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("edges_per_shard", [20_000_000, 300])
def test_objectives_equal_a_loop_in_one_shard_or_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edges_per_shard: int
) -> None:
    monkeypatch.setattr(item_objectives, "EDGES_PER_SHARD", edges_per_shard)
    rows = log(3, 300, users=12, items=ITEMS)
    table = pa.Table.from_pylist(rows, EVENTS)
    first = np.array([first_event(rows, f"p{item}") for item in range(ITEMS)])
    items = NodeIds.assign(PRODUCTS["product_id"].combine_chunks())
    made = pa.concat_tables(
        list(
            make_requests(ray.data.from_arrow(table), items, ItemGraphSettings().triggers).iter_batches(
                batch_format="pyarrow"
            )
        )
    ).cast(REQUESTS)
    shuffled = made.take(np.random.default_rng(0).permutation(made.num_rows))
    requests = ray.data.from_arrow(shuffled).repartition(3)
    counts = write_objectives(requests, tmp_path, first, OBJECTIVES, CATEGORIES)
    for name, expected in objectives_by_hand(made.to_pylist(), first).items():
        graph = Csr.load(tmp_path / name)
        assert len(list((tmp_path / name).glob("*.arrow"))) == (1 if edges_per_shard > 1000 else 9)
        np.testing.assert_allclose(dense(graph), expected, rtol=1e-5)
        assert counts[name] == np.count_nonzero(expected)
    assert (dense(Csr.load(tmp_path / "purchase")) <= dense(Csr.load(tmp_path / "click")) + 1e-6).all()


@pytest.mark.usefixtures("ray_cluster")
def test_without_categories_the_items_of_a_basket_are_relevant_to_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_objectives, "EDGES_PER_SHARD", 4_000)
    rows = log(3, 300, users=12, items=ITEMS)
    events = ray.data.from_arrow(pa.Table.from_pylist(rows, EVENTS)).repartition(3)
    none = np.zeros(ITEMS, np.int64)
    figures = build_item_graph(events, PRODUCTS, none, BELOW, None, tmp_path, ItemGraphSettings())
    made = pq.read_table(tmp_path / "requests").to_pylist()
    first = np.array([first_event(rows, f"p{item}") for item in range(ITEMS)])
    expected = baskets_by_hand(made, first)
    np.testing.assert_allclose(dense(Csr.load(tmp_path / "objective/relevance")), expected, rtol=1e-5)
    assert figures["edges"]["relevance"] == np.count_nonzero(expected)
    assert figures["baskets_too_large"] == 0
    assert len(list((tmp_path / "objective/relevance").glob("*.arrow"))) > 1
    assert max(sum(action > 0 for action in request["actions"]) for request in made) > 2


@pytest.mark.usefixtures("ray_cluster")
def test_a_basket_that_is_too_large_is_counted_and_says_nothing_of_relevance(tmp_path: Path) -> None:
    products = pa.table(
        {
            "product_id": [f"p{item:04}" for item in range(301)],
            "category": pa.nulls(301, pa.list_(pa.string())),
            "brand": pa.nulls(301, pa.string()),
            "price": pa.nulls(301, pa.float64()),
        }
    )
    rows = [
        dict.fromkeys(EVENTS.names)
        | {"user_id": "u", "request_id": request, "action": "purchase", "timestamp": datetime.fromtimestamp(at, UTC)}
        | {"product_id": f"p{item:04}"}
        for request, at, size in [("large", 1, 301), ("most", 2, 300), ("small", 3, 3)]
        for item in range(size)
    ]
    events = ray.data.from_arrow(pa.Table.from_pylist(rows, EVENTS))
    figures = build_item_graph(events, products, np.zeros(301, np.int64), BELOW, None, tmp_path, ItemGraphSettings())
    relevance = Csr.load(tmp_path / "objective/relevance")
    assert figures["baskets_too_large"] == 1
    assert figures["edges"]["relevance"] == len(relevance.indices) == 300 * 299
    assert relevance.degrees[300] == 0
    own = slice(relevance.indptr[0], relevance.indptr[1])
    weights = dict(zip(relevance.indices[own].tolist(), relevance.weights[own].tolist(), strict=True))
    assert weights[1] == pytest.approx(1 / 299 + 1 / 2) and weights[3] == pytest.approx(1 / 299)


def ppmi_of_days(requests: Path, minimum_support: int) -> np.ndarray:
    """Return the PPMI of items that a user chose on one day within a category, [ITEMS, ITEMS], by a loop."""
    groups: dict[Any, set[int]] = {}
    for request in pq.read_table(requests).to_pylist():
        owner = request["user_id"] or f"request {request['request_id']}"
        for item, action in zip(request["items"], request["actions"], strict=True):
            if action > 0:
                groups.setdefault((owner, request["time"] // int(DAY), CATEGORIES[item]), set()).add(item)
    together = np.zeros((ITEMS, ITEMS))
    for members in groups.values():
        for one, other in itertools.permutations(members, 2):
            together[one, other] += 1
    sums = together.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(together * together.sum() / np.outer(sums, sums))
    return np.where(together >= minimum_support, np.maximum(pmi, 0), 0)


@pytest.mark.usefixtures("ray_cluster")
def test_a_graph_holds_what_its_log_says(tmp_path: Path) -> None:
    rows = [row for row in log(5, 300, users=12, items=ITEMS - 1) if row["action"] != "exposure"]
    table = pa.Table.from_pylist(rows, EVENTS)
    settings = ItemGraphSettings(relevance="category", neighbours=NeighbourSettings(minimum_support=2))
    figures = build_item_graph(ray.data.from_arrow(table), PRODUCTS, CATEGORIES, BELOW, None, tmp_path, settings)
    graph = ItemGraph.load(tmp_path)
    assert set(graph.objectives) == {"relevance", "click", "purchase"}
    assert figures["objectives_without_edges"] == ["exposure"]
    assert figures["items_with_events"] == ITEMS - 1
    assert graph.items["first_time"].is_valid().to_pylist() == [True] * (ITEMS - 1) + [False]
    counts = [
        [sum(r["product_id"] == f"p{i}" and r["action"] == a for r in rows) for a in ACTIONS] for i in range(ITEMS)
    ]
    assert graph.event_counts.tolist() == counts
    found = dense(graph.neighbours)
    np.testing.assert_allclose(found, ppmi_of_days(tmp_path / REQUESTS_FOLDER, minimum_support=2), rtol=1e-5)
    assert (found > 0).any()


@pytest.mark.usefixtures("ray_cluster")
def test_an_item_is_known_from_its_first_event_on(tmp_path: Path) -> None:
    """p7 has its first event in a's request, after b's request begins: it is new to b, and known to c."""
    events = [
        ("a", "a0", "p0", "click", 1),
        ("b", "b0", "p0", "click", 1),
        ("c", "c0", "p0", "click", 1),
        ("a", "a1", "p1", "click", 10),
        ("b", "b1", "p1", "click", 20),
        ("a", "a1", "p7", "click", 30),
        ("c", "c1", "p7", "click", 40),
        ("b", "b1", "p7", "click", 50),
    ]
    names = ("user_id", "request_id", "product_id", "action")
    rows = [
        dict.fromkeys(EVENTS.names)
        | dict(zip(names, event, strict=False))
        | {"timestamp": datetime.fromtimestamp(event[-1], UTC)}
        for event in events
    ]
    shuffled = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]
    log_of = ray.data.from_arrow(pa.Table.from_pylist(shuffled, EVENTS)).repartition(3)
    build_item_graph(log_of, PRODUCTS, CATEGORIES, BELOW, None, tmp_path, ItemGraphSettings())
    graph = ItemGraph.load(tmp_path)
    assert graph.items["first_time"].to_pylist() == [1000, 10_000, *[None] * 5, 30_000, None]
    clicks = dense(graph.objectives["click"])[0]
    assert clicks[7] == pytest.approx(1), "of c"
    assert clicks[7 + ITEMS] == pytest.approx(2), "of a and b"


@pytest.mark.usefixtures("ray_cluster")
def test_a_log_in_which_nobody_comes_back_is_refused(tmp_path: Path) -> None:
    row = log(1, 1)[0] | {"user_id": "once", "product_id": "p1", "action": "click"}
    events = ray.data.from_arrow(pa.Table.from_pylist([row], EVENTS))
    with pytest.raises(RaylevanceError, match="no user of the log chose anything before a request"):
        build_item_graph(events, PRODUCTS, CATEGORIES, BELOW, None, tmp_path, ItemGraphSettings())


def test_which_data_is_joined_by_baskets() -> None:
    none, judged = np.zeros(ITEMS, np.int64), pa.table({"grade": [2]})
    found = {
        (relevance, categories.any(), judgements is not None)
        for relevance in ("auto", "judgements", "category", "basket", "none")
        for categories in (none, CATEGORIES)
        for judgements in (None, judged)
        if relevance_by_basket(ItemGraphSettings(relevance=relevance), categories, judgements)  # type: ignore[arg-type]
    }
    assert found == {
        ("auto", False, False),
        *(("basket", known, given) for known in (True, False) for given in (True, False)),
    }


def test_triggers_whose_weights_are_0_leave_no_trace() -> None:
    rows = [
        {"request_id": "a", "user_id": "u", "time": 5, "triggers": [0, 1], "trigger_weights": [0.0, 0.0], "items": [2]},
        {"request_id": "b", "user_id": "u", "time": 6, "triggers": [3, 4], "trigger_weights": [2.0, 0.0], "items": [2]},
    ]
    requests = pa.Table.from_pylist([row | {"query_id": None, "actions": [1]} for row in rows], REQUESTS)
    edges = request_edges(requests, np.zeros(ITEMS, np.int64), None, ["click"])
    assert edges.to_pylist() == [{"objective": OBJECTIVES.index("click"), "trigger": 3, "item": 2, "weight": 1.0}]


@pytest.mark.parametrize("most", [1, 3, 100])
def test_the_strongest_edges_equal_a_loop(most: int) -> None:
    weights = np.random.default_rng(1).integers(0, 4, (7, 12)).astype(float)
    weights[2] = 0
    rows, columns = np.nonzero(weights)
    graph = Csr.from_edges(rows, columns, weights[rows, columns], weights.shape)
    found = dense(strongest(graph, most))
    for row in range(7):
        edges = [column for column in range(12) if weights[row, column]]
        cosine = {column: weights[row, column] / np.sqrt(weights[:, column].sum()) for column in edges}
        kept = sorted(edges, key=lambda column: (-cosine[column], column))[:most]
        assert np.flatnonzero(found[row]).tolist() == sorted(kept)
        assert (found[row, kept] == weights[row, kept]).all()


def test_edges_above_chance_equal_a_loop() -> None:
    weights = np.round(np.random.default_rng(0).uniform(0, 1, (6, 12)) * (np.arange(72).reshape(6, 12) % 3 > 0), 3)
    rows, columns = np.nonzero(weights)
    graph = Csr.from_edges(rows, columns, weights[rows, columns], weights.shape)
    found = dense(above_chance(graph))
    for row in range(6):
        for column in range(12):
            chance = weights[row].sum() * weights[:, column].sum() / weights.sum()
            expected = weights[row, column] if weights[row, column] >= chance else 0
            assert found[row, column] == pytest.approx(expected, abs=1e-6)
    independent = np.outer([1.0, 2.0, 0.3], [0.7, 0.1, 5.0, 0.2])
    r, c = np.nonzero(independent)
    whole = Csr.from_edges(r, c, independent[r, c], independent.shape)
    assert len(above_chance(whole).indices) == independent.size, "rounding decides nothing"
    one = Csr.from_edges(np.array([1, 1]), np.array([0, 2]), np.array([0.3, 0.7]), (3, 6))
    assert len(above_chance(one).indices) == 2, "with one trigger every edge is at chance"
    shard = graph.select_rows(2, 5)
    assert above_chance(shard).first == 2


def test_judged_relevance_joins_items_of_the_highest_grade_of_one_query(tmp_path: Path) -> None:
    rows = [("q2", "p3", 2), ("q1", "p1", 2), ("q1", "p3", 2), ("q1", "p4", 1), ("q2", "p8", 2), ("q1", "p5", 2)]
    rows += [("q3", "p6", 2), ("q1", "p1", 2), ("q2", "not there", 2)]
    judged = pa.table(dict(zip(("query_id", "product_id", "grade"), map(list, zip(*rows, strict=True)), strict=True)))
    items = NodeIds.assign(PRODUCTS["product_id"].combine_chunks())
    edges, cut = write_judged_relevance(judged, items, tmp_path)
    expected = np.zeros((ITEMS, 2 * ITEMS))
    for left, right in [(1, 3), (1, 5), (3, 5)]:
        expected[left, right] = expected[right, left] = 0.5
    expected[3, 8] = expected[8, 3] = 1
    np.testing.assert_allclose(dense(Csr.load(tmp_path)), expected)
    assert (edges, cut) == (8, 0)


def test_a_query_with_very_many_relevant_items_is_cut_and_counted(tmp_path: Path) -> None:
    ids = [f"p{number:03}" for number in range(130)]
    rows = [("broad", product) for product in reversed(ids)] + [("narrow", ids[-1]), ("narrow", ids[-2])]
    judged = pa.table(
        {"query_id": [row[0] for row in rows], "product_id": [row[1] for row in rows], "grade": [2] * len(rows)}
    )
    edges, cut = write_judged_relevance(judged, NodeIds.assign(pa.array(ids)), tmp_path)
    assert cut == 1 and edges == 100 * 99 + 2


def test_a_folder_that_is_no_graph_is_named(tmp_path: Path) -> None:
    pq.write_table(PRODUCTS, tmp_path / "products.parquet")
    with pytest.raises(RaylevanceError, match=r"items\.parquet is missing"):
        ItemGraph.load(tmp_path)
