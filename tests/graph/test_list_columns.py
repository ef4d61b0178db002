"""List columns as flat arrays and back, and the choices that are read through them, against loops."""

import numpy as np
import pyarrow as pa
import pytest

from raylevance.graph.item_choices import choices_of_users, chosen_items
from raylevance.graph.item_requests import REQUESTS
from raylevance.graph.list_columns import flat_lists, list_column

ITEMS = 12


def test_lists_of_several_chunks_are_flattened_and_made_again() -> None:
    kind = pa.list_(pa.int32())
    whole = pa.array([[9], [1, 2], [], [3], None, [4, 5, 6]], kind)
    lists = pa.chunked_array([whole.slice(1, 2), pa.array([], kind), whole.slice(3)])
    rows, values = flat_lists(lists)
    assert rows.tolist() == [0, 0, 2, 4, 4, 4]
    assert values.tolist() == [1, 2, 3, 4, 5, 6]
    again = list_column(np.bincount(rows, minlength=5), values)
    assert again.to_pylist() == [[1, 2], [], [3], [], [4, 5, 6]]
    assert list_column(np.array([1, 0]), pa.array(["é"])).to_pylist() == [["é"], []]


def test_more_values_than_an_offset_counts_are_refused() -> None:
    with pytest.raises(pa.ArrowInvalid):
        list_column(np.array([2**31 - 1, 1]), np.zeros(0))


def requests(seed: int) -> list[dict[str, object]]:
    """Requests of a few users, of whom some only look; user "" is unknown."""
    random, rows = np.random.default_rng(seed), list[dict[str, object]]()
    for number in range(50):
        items = random.choice(ITEMS, random.integers(0, 5), replace=False).tolist()
        user = ["", "ü", "7", "only looks", "é"][number % 5]
        actions = [0 if user == "only looks" else int(random.integers(0, 3)) for _ in items]
        names = {"request_id": f"r{number}", "user_id": user, "query_id": None, "time": 0}
        rows.append({**names, "triggers": [], "trigger_weights": [], "items": items, "actions": actions})
    return rows


def test_choices_are_those_of_a_loop_in_any_order_of_rows() -> None:
    rows = requests(0)
    expected: dict[str, set[int]] = {}
    for row in rows:
        user = str(row["user_id"] or row["request_id"])
        pairs = zip(row["items"], row["actions"], strict=True)  # type: ignore[call-overload]
        expected.setdefault(user, set()).update(item for item, action in pairs if action > 0)
    table = pa.Table.from_pylist(rows, REQUESTS)
    found = choices_of_users(table, ITEMS)
    assert len(chosen_items(table)[0]) > len(found.indices) == sum(map(len, expected.values()))
    lists = [found.row(user)[0].tolist() for user in range(found.rows)]
    assert sorted(filter(None, lists)) == sorted(sorted(items) for items in expected.values() if items)
    shuffled = table.take(np.random.default_rng(1).permutation(len(rows)))
    again = choices_of_users(shuffled, ITEMS)
    assert again.indptr.tolist() == found.indptr.tolist()
    assert again.indices.tolist() == found.indices.tolist()
