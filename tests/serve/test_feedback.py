"""Events are on the disk before they are acknowledged, and each is imported once, whatever dies in between."""

import asyncio
import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylevance.client.messages import Event
from serve.feedback import Feedback
from serve.journal import Journal, NotKeptError, unlocked

NEVER_S = 3600


def event(event_id: str, query_id: str = "q1", product: str = "P1", **more: Any) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "action_name": "click",
        "query_id": query_id,
        "timestamp": "2026-05-01T12:00:00.123456+02:00",
        "event_attributes": {"object": {"object_id": product}},
        **more,
    }


def keep(feedback: Feedback, *events: dict[str, Any]) -> tuple[int, int]:
    kept = asyncio.run(feedback.keep([Event.model_validate(each) for each in events]))
    return kept.accepted, kept.repeated


def rows(store: Path, table: str) -> list[dict[str, Any]]:
    files = sorted((store / "feedback").glob(f"ubi_{table}-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def event_ids(store: Path) -> list[str]:
    return [row["event_id"] for row in rows(store, "events")]


def journals(store: Path) -> list[Path]:
    return sorted((store / ".work" / "feedback").iterdir())


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def open_feedback(tmp_path: Path) -> Iterator[Callable[..., Feedback]]:
    """Return a function that opens the store `tmp_path`; what it opened is closed in the end."""
    opened: list[Feedback] = []

    def make(publish_every_s: float = NEVER_S, **options: Any) -> Feedback:
        opened.append(Feedback(tmp_path, publish_every_s, **options))
        return opened[-1]

    yield make
    for feedback in opened:
        feedback.close()


def test_events_and_queries_become_files_of_ubi(open_feedback: Callable[..., Feedback], tmp_path: Path) -> None:
    feedback = open_feedback()
    feedback.answered("q1", "café\u2028 “lamp”\n")
    position = {"object": {"object_id": "P\\"}, "position": {"ordinal": 2**31 - 1}}
    assert keep(feedback, event("e1"), event("e2", client_id="ü", event_attributes=position)) == (2, 0)
    assert rows(tmp_path, "events") == []
    feedback.close()
    assert [(row["query_id"], row["user_query"]) for row in rows(tmp_path, "queries")] == [
        ("q1", "café\u2028 “lamp”\n")
    ]
    assert abs(rows(tmp_path, "queries")[0]["timestamp"] - datetime.now(UTC)) < timedelta(minutes=5)
    assert rows(tmp_path, "events") == [
        {
            "event_id": name,
            "action_name": "click",
            "query_id": "q1",
            "timestamp": datetime(2026, 5, 1, 10, 0, 0, 123_000, UTC),
            "client_id": client,
            "session_id": None,
            "event_attributes": attributes,
        }
        for name, client, attributes in [
            ("e1", None, {"object": {"object_id": "P1"}, "position": None}),
            ("e2", "ü", position),
        ]
    ]
    assert journals(tmp_path) == []
    assert (feedback.counts.events, feedback.counts.queries) == (2, 1)


def test_an_event_that_is_sent_again_is_kept_once(open_feedback: Callable[..., Feedback], tmp_path: Path) -> None:
    feedback = open_feedback()
    assert keep(feedback, event("e1", product="first"), event("e1"), event("e1", "q2"), event("e1")) == (4, 2)
    assert keep(feedback, event("e2"), event("e1")) == (2, 0)
    feedback.close()
    found = [(row["query_id"], row["event_id"]) for row in rows(tmp_path, "events")]
    assert found == [("q1", "e1"), ("q2", "e1"), ("q1", "e2")]
    assert rows(tmp_path, "events")[0]["event_attributes"]["object"]["object_id"] == "first"
    assert feedback.counts.repeated_events == 1


def test_one_fsync_for_all_that_wait(
    open_feedback: Callable[..., Feedback], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one flush takes long, requests gather for the next. The event loop goes on meanwhile."""
    feedback = open_feedback()
    flushes, flush = [], os.fsync

    def slow(descriptor: int) -> None:
        flushes.append(descriptor)
        time.sleep(0.3)
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", slow)

    async def burst() -> int:
        tasks = [
            asyncio.create_task(feedback.keep([Event.model_validate(event(f"e{number}"))])) for number in range(64)
        ]
        turns = 0
        while not all(task.done() for task in tasks):
            turns += 1
            await asyncio.sleep(0.01)
        return turns

    assert asyncio.run(burst()) > 10
    assert len(flushes) <= 4, "the folder, the first request, and the others"
    monkeypatch.undo()
    feedback.close()
    assert len(event_ids(tmp_path)) == 64


def test_a_line_that_a_crash_cut_off(open_feedback: Callable[..., Feedback], tmp_path: Path) -> None:
    """It was not acknowledged, and is dropped and counted. A damaged line is put aside, and costs no other."""
    folder = tmp_path / ".work" / "feedback"
    folder.mkdir(parents=True)
    whole = [json.dumps(event(f"e{number}", timestamp="2026-05-01T10:00:00Z")).encode() for number in range(3)]
    (folder / "20260501T100000-torn.jsonl").write_bytes(b"\n".join(whole[:2]) + b"\n" + whole[2][:-20])
    damaged = [whole[0], b"\0" * 30, b'{"event_id": "7", "timestamp": "?"}', whole[2]]
    (folder / "20260501T100001-damaged.jsonl").write_bytes(b"\n".join(damaged) + b"\n")
    (folder / "20260501T100002-empty.jsonl").touch()
    feedback = open_feedback()
    feedback.close()
    assert event_ids(tmp_path) == ["e0", "e1", "e0", "e2"]
    assert (feedback.counts.torn_lines, feedback.counts.damaged_lines) == (1, 2)
    assert [file.read_bytes() for file in journals(tmp_path)] == [b"\n".join(damaged[1:3])]


def test_a_kill_between_publishing_and_removal(
    open_feedback: Callable[..., Feedback], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is published again, under the same names."""
    feedback = open_feedback()
    feedback.answered("q1", "lamp")
    keep(feedback, event("e1"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError("killed")))
        feedback.close()
    assert (event_ids(tmp_path), len(rows(tmp_path, "queries")), len(journals(tmp_path))) == (["e1"], 1, 1)
    open_feedback().close()
    assert (event_ids(tmp_path), len(rows(tmp_path, "queries")), len(journals(tmp_path))) == (["e1"], 1, 0)


def test_events_are_published_after_the_queries_of_all_processes(
    open_feedback: Callable[..., Feedback], tmp_path: Path
) -> None:
    """So that an import finds the queries of the events that it finds, whoever answered them."""
    feedback = open_feedback(publish_every_s=1.5)
    feedback.answered("q1", "lamp")
    keep(feedback, event("e1", "q1"))
    wait_until(lambda: event_ids(tmp_path) == ["e1"])
    times = [next((tmp_path / "feedback").glob(f"ubi_{table}-*")).stat().st_ctime for table in ("queries", "events")]
    assert times[1] - times[0] > 1
    assert journals(tmp_path) == []


def test_queries_are_written_without_events(open_feedback: Callable[..., Feedback], tmp_path: Path) -> None:
    feedback = open_feedback(segment_bytes=1)
    feedback.answered("q1", "lamp")
    wait_until(lambda: any(file.stat().st_size for file in journals(tmp_path)), 5)
    assert b"lamp" in b"".join(file.read_bytes() for file in journals(tmp_path))


def test_a_disk_that_is_full_when_files_are_published(
    open_feedback: Callable[..., Feedback], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feedback = open_feedback()
    keep(feedback, event("e1"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", None)

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(Path, "replace", full)
        feedback.close()
    assert rows(tmp_path, "events") == []
    assert feedback.counts.failures == 1
    open_feedback().close()
    assert event_ids(tmp_path) == ["e1"]
    assert journals(tmp_path) == []


def test_a_fault_of_the_folder_of_journals_does_not_end_the_publishing(
    open_feedback: Callable[..., Feedback], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [OSError(errno.ESTALE, "Stale file handle"), OSError(errno.EIO, "Input/output error")]
    end_segment = Journal.end_segment

    def fail_at_first(journal: Journal) -> None:
        if faults:
            raise faults.pop()
        end_segment(journal)

    monkeypatch.setattr(Journal, "end_segment", fail_at_first)
    feedback = open_feedback(publish_every_s=0.05)
    keep(feedback, event("e1"))
    wait_until(lambda: event_ids(tmp_path) == ["e1"])
    assert feedback.counts.failures == 2


def test_events_that_come_faster_than_the_disk_writes_are_refused(
    open_feedback: Callable[..., Feedback], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.journal.MAX_WAITING_BYTES", 1_000)
    feedback = open_feedback()
    go_on, flush = threading.Event(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (go_on.wait(30), flush(descriptor))[1])

    async def burst() -> list[Any]:
        sending = [
            asyncio.create_task(feedback.keep([Event.model_validate(event(f"e{number}"))])) for number in range(50)
        ]
        await asyncio.sleep(0.2)
        for number in range(50):
            feedback.answered(f"q{number}", "lamp")
        go_on.set()
        return await asyncio.gather(*sending, return_exceptions=True)

    outcomes = asyncio.run(burst())
    refused = [outcome for outcome in outcomes if isinstance(outcome, NotKeptError)]
    assert 0 < len(refused) < 50
    assert "too slow" in str(refused[0])
    feedback.close()
    assert len(event_ids(tmp_path)) == 50 - len(refused)
    assert 0 < feedback.counts.lost_queries < 50
    assert len(rows(tmp_path, "queries")) == 50 - feedback.counts.lost_queries


def test_a_request_that_was_given_up(open_feedback: Callable[..., Feedback], tmp_path: Path) -> None:
    """Its events may be kept or not; those of others are."""
    feedback = open_feedback()

    async def burst() -> None:
        sending = [
            asyncio.create_task(feedback.keep([Event.model_validate(event(f"e{number}"))])) for number in range(40)
        ]
        await asyncio.sleep(0)
        for task in sending[::2]:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)

    asyncio.run(burst())
    feedback.close()
    assert {f"e{number}" for number in range(1, 40, 2)} <= set(event_ids(tmp_path))
    with pytest.raises(NotKeptError, match="stopping"):
        keep(feedback, event("late"))
    feedback.close()


def test_events_are_not_taken_into_a_file_that_was_removed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", 1 << 20)
    journal.append(b"one\n").result(10)
    [file] = (tmp_path / "journal").iterdir()
    file.unlink()
    with pytest.raises(NotKeptError, match="the file was removed"):
        journal.append(b"two\n").result(10)
    journal.append(b"three\n").result(10)
    journal.close()
    [after] = (tmp_path / "journal").iterdir()
    assert after.read_bytes() == b"three\n"


def test_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journals are in a cache that all object stores share; each takes over its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    dead = Feedback("mock:///one", NEVER_S)
    dead.answered("q1", "lamp")
    keep(dead, event("e1"))
    dead._journal.close()
    other, again = Feedback("mock:///other", NEVER_S), Feedback("mock:///one", NEVER_S)
    keep(other, event("e2"))
    keep(again, event("e3"))
    for feedback, names in ((other, ["e2"]), (again, ["e1", "e3"])):
        feedback.close()
        infos = feedback._fs.get_file_info(pa.fs.FileSelector(feedback._folder))
        files = {info.base_name: pq.read_table(feedback._fs.open_input_file(info.path)) for info in infos}
        tables = [file for name, file in files.items() if name.startswith("ubi_events-")]
        queries = [file["query_id"].to_pylist() for name, file in files.items() if name.startswith("ubi_queries-")]
        assert sorted(pa.concat_tables(tables)["event_id"].to_pylist()) == names
        assert queries == ([["q1"]] if feedback is again else [])
    dead.close()
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_a_lock_is_of_the_file_that_has_the_name(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    file.touch()
    with unlocked(file) as first, unlocked(file) as second:
        assert (first, second) == (True, False)
        file.unlink()
    with unlocked(file) as gone:
        assert not gone


def test_a_file_that_is_replaced_before_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process published and removed it, or took a file for abandoned that was just made."""
    lock = fcntl.flock

    def late(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        for file in tmp_path.iterdir():
            file.unlink()
            if file.name == "published":
                file.touch()
        lock(descriptor, how)

    (tmp_path / "published").touch()
    monkeypatch.setattr(fcntl, "flock", late)
    with unlocked(tmp_path / "published") as is_ours:
        assert not is_ours
    monkeypatch.setattr(fcntl, "flock", late)
    journal = Journal(tmp_path, 1 << 20)
    journal.append(b"line\n").result(10)
    journal.close()
    assert [file.read_bytes() for file in tmp_path.glob("*.jsonl")] == [b"line\n"]
