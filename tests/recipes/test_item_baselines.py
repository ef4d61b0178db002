"""Baselines of item retrieval against loops: their formulas, and what the category of a query lets through."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.data.actions import ACTION_WEIGHTS
from raylevance.data.schema import ACTIONS
from raylevance.graph.csr import Csr
from raylevance.graph.item_graph import REQUESTS_FOLDER, ItemGraph
from raylevance.graph.query_categories import QUERY_CATEGORIES
from raylevance.index.item_scores import DAMPING
from raylevance.index.item_table import ItemTable
from raylevance.inference.item_table import TriggerLists
from raylevance.models.item_features import categories_below, numbered_categories
from workloads.steps.item_baselines import (
    REGULARISATION,
    SHRINK,
    BaselineData,
    BaselineName,
    Rule,
    TableSystem,
    highest,
    make_baseline,
)

PATHS = ["a", "a > b", "a > b > c", "a b", "a!", "a > é", "é", "a > b!", "A > b", "a >"]
"""Of categories whose names begin with that of another, but which are not below it."""


def is_inside(path: str | None, wanted: str) -> bool:
    return path is not None and path.split(" > ")[: len(wanted.split(" > "))] == wanted.split(" > ")


@given(st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.0, 2.5]), min_size=1, max_size=12), st.integers(1, 15))
def test_of_equal_scores_the_lower_places_are_kept(scores: list[float], k: int) -> None:
    expected = sorted((place for place, score in enumerate(scores) if score > 0), key=lambda place: -scores[place])[:k]
    assert highest(np.array(scores), k).tolist() == expected


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_rule_ranks_what_is_in_or_below_the_category_as_the_table_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = 30
    paths = [None if rng.random() < 0.2 else str(rng.choice(PATHS)) for _ in range(size)]
    split = pa.array([path.split(" > ") if path else None for path in paths], pa.list_(pa.string()))
    numbers, names = numbered_categories(pa.table({"category": split}))
    similar = rng.uniform(0, 1, (size, size)) * (rng.random((size, size)) < 0.7)
    asked = [(rng.choice(size, 4, replace=False).tolist(), rng.choice([0.0, 1.0, 3.0], 4).tolist()) for _ in range(6)]
    categories = rng.integers(0, len(names) + 1, len(asked))
    rule = Rule(numbers, categories_below(names), lambda weights: weights @ similar)
    found = rule.rank(TriggerLists.of(asked), categories, size)

    rows = np.array([[other for other in range(size) if other != item] for item in range(size)], np.int32)
    listed = pa.table({"product_id": [f"{row:02}" for row in range(size)], "category": pa.array(paths, pa.string())})
    table = ItemTable(listed, rows, np.take_along_axis(similar, rows, 1).astype(np.float32), 0.1)
    reached = TableSystem(table, names).rank(TriggerLists.of(asked), categories, size)

    for row, ((triggers, weights), category) in enumerate(zip(asked, categories, strict=True)):
        inside = [not category or is_inside(path, names[category - 1]) for path in paths]
        weighed = [(t, w) for t, w in zip(triggers, weights, strict=True) if w]
        own = [(t, w) for t, w in weighed if inside[t]] or weighed
        scores = {i: sum(w**DAMPING * similar[t, i] for t, w in own) for i in range(size) if i not in triggers}
        expected = sorted(
            (i for i, s in scores.items() if s > 0 and inside[i]), key=lambda i: (-round(scores[i], 9), i)
        )
        assert found[row][found[row] >= 0].tolist() == expected
        every = [i for i in range(size) if inside[i] and i not in triggers]
        assert sorted(reached[row][reached[row] >= 0].tolist()) == (every if own else [])


USERS, ITEMS = 12, 8


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> BaselineData:
    """Twelve users with one request each, and what a graph of their log knows."""
    folder, rng = tmp_path_factory.mktemp("graph"), np.random.default_rng(4)
    chosen = [np.flatnonzero(rng.random(ITEMS) < 0.45).tolist() for _ in range(USERS)]
    requests = {
        "request_id": [f"r{user}" for user in range(USERS)],
        "user_id": [f"u{user}" for user in range(USERS)],
        "items": pa.array(chosen, pa.list_(pa.int32())),
        "actions": pa.array([[1] * len(items) for items in chosen], pa.list_(pa.int8())),
    }
    (folder / REQUESTS_FOLDER).mkdir()
    pq.write_table(pa.table(requests), folder / REQUESTS_FOLDER / "0.parquet")
    counts = {action: rng.integers(0, 9, ITEMS) for action in ACTIONS}
    near = rng.integers(0, 2, (ITEMS, ITEMS)) * (1 - np.eye(ITEMS, dtype=int))
    rows, columns = np.nonzero(near)
    neighbours = Csr.from_edges(rows, columns, rng.uniform(0.5, 2, len(rows)).astype(np.float32), (ITEMS, ITEMS))
    items = pa.table({"product_id": [f"p{item}" for item in range(ITEMS)], **counts})
    graph = ItemGraph(items, QUERY_CATEGORIES.empty_table(), {}, neighbours)
    texts = rng.normal(size=(ITEMS, 4)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    categories = np.array([1, 1, 2, 0, 2, 1, 0, 2])
    return BaselineData(graph, folder, categories, categories_below(["a", "b"]), texts, seed=0)


def between_items(name: str, data: BaselineData) -> np.ndarray:
    """Return what each trigger gives each item, [items, items], by a loop over the log."""
    table = pq.read_table(data.folder / REQUESTS_FOLDER)
    x = np.zeros((USERS, ITEMS))
    for user, items in enumerate(table["items"].to_pylist()):
        x[user, items] = 1
    found = np.zeros((ITEMS, ITEMS))
    if name == "neighbours":
        graph = data.graph.neighbours
        found[graph.edge_rows(), graph.indices] = graph.weights
    if name == "text":
        assert data.texts is not None
        found = np.maximum(data.texts @ data.texts.T, 0)
    if name == "EASE":
        for item in range(ITEMS):
            others = np.delete(np.arange(ITEMS), item)
            normal = x[:, others].T @ x[:, others] + REGULARISATION * np.eye(ITEMS - 1)
            found[others, item] = np.linalg.solve(normal, x[:, others].T @ x[:, item])
    if name == "item-CF":
        for i, j in itertools.permutations(range(ITEMS), 2):
            found[i, j] = x[:, i] @ x[:, j] / (np.sqrt(x[:, i].sum() * x[:, j].sum()) + SHRINK)
    if name == "Swing":
        owned = [set(np.flatnonzero(row)) for row in x]
        for u, v in itertools.combinations(range(USERS), 2):
            both = owned[u] & owned[v]
            weight = ((15 + len(owned[u])) * (15 + len(owned[v]))) ** -0.3
            for i, j in itertools.permutations(both, 2):
                found[i, j] += weight / len(both)
    return found


@pytest.mark.parametrize(
    "name", ["popularity", "category popularity", "item-CF", "Swing", "EASE", "neighbours", "text"]
)
def test_each_baseline_scores_by_its_own_formula(data: BaselineData, name: BaselineName) -> None:
    asked = [([0, 3], [1.0, 16.0]), ([5], [0.5]), ([7, 2, 1], [81.0, 1.0, 16.0]), ([6, 4], [2.0, 2.0])]
    system = make_baseline(name, data)
    assert system is not None
    lists = system.rank(TriggerLists.of(asked), np.zeros(len(asked), np.int64), ITEMS)
    weights = [ACTION_WEIGHTS[action] for action in ACTIONS]
    popularity = sum(
        data.graph.items[action].to_numpy() * weight for action, weight in zip(ACTIONS, weights, strict=True)
    )
    pairs = between_items(name, data)
    for found, (triggers, weights) in zip(lists, asked, strict=True):
        damped = dict(zip(triggers, np.array(weights) ** DAMPING, strict=True))
        if name == "popularity":
            scores = np.array(popularity, float)
        elif name == "category popularity":
            own = [sum(w for t, w in damped.items() if 0 < data.categories[t] == each) for each in data.categories]
            scores = np.array(own) * popularity
        elif name == "EASE":
            scores = np.sum([pairs[trigger] for trigger in triggers], axis=0)
        else:
            scores = np.sum([weight * pairs[trigger] for trigger, weight in damped.items()], axis=0)
        scores[triggers] = 0
        listed = found[found >= 0]
        assert set(listed.tolist()) == set(np.flatnonzero(scores > 1e-9).tolist())
        np.testing.assert_allclose(scores[listed], np.sort(scores[listed])[::-1], rtol=1e-4)
