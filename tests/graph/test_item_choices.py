"""What users chose, and how often before and after a time, against loops."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylevance.graph.item_choices import choices_of_users, chosen_items, requests_before_and_after
from raylevance.graph.item_requests import REQUESTS

ITEMS = 12


def requests(seed: int) -> list[dict[str, object]]:
    """Requests of a few users, of whom some only look; user "" is unknown."""
    random, rows = np.random.default_rng(seed), list[dict[str, object]]()
    for number in range(50):
        items = random.choice(ITEMS, random.integers(0, 5), replace=False).tolist()
        user = ["", "ü", "7", "only looks", "é"][number % 5]
        actions = [0 if user == "only looks" else int(random.integers(0, 3)) for _ in items]
        names = {"request_id": f"r{number}", "user_id": user, "query_id": None, "time": int(random.integers(9))}
        triggers = random.choice(ITEMS, random.integers(0, 4), replace=False).tolist()
        weights = [1.0] * len(triggers)
        rows.append({**names, "triggers": triggers, "trigger_weights": weights, "items": items, "actions": actions})
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


def test_requests_before_and_after_are_those_of_a_loop(tmp_path: Path) -> None:
    rows = requests(2)
    for place, part in enumerate((rows[:20], rows[20:21], [], rows[21:])):
        pq.write_table(pa.Table.from_pylist(part, REQUESTS), tmp_path / f"part-{place}.parquet")
    times = sorted(int(row["time"]) for row in rows)  # type: ignore[call-overload]
    cut = times[len(times) * 7 // 8]
    before, after = [0] * ITEMS, [0] * ITEMS
    for row in rows:
        for item, action in zip(row["items"], row["actions"], strict=True):  # type: ignore[call-overload]
            if int(row["time"]) < cut:  # type: ignore[call-overload]
                before[item] += 1
            elif action > 0 and item not in row["triggers"]:  # type: ignore[operator]
                after[item] += 1
    found = requests_before_and_after(tmp_path, ITEMS)
    assert (found[0].tolist(), found[1].tolist()) == (before, after)
    assert sum(after) > 3


@pytest.mark.parametrize(("times", "earlier"), [([], 0), ([3, 3, 3], 0), ([0] * 9 + [5], 9), ([4, 0, 0, 2], 3)])
def test_later_requests_are_never_all_of_those_with_several_times(
    tmp_path: Path, times: list[int], earlier: int
) -> None:
    row = {"request_id": "r", "user_id": "u", "triggers": [], "trigger_weights": [], "items": [1], "actions": [1]}
    rows = [{**row, "time": time} for time in times]
    pq.write_table(pa.Table.from_pylist(rows, REQUESTS), tmp_path / "part-0.parquet")
    before, after = requests_before_and_after(tmp_path, ITEMS)
    assert (before[1], after[1]) == (earlier, len(times) - earlier if earlier else 0)
