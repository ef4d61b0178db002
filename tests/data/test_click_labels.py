"""Labels of clicked products equal plain counting, however the events are ordered and cut into blocks."""

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray.data

from raylevance.data import click_labels
from raylevance.data.actions import ACTION_WEIGHTS
from raylevance.data.click_labels import labels_of_clicks
from raylevance.data.label_space import LabelSpace
from raylevance.data.product_labels import category_labels, column_labels, labels_of_products
from raylevance.data.query_labels import QUERY_LABELS
from raylevance.data.schema import ACTIONS, PRODUCTS, QUERIES
from raylevance.graph.edges import EdgeWeights

pytestmark = pytest.mark.ray
TEXTS = {"q1": "Red Mug", "q2": "red  mug", "q3": "tea", "q4": "pot", "q5": "TEA "}
WEIGHTS = {"exposure": 0, "click": 1, "cart": 3, "purchase": 5}


def catalogue(seed: int) -> pa.Table:
    paths = [["Home", "Mugs"], ["Home", "Pots"], ["Tea"], None]
    rows = [
        {"product_id": f"p{n}", "title": "x", "category": paths[n % 4], "brand": ["Acme", None, "Zeta"][n % 3]}
        for n in range(24)
    ]
    return pa.Table.from_pylist([rows[n] for n in np.random.default_rng(seed).permutation(24)], PRODUCTS)


def queries(seed: int) -> pa.Table:
    rows = [{"query_id": name, "query": text} for name, text in TEXTS.items()]
    return pa.Table.from_pylist([rows[n] for n in np.random.default_rng(seed).permutation(len(rows))], QUERIES)


def log(rows: int, seed: int) -> pa.Table:
    """Events of the queries; some have no query, an unknown one, or an unknown product."""
    random = np.random.default_rng(seed)
    asked = random.choice(np.array([*TEXTS, None, "zz"], object), rows)
    shown = [f"p{number}" for number in np.minimum(random.geometric(0.15, rows), 25)]
    action = random.choice(ACTIONS, rows, p=[0.6, 0.25, 0.1, 0.05])
    return pa.table({"query_id": pa.array(asked.tolist(), pa.string()), "product_id": shown, "action": action})


def expected(events: pa.Table, space: LabelSpace, share: float, clicks: int) -> dict[tuple[str, str], set[str]]:
    products = catalogue(0)
    labels = labels_of_products(products, space)
    row_of = {name: row for row, name in enumerate(products["product_id"].to_pylist())}
    weights: dict[tuple[str, str], dict[int, float]] = defaultdict(lambda: defaultdict(float))
    actions: dict[tuple[str, str], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for event in events.to_pylist():
        weight = WEIGHTS[event["action"]]
        if event["query_id"] not in TEXTS or event["product_id"] not in row_of or not weight:
            continue
        query = " ".join(TEXTS[event["query_id"]].lower().split())
        for task, label in zip(space.tasks, labels[row_of[event["product_id"]]].tolist(), strict=True):
            if label >= 0:
                weights[query, task][label] += weight
                actions[query, task][label] += 1
    kept: dict[tuple[str, str], set[str]] = {}
    for key, by_label in weights.items():
        total = sum(by_label.values())
        good = {
            label for label, weight in by_label.items() if weight / total >= share and actions[key][label] >= clicks
        }
        if good:
            kept[key] = {space.label_ids[label] for label in good}
    return kept


def space() -> LabelSpace:
    return LabelSpace(pa.concat_tables([category_labels(catalogue(0)), column_labels(catalogue(0), "brand")]))


def found(rows: pa.Table, of: LabelSpace) -> dict[tuple[str, str], set[str]]:
    return {(row["query"], row["task"]): {of.label_ids[label] for label in row["labels"]} for row in rows.to_pylist()}


@pytest.mark.parametrize(("share", "clicks"), [(0.05, 2), (0.3, 1), (0.0, 4)])
def test_equal_to_plain_counting(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], share: float, clicks: int
) -> None:
    monkeypatch.setattr(click_labels, "ROWS_BEFORE_SUM", 5)
    events, of = log(150, seed=clicks), space()
    whole = labels_of_clicks(ray.data.from_arrow(events), queries(0), catalogue(0), of, share, clicks)
    assert whole.schema == QUERY_LABELS
    assert found(whole, of) == expected(events, of, share, clicks)
    assert set(whole["targets"].combine_chunks().flatten().to_pylist()) == {1.0}
    unknown = [
        event
        for event in events.to_pylist()
        if event["query_id"]
        and WEIGHTS[event["action"]]
        and (event["query_id"] == "zz" or event["product_id"] in ("p24", "p25"))
    ]
    assert f"{len(unknown)} events have a query or a product that is not among" in capsys.readouterr().err
    order = pa.array(np.random.default_rng(9).permutation(events.num_rows))
    blocks = ray.data.from_arrow(events.take(order)).repartition(7)
    assert labels_of_clicks(blocks, queries(1), catalogue(1), of, share, clicks).equals(whole)


def test_the_share_is_of_all_that_mean_the_query(ray_cluster: None) -> None:
    """Two ids of one text have 19 clicks on mugs and 1 on tea: 5 % exactly, and 2 clicks only together."""
    rows: list[dict[str, Any]] = [{"query_id": "q1", "product_id": "p0", "action": "click"}] * 36
    rows += [{"query_id": name, "product_id": "p2", "action": "click"} for name in ("q1", "q2")]
    rows += [{"query_id": "q2", "product_id": "p0", "action": "click"}] * 2
    of = space()

    def labels(rows: list[dict[str, Any]]) -> set[str]:
        events = ray.data.from_arrow(pa.Table.from_pylist(rows))
        return found(labels_of_clicks(events, queries(0), catalogue(0), of), of)["red mug", "category"]

    assert labels(rows) == {"Home > Mugs", "Tea"}
    assert labels([*rows, rows[0]]) == {"Home > Mugs"}


def test_events_that_say_nothing(ray_cluster: None, capsys: pytest.CaptureFixture[str]) -> None:
    events = pa.Table.from_pylist(
        [
            {"query_id": "q1", "product_id": "p0", "action": "exposure"},
            {"query_id": None, "product_id": "p0", "action": "click"},
        ]
    )
    rows = labels_of_clicks(ray.data.from_arrow(events), queries(0), catalogue(0), space())
    assert rows.num_rows == 0
    assert rows.schema == QUERY_LABELS
    assert "left out" not in capsys.readouterr().err


def test_actions_weigh_what_they_weigh_in_the_graph() -> None:
    assert {action: getattr(EdgeWeights(), action) for action in ACTIONS} == ACTION_WEIGHTS == WEIGHTS
