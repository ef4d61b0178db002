"""Requests and triggers against a loop over shuffled logs: no trigger is of the request itself or of a later one."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import ray.data
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.data.schema import ACTIONS, EVENTS
from raylevance.graph.edges import NodeIds
from raylevance.graph.item_requests import DAY, TriggerSettings, make_requests, requests_of_users

WEIGHTS = {"exposure": 0.0, "click": 1.0, "cart": 3.0, "purchase": 5.0}


def log(seed: int, events: int, users: int = 3, items: int = 6) -> list[dict[str, Any]]:
    """A log in random order, in which times repeat and some events have no user."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(events):
        user = f"ü{rng.integers(users)}" if rng.random() > 0.1 else None
        day = int(rng.integers(5))
        rows.append(
            {
                "request_id": f"{user}-{day}-{rng.integers(2)}",
                "session_id": None,
                "user_id": user,
                "query_id": [None, "q1", "q2"][rng.integers(3)],
                "product_id": f"p{rng.integers(items)}",
                "position": None,
                "action": ACTIONS[rng.integers(4)],
                "timestamp": datetime.fromtimestamp(day * 86_400 + int(rng.integers(3)) * 3600, UTC),
            }
        )
    return rows


def numbered(rows: list[dict[str, Any]], items: NodeIds) -> pa.Table:
    table = pa.Table.from_pylist(rows, EVENTS)
    return pa.table(
        {
            "request_id": table["request_id"],
            "user_id": [row["user_id"] or "" for row in rows],
            "query_id": table["query_id"],
            "item": items.lookup(table["product_id"]),
            "action": pa.array([ACTIONS.index(row["action"]) for row in rows], pa.int8()),
            "time": table["timestamp"].cast(pa.int64()),
        }
    )


def by_hand(rows: list[dict[str, Any]], half_life: float, most: int) -> dict[tuple[str, str], dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        key = (row["user_id"] or "", row["request_id"])
        request = found.setdefault(key, {"time": row["timestamp"], "items": {}})
        request["time"] = min(request["time"], row["timestamp"])
        action = ACTIONS.index(row["action"])
        request["items"][row["product_id"]] = max(action, request["items"].get(row["product_id"], 0))
    for (user, _), request in found.items():
        weights: dict[str, float] = {}
        before = [
            row
            for row in rows
            if user and row["user_id"] == user and row["timestamp"] < request["time"] and WEIGHTS[row["action"]]
        ]
        latest = max((row["timestamp"] for row in before), default=None)
        for row in before:
            age = (latest - row["timestamp"]).total_seconds() / 86_400
            own = WEIGHTS[row["action"]] * 0.5 ** (age / half_life)
            weights[row["product_id"]] = weights.get(row["product_id"], 0.0) + own
        best = sorted(weights.items(), key=lambda pair: (-round(pair[1], 9), pair[0]))[:most]
        request["triggers"] = dict(best)
    return found


@given(seed=st.integers(0, 1000), events=st.integers(1, 60), most=st.sampled_from([2, 50]))
@settings(max_examples=30, deadline=None)
def test_requests_equal_a_loop(seed: int, events: int, most: int) -> None:
    rows = log(seed, events)
    items = NodeIds.assign(pa.array([f"p{i}" for i in range(6)]))
    made = requests_of_users(numbered(rows, items), TriggerSettings(half_life_days=1.5, most=most))
    shuffled = numbered(rows, items).take(np.random.default_rng(seed).permutation(len(rows)))
    assert requests_of_users(shuffled, TriggerSettings(half_life_days=1.5, most=most)).equals(made)
    expected = by_hand(rows, 1.5, most)
    assert made.num_rows == len(expected)
    for row in made.to_pylist():
        request = expected[row["user_id"], row["request_id"]]
        assert row["time"] == int(request["time"].timestamp() * 1000)
        triggers = {f"p{item}": weight for item, weight in zip(row["triggers"], row["trigger_weights"], strict=True)}
        assert sorted(triggers.values(), reverse=True) == pytest.approx(list(request["triggers"].values()), rel=1e-5)
        if most == 50:
            assert triggers == pytest.approx(request["triggers"], rel=1e-5)
        shown = {f"p{item}": action for item, action in zip(row["items"], row["actions"], strict=True)}
        assert shown == request["items"]
    since = int(np.median(made["time"].to_numpy()))
    later = requests_of_users(shuffled, TriggerSettings(half_life_days=1.5, most=most), since)
    assert later.equals(made.filter(pc.greater_equal(made["time"], since)))


@pytest.mark.usefixtures("ray_cluster")
def test_a_session_is_no_user_of_the_same_name() -> None:
    rows = [row | {"user_id": None, "session_id": "5", "request_id": "first"} for row in log(1, 3)]
    later = [
        row | {"user_id": "5", "request_id": "later", "timestamp": datetime(1980, 1, 1, tzinfo=UTC)}
        for row in log(2, 3)
    ]
    again = [
        row | {"user_id": None, "session_id": "5", "request_id": "again", "timestamp": datetime(1981, 1, 1, tzinfo=UTC)}
        for row in log(2, 3)
    ]
    table = pa.Table.from_pylist([row | {"action": "click"} for row in (*rows, *later, *again)], EVENTS)
    items = NodeIds.assign(pa.array([f"p{i}" for i in range(6)]))
    made = {
        row["request_id"]: row for row in make_requests(ray.data.from_arrow(table), items, TriggerSettings()).take_all()
    }
    assert len(made["later"]["triggers"]) == 0
    assert len(made["again"]["triggers"]) > 0


def test_nothing_is_a_trigger_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing is a trigger"):
        TriggerSettings(click=0, cart=0, purchase=0)


def test_only_the_latest_actions_of_the_window_count() -> None:
    items = NodeIds.assign(pa.array(["a", "b", "c", "d"]))
    day = int(DAY)
    table = pa.table(
        {
            "request_id": ["1", "2", "3", "4"],
            "user_id": ["u"] * 4,
            "query_id": pa.nulls(4, pa.string()),
            "item": pa.array([0, 1, 2, 3], pa.int32()),
            "action": pa.array([3, 1, 1, 1], pa.int8()),
            "time": [0, day, 2 * day, 3 * day],
        }
    )
    made = requests_of_users(table, TriggerSettings(window=2))
    assert made["triggers"].to_pylist() == [[], [0], [0, 1], [2, 1]]
    assert items.lookup(pa.array(["c"])).tolist() == [2]


@pytest.mark.usefixtures("ray_cluster")
def test_blocks_and_their_order_decide_nothing() -> None:
    rows = log(7, 400, users=20, items=9)
    rows[3]["product_id"] = "not in the catalogue"
    items = NodeIds.assign(pa.array([f"p{i}" for i in range(9)]))
    table = pa.Table.from_pylist(rows, EVENTS)
    reversed_table = table.take(list(reversed(range(table.num_rows))))
    made = []
    for each, blocks in ((table, 1), (reversed_table, 7)):
        dataset = ray.data.from_arrow(each).repartition(blocks)
        made.append(sorted(make_requests(dataset, items, TriggerSettings()).take_all(), key=str))
    assert [str(row) for row in made[0]] == [str(row) for row in made[1]]
