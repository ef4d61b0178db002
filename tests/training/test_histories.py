"""Histories: what is written of the requests of a log, and what a step draws of them, against loops."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from raylevance.errors import RaylevanceError
from raylevance.graph.item_graph import ITEMS, QUERIES, REQUESTS_FOLDER
from raylevance.graph.item_requests import REQUESTS as REQUESTS_OF_LOG
from raylevance.graph.query_categories import QUERY_CATEGORIES
from raylevance.training.task import WorkerContext
from raylevance.training.tasks.item_retrieval import histories
from raylevance.training.tasks.item_retrieval.histories import Histories, users_of_two_items, write_histories

SIZE = 40


def random_requests(seed: int, count: int = 60) -> list[dict[str, object]]:
    """Requests of ten users and an unknown one, with shown, chosen and repeated items, and weights of 0."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for number in random.permutation(count).tolist():
        triggers = random.choice(SIZE, random.integers(0, 8), replace=False)
        items = np.sort(random.choice(SIZE, random.integers(1, 7), replace=False))
        user = "" if number % 11 == 10 else f"ü{number % 11}"
        weights = np.sort(random.uniform(0.1, 2, len(triggers)))[::-1].astype(np.float32) * (number % 7 > 0)
        rows.append(
            {
                "request_id": f"r{number}",
                "user_id": user,
                "query_id": ["q1", "q2", None][number % 3],
                "time": int(random.integers(100)),
                "triggers": triggers.tolist(),
                "trigger_weights": weights.tolist(),
                "items": items.tolist(),
                "actions": random.integers(0, 4, len(items)).tolist(),
            }
        )
    return rows


def write_log(folder: Path, rows: list[dict[str, object]], first_time: list[int | None]) -> Path:
    (folder / REQUESTS_FOLDER).mkdir(parents=True)
    columns = {"category": [[f"c{item % 2}"] for item in range(SIZE)], "first_time": pa.array(first_time, pa.int64())}
    pq.write_table(pa.table(columns), folder / ITEMS)
    known = pa.Table.from_pylist([{"query_id": "q1", "category": 1}], QUERY_CATEGORIES)
    pq.write_table(known, folder / QUERIES)
    halves = (rows[: len(rows) // 2], rows[len(rows) // 2 :])
    for place, part in enumerate(halves):
        pq.write_table(
            pa.Table.from_pylist(part, REQUESTS_OF_LOG), folder / REQUESTS_FOLDER / f"part-{place:06}.parquet"
        )
    return folder


def read(file: Path) -> list[dict[str, list[float]]]:
    return list(pa.ipc.open_file(pa.memory_map(str(file))).read_all().to_pylist())


def test_requests_as_they_happened_equal_a_loop(tmp_path: Path) -> None:
    rows = random_requests(0)
    first_time = [None if item % 9 == 8 else item * 2 for item in range(SIZE)]
    write_histories(write_log(tmp_path / "graph", rows, first_time), tmp_path / "out")
    expected = []
    for row in rows:
        # Category 1 is that of the even items.
        wanted = row["query_id"] == "q1" and any(item % 2 == 0 for item in row["triggers"])
        pairs = zip(row["triggers"], row["trigger_weights"], strict=True)
        weights = [0.0 if wanted and item % 2 else weight**0.25 for item, weight in pairs]
        chosen = []
        for item, action in zip(row["items"], row["actions"], strict=True):
            if action > 0 and item not in row["triggers"]:
                first = first_time[item]
                chosen.append(item + SIZE * (first is None or first >= row["time"]))
        if any(weights) and chosen:
            expected.append((row["triggers"], weights, chosen))
    found = read(tmp_path / "out" / histories.REQUESTS)
    assert len(found) == len(expected) > 20
    for row, (triggers, weights, chosen) in zip(found, expected, strict=True):
        assert row["triggers"] == triggers
        assert row["weights"] == pytest.approx(weights)
        assert row["chosen"] == chosen


def test_users_of_two_items_equal_a_loop() -> None:
    rows = random_requests(1)
    chosen: dict[str, set[int]] = {}
    for row in rows:
        user = row["user_id"] or f"unknown {row['request_id']}"
        own = [item for item, action in zip(row["items"], row["actions"], strict=True) if action > 0]
        chosen.setdefault(user, set()).update(own)
    found = users_of_two_items(pa.Table.from_pylist(rows, REQUESTS_OF_LOG), SIZE)
    expected = sorted(sorted(items) for items in chosen.values() if len(items) > 1)
    assert sorted(found["items"].to_pylist()) == expected
    assert len(expected) > 10


def test_a_step_draws_triggers_and_targets_of_its_histories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "MOST", 3)
    write_histories(write_log(tmp_path / "graph", random_requests(2), [0] * SIZE), tmp_path / "out")
    requests, users = (read(tmp_path / "out" / name) for name in (histories.REQUESTS, histories.USERS))
    drawn, halves = Histories(tmp_path / "out", SIZE, 15, seed=4), set()
    for step in range(40):
        batch = drawn.draw(step)
        assert batch.size == 15
        np.testing.assert_allclose(np.bincount(batch.trigger_rows, batch.weights), 1, rtol=1e-6)
        for history in range(15):
            triggers = batch.triggers[batch.trigger_rows == history].tolist()
            targets = batch.targets[batch.target_rows == history].tolist()
            excluded = set(batch.excluded[batch.excluded_rows == history].tolist())
            assert set(triggers) <= excluded
            assert not excluded & {item % SIZE for item in targets}
            assert 1 <= len(triggers) <= 3
            assert 1 <= len(targets) <= 3
            assert len({item % SIZE for item in triggers + targets}) == len(triggers) + len(targets)
            if history < 8:
                assert any(
                    [item for item, weight in zip(row["triggers"], row["weights"], strict=True) if weight][:3]
                    == triggers
                    and excluded == {*row["triggers"], *(code % SIZE for code in {*row["chosen"]} - {*targets})}
                    and set(targets) <= set(row["chosen"])
                    for row in requests
                )
            else:
                assert any({*targets, *excluded} == set(row["items"]) for row in users), "all it chose is no negative"
                halves.add((tuple(triggers), tuple(targets)))
    assert len(halves) > 200, "the halves of a user differ from draw to draw"
    again, other = (
        Histories(tmp_path / "out", SIZE, 15, seed=4).draw(7),
        Histories(tmp_path / "out", SIZE, 15, seed=5).draw(7),
    )
    assert again.targets.tolist() == drawn.draw(7).targets.tolist() != other.targets.tolist()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_workers_share_the_histories(tmp_path: Path, size: int) -> None:
    write_histories(write_log(tmp_path / "graph", random_requests(5), [0] * SIZE), tmp_path / "out")
    whole = Histories(tmp_path / "out", SIZE, size, seed=1).draw(3)
    shares = [whole.share(WorkerContext(tmp_path, seed=1, rank=rank, world_size=2)) for rank in range(2)]
    assert sum(share.size for share in shares) == whole.size == size
    for history in range(size):
        share, place = shares[history % 2], history // 2
        for rows, values in (
            ("trigger_rows", "triggers"),
            ("trigger_rows", "weights"),
            ("target_rows", "targets"),
            ("excluded_rows", "excluded"),
        ):
            own = getattr(share, values)[getattr(share, rows) == place]
            assert own.tolist() == getattr(whole, values)[getattr(whole, rows) == history].tolist()


def test_few_requests_are_not_drawn_again_and_again(tmp_path: Path) -> None:
    rows = random_requests(6)
    for row in rows[2:]:
        row["triggers"], row["trigger_weights"] = [], []
    write_histories(write_log(tmp_path / "graph", rows, [0] * SIZE), tmp_path / "out")
    requests = len(read(tmp_path / "out" / histories.REQUESTS))
    assert requests <= 2
    batch = Histories(tmp_path / "out", SIZE, 40, seed=0).draw(0)
    assert (np.bincount(batch.trigger_rows, minlength=40) > 0).all()
    from_users = [weights for weights in np.split(batch.weights, np.flatnonzero(np.diff(batch.trigger_rows)) + 1)]
    assert sum(np.ptp(weights) == 0 for weights in from_users) >= 40 - requests


def test_a_draft_of_a_killed_run_is_written_anew_and_a_whole_folder_is_kept(tmp_path: Path) -> None:
    graph = write_log(tmp_path / "graph", random_requests(7), [0] * SIZE)
    write_histories(graph, tmp_path / "whole")
    (tmp_path / ".out.draft").mkdir()
    for name in (histories.REQUESTS, histories.USERS):
        (tmp_path / ".out.draft" / name).write_bytes(b"torn" * 100_000)
    write_histories(graph, tmp_path / "out")
    for name in (histories.REQUESTS, histories.USERS):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    (tmp_path / "out" / histories.USERS).write_bytes(b"kept")
    write_histories(graph, tmp_path / "out")
    assert (tmp_path / "out" / histories.USERS).read_bytes() == b"kept"


def test_a_step_reads_its_rows_alone(tmp_path: Path) -> None:
    many = [row for seed in range(40) for row in random_requests(seed)]
    graph = write_log(tmp_path / "graph", many, [0] * SIZE)
    for place in range(2, 20):
        shutil.copy(
            graph / REQUESTS_FOLDER / "part-000000.parquet", graph / REQUESTS_FOLDER / f"part-{place:06}.parquet"
        )
    write_histories(graph, tmp_path / "out")
    size = (tmp_path / "out" / histories.REQUESTS).stat().st_size
    drawn = Histories(tmp_path / "out", SIZE, 8, seed=0)
    before = pa.total_allocated_bytes()
    peak = max(pa.default_memory_pool().max_memory(), before)
    for step in range(50):
        drawn.draw(step)
    assert pa.default_memory_pool().max_memory() - peak < size / 10
    assert size > 500_000


def test_a_log_of_baskets_of_unknown_users_draws_users_only(tmp_path: Path) -> None:
    rows = [{**row, "user_id": "", "triggers": [], "trigger_weights": []} for row in random_requests(3)]
    write_histories(write_log(tmp_path / "graph", rows, [0] * SIZE), tmp_path / "out")
    assert read(tmp_path / "out" / histories.REQUESTS) == []
    assert Histories(tmp_path / "out", SIZE, 6, seed=0).draw(0).size == 6


def test_a_log_without_two_choices_is_named(tmp_path: Path) -> None:
    rows = [{**row, "actions": [0] * len(row["actions"])} for row in random_requests(4)]
    with pytest.raises(RaylevanceError, match="no user of the log chose two items; set it to 0"):
        write_histories(write_log(tmp_path / "graph", rows, [0] * SIZE), tmp_path / "out")
