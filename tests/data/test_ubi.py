"""User Behavior Insights: requests with one text become one query; events keep request, position and action."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylevance.data.importing import import_tables
from raylevance.data.readers.ubi import read_ubi
from raylevance.errors import RaylevanceError

pytestmark = pytest.mark.ray

QUERIES = [
    {"query_id": "r1", "user_query": "Red  shoes", "client_id": "c1", "timestamp": "2025-02-18T10:00:00Z"},
    {"query_id": "r2", "user_query": "red shoes", "client_id": "c2", "query_response_hit_ids": ["9"]},
    {"query_id": "r3", "user_query": "mug", "query_attributes": {"experiment": "a"}},
]


def event(action: str, request: str | None, product: Any, ordinal: Any, **more: Any) -> dict[str, Any]:
    return {
        "action_name": action,
        "query_id": request,
        "client_id": "c1",
        "session_id": "s1",
        "timestamp": "2025-02-18T10:00:05.250+00:00",
        "message_type": "INFO",
        "event_attributes": {
            "object": {"object_id": product, "object_id_field": "sku"},
            "position": {"ordinal": ordinal},
        },
        **more,
    }


EVENTS = [
    event("impression", "r1", "9", 1),
    event("click", "r2", 9, 3),
    event("product_hover", "r1", "9", 1),
    event("add_to_cart", "r3", "7", None),
    event("purchase", None, "7", None),
    event("view", "r2", "8", 2),
]


def write_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("bytes_per_bucket", [1 << 20, 300])
def test_queries_and_events(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_per_bucket: int
) -> None:
    monkeypatch.setattr("raylevance.data.streamed_files.BYTES_PER_BUCKET", bytes_per_bucket)
    write_lines(tmp_path / "ubi_queries.jsonl", QUERIES)
    write_lines(tmp_path / "ubi_events.jsonl", EVENTS)
    summary = import_tables(read_ubi(tmp_path), tmp_path / "tables")
    assert summary.rows == {"queries": 2, "events": 5}
    queries = {row["query"]: row["query_id"] for row in pq.read_table(tmp_path / "tables" / "queries").to_pylist()}
    assert set(queries) == {"Red  shoes", "mug"}
    rows = pq.read_table(tmp_path / "tables" / "events").to_pylist()
    found = {(row["request_id"], row["query_id"], row["product_id"], row["position"], row["action"]) for row in rows}
    assert found == {
        ("r1", queries["Red  shoes"], "9", 1, "exposure"),
        ("r2", queries["Red  shoes"], "9", 3, "click"),
        ("r3", queries["mug"], "7", None, "cart"),
        ("r2", queries["Red  shoes"], "8", 2, "exposure"),
        ("s1", None, "7", None, "purchase"),
    }
    assert {row["timestamp"].isoformat(timespec="milliseconds") for row in rows} == {"2025-02-18T10:00:05.250+00:00"}


def test_parquet_with_nested_columns(ray_cluster: None, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"query_id": "r1", "user_query": "mug"}]), tmp_path / "ubi_queries.parquet")
    milliseconds = 1739872805250
    rows = [event("click", "r1", item, {"index": at}, timestamp=milliseconds) for item, at in (("9", 4), ("8", 2))]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "ubi_events.parquet")
    assert import_tables(read_ubi(tmp_path), tmp_path / "tables").rows == {"queries": 1, "events": 2}
    events = pq.read_table(tmp_path / "tables" / "events")
    assert events["position"].to_pylist() == [4, 2]
    assert events["product_id"].to_pylist() == ["9", "8"]
    assert events["timestamp"].cast(pa.int64()).to_pylist() == [milliseconds] * 2


def test_an_event_of_an_unknown_request(ray_cluster: None, tmp_path: Path) -> None:
    write_lines(tmp_path / "ubi_queries.jsonl", QUERIES)
    write_lines(tmp_path / "ubi_events.jsonl", [EVENTS[0], event("click", "r9", "9", 1)])
    with pytest.raises(RaylevanceError, match=r"ubi_events.jsonl: row 2: query_id is not in ubi_queries"):
        import_tables(read_ubi(tmp_path), tmp_path / "tables")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_position_without_an_object_around_it(ray_cluster: None, tmp_path: Path, suffix: str) -> None:
    """It is the position, and is not lost; an object that has no ordinal says none."""
    write_lines(tmp_path / "ubi_queries.jsonl", QUERIES)
    files: list[list[Any]] = [[5, "6", None], [{"xy": {"x": 1}}, {"ordinal": 7}]]
    if suffix == ".jsonl":
        files = [[*files[0], *files[1]]]
    for number, positions in enumerate(files):
        rows = [
            event("click", "r1", "9", None, event_attributes={"object": {"object_id": "9"}, "position": at})
            for at in positions
        ]
        if suffix == ".jsonl":
            write_lines(tmp_path / "ubi_events.jsonl", rows)
        else:
            same_type = [str(at) if at is not None else None for at in positions] if number == 0 else positions
            for row, at in zip(rows, same_type, strict=True):
                row["event_attributes"]["position"] = at
            pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"ubi_events-{number}.parquet")
    import_tables(read_ubi(tmp_path), tmp_path / "tables")
    events = pq.read_table(tmp_path / "tables" / "events").to_pylist()
    assert [row["position"] for row in events] == [5, 6, None, None, 7]
    odd = event("click", "r1", "9", None, event_attributes={"object": {"object_id": "9"}, "position": [3]})
    write_lines(tmp_path / "ubi_events-9.jsonl", [odd])
    with pytest.raises(RaylevanceError, match=r"ubi_events-9.jsonl: row 1: event_attributes.position is not of type"):
        import_tables(read_ubi(tmp_path), tmp_path / "again")


@pytest.mark.parametrize("bytes_per_bucket", [1 << 20, 1000])
def test_a_request_with_several_texts(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_per_bucket: int
) -> None:
    """Which of them an event is about is not known. Spellings of one query are one text."""
    monkeypatch.setattr("raylevance.data.streamed_files.BYTES_PER_BUCKET", bytes_per_bucket)
    again = [{"query_id": "r1", "user_query": "RED shoes "}, {"query_id": "r3", "user_query": "blue mug"}]
    write_lines(tmp_path / "ubi_queries.jsonl", [*QUERIES, *again])
    write_lines(tmp_path / "ubi_events.jsonl", EVENTS)
    summary = import_tables(read_ubi(tmp_path), tmp_path / "tables", "quarantine")
    assert summary.quarantined == {"events": {"query_id has several texts in ubi_queries": 1}}
    requests = pq.read_table(tmp_path / "tables" / "events")["request_id"].to_pylist()
    assert sorted(requests) == ["r1", "r2", "r2", "s1"]


@pytest.mark.parametrize(("suffix", "bytes_per_bucket"), [(".jsonl", 1000), (".parquet", 1 << 20)])
def test_an_event_that_was_sent_twice(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_per_bucket: int, suffix: str
) -> None:
    """It is read once, wherever it was sent to. Events without an id, or of other queries, repeat nothing."""
    monkeypatch.setattr("raylevance.data.streamed_files.BYTES_PER_BUCKET", bytes_per_bucket)
    write_lines(tmp_path / "ubi_queries.jsonl", QUERIES)
    sent = [
        [
            event("click", "r1", "9", 1, event_id="e1"),
            event("click", "r1", "8", 2, event_id="e\U0001f600"),
            event("click", "r1", "9", 1, event_id=None),
            event("product_hover", "r1", "9", 1, event_id="e2"),
        ],
        [
            event("click", "r1", "9", 1, event_id="e1"),
            event("click", "r3", "9", 1, event_id="e1"),
            event("cart", "r1", "9", 1, event_id="e2"),
            event("click", "r1", "9", 1),
            event("click", "r1", "8", 2, event_id="e\U0001f600"),
            event("click", "r1", "9", 1, event_id="e1"),
        ],
    ]
    for number, events in enumerate(sent):
        file = tmp_path / f"ubi_events-{number}{suffix}"
        write_lines(file, events) if suffix == ".jsonl" else pq.write_table(pa.Table.from_pylist(events), file)
    summary = import_tables(read_ubi(tmp_path), tmp_path / "tables")
    assert summary.dropped["events"] == {"action product_hover is not read": 1, "repeats an event_id": 3}
    assert summary.read["events"] == 10
    rows = pq.read_table(tmp_path / "tables" / "events").to_pylist()
    found = sorted((row["request_id"], row["product_id"], row["action"]) for row in rows)
    r1 = [("r1", "8", "click"), ("r1", "9", "cart"), *[("r1", "9", "click")] * 3]
    assert found == [*r1, ("r3", "9", "click")]
    assert summary.repeated_events == 2
    assert "event_id" not in pq.read_schema(next((tmp_path / "tables" / "events").glob("*.parquet"))).names


@pytest.mark.parametrize(("suffix", "bytes_per_bucket"), [(".jsonl", 1000), (".parquet", 1 << 20)])
def test_a_request_without_a_text(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_per_bucket: int, suffix: str
) -> None:
    """Recommendations answer no query: their events keep the request, which triggers are found by."""
    monkeypatch.setattr("raylevance.data.streamed_files.BYTES_PER_BUCKET", bytes_per_bucket)
    texts = {"a1": None, "a2": "", "a3": " \u3000", "a4": "\u200b", "a5": "mug"}
    queries = [{"query_id": name, "user_query": text} for name, text in texts.items()]
    events = [event("click", name, product, 1) for name in texts for product in ("8", "9")]
    for name, lines in (("queries", queries), ("events", [*events, event("click", "a9", "9", 1)])):
        file = tmp_path / f"ubi_{name}{suffix}"
        write_lines(file, lines) if suffix == ".jsonl" else pq.write_table(pa.Table.from_pylist(lines), file)
    summary = import_tables(read_ubi(tmp_path), tmp_path / "tables", "quarantine")
    assert summary.read == {"queries": 5, "events": 11}
    assert summary.rows == {"queries": 1, "events": 10}
    assert summary.dropped == {"queries": {"has no user_query; its events are kept, without a query": 4}}
    assert summary.quarantined == {"events": {"query_id is not in ubi_queries": 1}}
    rows = pq.read_table(tmp_path / "tables" / "events").to_pylist()
    [mug] = pq.read_table(tmp_path / "tables" / "queries")["query_id"].to_pylist()
    found = {(row["request_id"], row["product_id"], row["query_id"]) for row in rows}
    assert found == {
        (name, item, mug if text == "mug" else None) for name, text in texts.items() for item in ("8", "9")
    }


def test_an_event_of_a_bad_query_is_bad(ray_cluster: None, tmp_path: Path) -> None:
    """It had a text, which can't be read, so it is not taken for a request without one."""
    write_lines(tmp_path / "ubi_queries.jsonl", [{"query_id": "a1", "user_query": ["mug"]}, *QUERIES])
    write_lines(tmp_path / "ubi_events.jsonl", [event("click", "a1", "9", 1), *EVENTS])
    summary = import_tables(read_ubi(tmp_path), tmp_path / "tables", "quarantine")
    assert [sum(found.values()) for found in summary.quarantined.values()] == [1, 1]
    assert summary.quarantined["events"] == {"query_id is not in ubi_queries": 1}


def test_a_log_without_any_text(ray_cluster: None, tmp_path: Path) -> None:
    write_lines(tmp_path / "ubi_queries.jsonl", [{"query_id": "a1", "user_query": None}, {"query_id": "a2"}])
    write_lines(tmp_path / "ubi_events.jsonl", [event("click", "a1", "9", 1), event("cart", "a2", "8", None)])
    summary = import_tables(read_ubi(tmp_path), tmp_path / "tables")
    assert summary.rows == {"queries": 0, "events": 2}
    assert sorted(pq.read_table(tmp_path / "tables" / "events")["request_id"].to_pylist()) == ["a1", "a2"]
