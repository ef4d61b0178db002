"""The data of item retrieval: what is refused before an item graph is built."""

import json
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylevance.errors import UsageError
from raylevance.graph.item_graph import ItemGraphSettings
from raylevance.graph.item_requests import REQUESTS
from tests.conftest import Ended
from workloads.steps.item_data import check_relevance, measured_requests

Command = Callable[..., Ended]


def data_with(relevance: Any, judgements: bool) -> Any:
    """Return what `check_relevance` reads of the data."""
    settings, tables = ItemGraphSettings(relevance=relevance), SimpleNamespace(ref="tables/x@1")
    return SimpleNamespace(settings=settings, tables=tables, has_judgements=judgements)


@pytest.mark.parametrize(
    ("relevance", "categories", "judgements", "message"),
    [
        ("category", False, True, "has no product with a category; set it to judgements or basket"),
        ("category", False, False, "has no product with a category; set it to basket"),
        ("judgements", True, False, "has no judgements; set it to category or basket"),
        ("judgements", False, False, "has no judgements; set it to basket"),
    ],
)
def test_relevance_by_what_the_data_lacks_is_refused(
    relevance: Any, categories: bool, judgements: bool, message: str
) -> None:
    with pytest.raises(UsageError, match=f"graph.relevance={relevance}: tables/x@1 {message}$"):
        check_relevance(data_with(relevance, judgements), has_categories=categories)


def test_other_relevance_is_not_refused() -> None:
    refused = set()
    for relevance, categories, judgements in product(
        ("auto", "judgements", "category", "basket", "none"), (True, False), (True, False)
    ):
        try:
            check_relevance(data_with(relevance, judgements), has_categories=categories)
        except UsageError:
            refused.add((relevance, categories, judgements))
    assert refused == {
        *(("category", False, judgements) for judgements in (True, False)),
        *(("judgements", categories, False) for categories in (True, False)),
    }


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 5), max_size=4), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)))),
        max_size=8,
    )
)
def test_requests_are_measured_by_what_is_new_to_their_users(rows: list[tuple[list[int], list[Any]]]) -> None:
    made = [
        {"triggers": triggers, "items": [i for i, _ in items], "actions": [a for _, a in items]}
        for triggers, items in rows
    ]
    fields = [REQUESTS.field(name) for name in ("triggers", "items", "actions")]
    found = measured_requests(pa.Table.from_pylist(made, pa.schema(fields)))
    expected, without_trigger, without_item = [], 0, 0
    for row, (triggers, items) in enumerate(rows):
        chosen = [(item, action) for item, action in items if action > 0 and item not in triggers]
        if not triggers:
            without_trigger += 1
        elif not chosen:
            without_item += 1
        else:
            expected.append((row, chosen))
    assert found.rows.tolist() == [row for row, _ in expected]
    owners = [number for number, (_, chosen) in enumerate(expected) for _ in chosen]
    assert found.owners.tolist() == owners
    pairs = list(zip(found.items.tolist(), found.actions.tolist(), strict=True))
    assert pairs == [pair for _, chosen in expected for pair in chosen]
    assert list(found.left_out.values()) == [without_trigger, without_item]


@pytest.mark.ray
def test_a_log_that_can_not_be_tested_is_refused_before_training(
    raylevance: Command, tmp_path: Path, ray_cluster: None
) -> None:
    """Baskets without a user have no earlier choice; a test part of unknown products has no request."""
    products = [{"product_id": f"p{number}", "title": f"thing {number}"} for number in range(9)]
    events = [
        {
            "request_id": f"r{number // 3}",
            "product_id": f"p{number * 7 % 9}",
            "action": "purchase",
            "timestamp": f"2024-03-{1 + number // 3:02}T09:00:00Z",
        }
        for number in range(60)
    ]

    def refusal(name: str, log: list[dict[str, Any]], catalogue: list[dict[str, Any]] = products) -> str:
        folder = tmp_path / name
        folder.mkdir()
        for table, rows in {"products": catalogue, "events": log}.items():
            if not rows:
                continue
            (folder / f"{table}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = ("--set", "data.source=tables", "--set", f"data.folder={folder}")
        ended = raylevance("run", "item-retrieval", *data, "--store", folder / "store")
        assert ended.code == 1 and "graph/" not in ended.err
        return ended.err.strip().splitlines()[-1]

    line = refusal("baskets", events)
    assert re.search(r"tables/tables@\w+: no request from 2024-03-19 00:00 UTC on can be measured: 2 without a t", line)
    assert "0 without a new item; events need a user_id, or a session_id that several requests share" in line
    alone = [{**event, "session_id": event["request_id"]} for event in events]
    assert "events need a user_id" in refusal("sessions", alone)
    shown = [
        {**event, "user_id": "u", "action": "exposure" if place >= 54 else "click"}
        for place, event in enumerate(events)
    ]
    assert "has no products; item retrieval needs products and events" in refusal("events", events, [])
    line = refusal("exposures", shown)
    assert "0 without a trigger, 2 without a new item that its user chose there; change split.test_days" in line
