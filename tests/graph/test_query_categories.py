"""The category of queries, and triggers that fit it, against loops."""

import numpy as np
import pyarrow as pa
import pytest
import ray.data

from raylevance.graph.item_requests import REQUESTS
from raylevance.graph.query_categories import categories_of, query_categories, with_fitting_triggers

CATEGORIES = np.array([1, 1, 2, 2, 0, 3])
BELOW = np.array([[0, 0], [2, 2], [3, 3], [4, 4]])


def requests(rows: list[tuple[str | None, list[int], list[tuple[int, int]]]]) -> pa.Table:
    made = [
        {
            "request_id": str(number),
            "user_id": "u",
            "query_id": query,
            "time": number,
            "triggers": triggers,
            "trigger_weights": [1.0 / (place + 1) for place in range(len(triggers))],
            "items": [item for item, _ in items],
            "actions": [action for _, action in items],
        }
        for number, (query, triggers, items) in enumerate(rows)
    ]
    return pa.Table.from_pylist(made, REQUESTS)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_query_has_the_category_that_was_chosen_most_often() -> None:
    table = requests(
        [
            ("q", [], [(0, 1), (2, 0), (3, 0)]),
            ("q", [], [(2, 3), (1, 1)]),
            ("tie", [], [(5, 1)]),
            ("tie", [], [(3, 2)]),
            ("only shown", [], [(3, 0)]),
            ("no category", [], [(4, 1)]),
            (None, [], [(0, 1)]),
        ]
    )
    for blocks in (1, 4):
        found = query_categories(ray.data.from_arrow(table).repartition(blocks), CATEGORIES)
        assert dict(zip(*found.to_pydict().values(), strict=True)) == {"q": 1, "tie": 2}
    assert categories_of(pa.chunked_array([["tie", None, "?", "q"]]), found).tolist() == [2, 0, 0, 1]


def test_triggers_of_other_categories_are_left_out_unless_none_fits() -> None:
    known = pa.table({"query_id": ["a", "b"], "category": [1, 3]})
    table = requests(
        [("a", [2, 0, 4, 1], [(3, 1)]), ("b", [2, 0], []), (None, [4, 2], []), ("?", [0], []), ("a", [], [(0, 1)])]
    )
    found = with_fitting_triggers(table, known, CATEGORIES, BELOW)
    assert found["triggers"].to_pylist() == [[0, 1], [2, 0], [4, 2], [0], []]
    assert found["trigger_weights"].to_pylist()[0] == pytest.approx([1 / 2, 1 / 4])
    assert found["items"].equals(table["items"])
    assert found.schema == REQUESTS


def test_a_trigger_below_the_category_of_the_query_fits() -> None:
    """Categories 2 and 3 are below 1; the query of 2 takes neither 1 nor 3."""
    below = np.array([[0, 0], [2, 4], [3, 3], [4, 4], [5, 5]])
    categories = np.array([1, 2, 3, 4])
    known = pa.table({"query_id": ["wide", "narrow"], "category": [1, 2]})
    table = requests([("wide", [3, 2, 0, 1], []), ("narrow", [0, 1, 2, 3], []), ("narrow", [3, 0], [])])
    found = with_fitting_triggers(table, known, categories, below)
    assert found["triggers"].to_pylist() == [[2, 0, 1], [1], [3, 0]]
