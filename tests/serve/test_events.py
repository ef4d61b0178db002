"""`POST /v1/events` and the way of its events into tables: none that was acknowledged is lost, each is read once."""

import asyncio
import errno
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from raylevance.artifacts import Store
from raylevance.client.messages import Event, Query
from raylevance.data.importing import import_tables
from raylevance.data.readers.ubi import read_ubi
from serve.api import build_api
from serve.feedback import Feedback
from serve.metrics import Metrics
from serve.problems import install_problem_handlers
from serve.routes import events as events_route
from serve.service import Service
from serve.settings import LimitSettings
from tests.serve.test_feedback import NEVER_S, event, event_ids, journals, keep, rows, wait_until

SERVER = """
import sys
import uvicorn
from fastapi import FastAPI
from serve.feedback import Feedback
from serve.routes import events

api = FastAPI()
feedback = Feedback(sys.argv[1], publish_every_s=float(sys.argv[3]), segment_bytes=int(sys.argv[4]))
api.include_router(events.router(feedback))

@api.get("/answer")
async def answer(query_id: str, query: str) -> str:
    feedback.answered(query_id, query)
    return query_id

uvicorn.run(api, port=int(sys.argv[2]), log_level="warning", access_log=False)
"""


class Server:
    """The route in a process of its own."""

    def __init__(self, store: Path, port: int, publish_every_s: float = NEVER_S, segment_bytes: int = 1 << 20) -> None:
        command = [sys.executable, "-c", SERVER, str(store), str(port), str(publish_every_s), str(segment_bytes)]
        self.process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        self.url = f"http://127.0.0.1:{port}"

    def answers(self) -> bool:
        assert self.process.poll() is None, "the server ended"
        try:
            return httpx.get(f"{self.url}/docs", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def send(self, client: httpx.Client, *events: dict[str, Any]) -> bool:
        try:
            response = client.post(f"{self.url}/v1/events", json={"events": events})
        except httpx.TransportError:
            return False
        assert response.status_code == 200, response.text
        return True

    def end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.process.wait(60)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., list[Server]]]:
    """Return a function that starts servers on the store `tmp_path`."""
    started: list[Server] = []

    def make(count: int, **options: Any) -> list[Server]:
        new = [Server(tmp_path, free_port("127.0.0.1"), **options) for _ in range(count)]
        started.extend(new)
        for server in new:
            wait_until(server.answers, 120)
        return new

    yield make
    for server in started:
        server.process.kill()
        server.process.wait(60)


def client_of(feedback: Feedback | None) -> TestClient:
    api = FastAPI()
    install_problem_handlers(api)
    api.include_router(events_route.router(feedback))
    return TestClient(api)


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_killed_process_loses_nothing_that_it_acknowledged(
    start: Callable[..., list[Server]], tmp_path: Path
) -> None:
    """Eight clients send to two processes until these are killed, which publish all the time."""
    servers = start(2, publish_every_s=0.2, segment_bytes=20_000)
    acknowledged: list[str] = []
    sent = Counter[str]()

    def burst(client_number: int) -> None:
        chance = random.Random(client_number)
        with httpx.Client(trust_env=False, timeout=60) as client:
            for number in range(10_000):
                names = [f"{client_number}-{number}-{part}" for part in range(chance.randint(1, 5))]
                for server in servers[: 1 + (number % 3 == 0)]:  # a third of the events goes to both
                    sent.update(names)
                    if not server.send(client, *(event(name, f"q{number % 7}") for name in names)):
                        return
                    acknowledged.extend(names)

    with ThreadPoolExecutor(8) as threads:
        running = [threads.submit(burst, number) for number in range(8)]
        wait_until(lambda: len(acknowledged) > 1_500, 120)
        for server in servers:
            server.end(signal.SIGKILL)
        for each in running:
            each.result()
    Feedback(tmp_path).close()
    found = Counter(event_ids(tmp_path))
    assert set(acknowledged) <= set(found) <= set(sent)
    assert all(count <= sent[name] for name, count in found.items())
    assert journals(tmp_path) == []


def test_the_journal_of_a_dead_process_is_taken_over_by_a_running_one(
    start: Callable[..., list[Server]], tmp_path: Path
) -> None:
    """That of a process that lives is left alone."""
    dead, silent = start(2)
    with httpx.Client(trust_env=False, timeout=60) as client:
        client.get(f"{dead.url}/answer", params={"query_id": "q1", "query": "lamp"})
        assert dead.send(client, event("of the dead"))
        assert silent.send(client, event("of the silent"))
    (other,) = start(1, publish_every_s=0.5)
    time.sleep(2)
    assert rows(tmp_path, "events") == []
    dead.end(signal.SIGKILL)
    wait_until(lambda: event_ids(tmp_path) == ["of the dead"])
    assert [row["query_id"] for row in rows(tmp_path, "queries")] == ["q1"]
    silent.end(signal.SIGTERM)
    wait_until(lambda: sorted(event_ids(tmp_path)) == ["of the dead", "of the silent"])
    assert other.process.poll() is None


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """While the event is set, a file takes 40 bytes of a write, and no more."""
    is_full, write, room = threading.Event(), os.write, {}

    def short_write(descriptor: int, data: Any) -> int:
        if not is_full.is_set():
            room.pop(descriptor, None)
            return write(descriptor, data)
        left = room.setdefault(descriptor, 40)
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        room[descriptor] -= (written := write(descriptor, bytes(data[:left])))
        return written

    monkeypatch.setattr(os, "write", short_write)
    yield is_full


def test_a_full_disk_refuses_events_and_loses_none(tmp_path: Path, full_disk: threading.Event) -> None:
    feedback = Feedback(tmp_path)
    client = client_of(feedback)
    assert client.post("/v1/events", json={"events": [event("before")]}).json() == {"accepted": 1, "repeated": 0}
    full_disk.set()
    feedback.answered("q1", "lamp")
    for _ in range(3):
        refused = client.post("/v1/events", json={"events": [event("while it was full")]})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["detail"] == "the events were not kept: the server's disk is full; send them again"
        assert str(tmp_path) not in refused.text
    full_disk.clear()
    assert client.post("/v1/events", json={"events": [event("after")]}).status_code == 200
    feedback.close()
    assert sorted(event_ids(tmp_path)) == ["after", "before"]
    assert [row["query_id"] for row in rows(tmp_path, "queries")] == ["q1"], "a query waits for room"
    assert feedback.counts.damaged_lines == feedback.counts.torn_lines == feedback.counts.lost_queries == 0


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"timestamp": "2026-05-01T10:00:00"}, "events.0.timestamp: timestamp has no offset from UTC"),
        ({"timestamp": "0001-01-01T00:00:00+10:00"}, "events.0.timestamp: is not between the years 1990 and 2100"),
        (
            {"timestamp": "2099-01-01T00:00:00Z"},
            "timestamp 2099-01-01T00:00:00Z is more than a day ahead",
        ),
        ({"timestamp": "2101-01-01T00:00:00Z"}, "events.0.timestamp: is not between the years 1990 and 2100"),
        ({"query_id": "a\nb"}, "events.0.query_id: has a line break or another control character"),
        ({"client_id": " "}, "events.0.client_id: is blank"),
        ({"event_attributes": {"object": {"object_id": "9.9e+30"}}}, "object_id: is a rounded number"),
        ({"action_name": "view"}, "events.0.action_name: unknown value 'view'"),
        ({"user_query": "lamp"}, "unknown field"),
    ],
)
def test_events_that_an_import_would_refuse_are_refused(tmp_path: Path, change: dict[str, Any], detail: str) -> None:
    with closing(Feedback(tmp_path)) as feedback:
        response = client_of(feedback).post("/v1/events", json={"events": [event("e1") | change]})
    assert response.status_code == 422
    assert detail in response.json()["detail"]


def test_a_server_that_keeps_no_events() -> None:
    response = client_of(None).post("/v1/events", json={"events": [event("e1")]})
    assert response.status_code == 404
    assert "events=true" in response.json()["detail"]


ANY_TEXT = st.text(max_size=6)
ANY_ID = st.text(min_size=1, max_size=6) | st.sampled_from(["7.0", "1e5", "007", "\x1c", "a\x85", " a ", "é", "NaN"])
MOMENTS = st.datetimes(
    datetime(1989, 12, 30), datetime(2100, 1, 2), timezones=st.timezones() | st.just(UTC)
) | st.integers(0, 5 * 10**12)


@pytest.mark.ray
def test_whatever_is_accepted_can_be_imported(ray_cluster: None, tmp_path: Path) -> None:
    """A query or an event that the messages take is a good row, and comes out as it went in."""
    accepted: list[Event] = []
    texts: list[str] = []
    query_type: TypeAdapter[str] = TypeAdapter(Query)

    @settings(max_examples=400, deadline=None, database=None)
    @given(ANY_ID, ANY_ID, ANY_ID | st.none(), ANY_ID, MOMENTS, st.none() | st.integers(-1, 2**33), ANY_TEXT)
    def generate(
        event_id: str, product: str, client: str | None, session: str, time: Any, ordinal: int | None, text: str
    ) -> None:
        try:
            texts.append(query_type.validate_python(text))
        except ValidationError:
            return
        fields = event(event_id, f"q{len(texts) - 1}", product, client_id=client, session_id=session, timestamp=time)
        if ordinal is not None:
            fields["event_attributes"]["position"] = {"ordinal": ordinal}
        try:
            accepted.append(Event.model_validate(fields))
        except ValidationError:
            return

    generate()
    assert len(accepted) > 20
    feedback = Feedback(tmp_path)
    for number, text in enumerate(texts):
        feedback.answered(f"q{number}", text)
    for start_row in range(0, len(accepted), 100):
        asyncio.run(feedback.keep(accepted[start_row : start_row + 100]))
    feedback.close()
    summary = import_tables(read_ubi(tmp_path / "feedback"), tmp_path / "tables")
    assert summary.rows["events"] == len(accepted)
    found = {row["request_id"]: row for row in pq.read_table(tmp_path / "tables" / "events").to_pylist()}
    for each in accepted:
        row = found[each.query_id]
        assert (row["action"], row["timestamp"]) == ("click", each.timestamp)
        position = each.event_attributes.position
        assert row["position"] == (position.ordinal if position else None)
        assert row["product_id"].removesuffix(".0") == each.event_attributes.object.object_id.removesuffix(".0")


@pytest.mark.ray
def test_what_was_served_is_imported_once(ray_cluster: None, raylevance: Callable[..., Any], tmp_path: Path) -> None:
    """Two processes answer and take events, some of which are sent twice, in any order, to either."""
    chance = random.Random(0)
    pair = [Feedback(tmp_path, segment_bytes=3_000) for _ in range(2)]
    searches = [f"{chance.choice(['red', 'блок', '白い'])} lamp {number % 20}" for number in range(200)]
    names = [f"q{chance.getrandbits(64):016x}" for _ in searches]
    for name, text in zip(names, searches, strict=True):
        chance.choice(pair).answered(name, text)
    actions = ["exposure", "click", "cart", "purchase"]
    made = [
        event(f"é{number}", name, f"P{chance.randrange(50)}", action_name=action, session_id=f"s{number % 9}")
        for number, name in enumerate(names)
        for action in [chance.choice(actions)]
        for _ in range(1)
        if number % 5
    ]
    sendings = [*made, *made[::3], *made[::7]]
    chance.shuffle(sendings)
    while sendings:
        count = chance.randint(1, 9)
        keep(chance.choice(pair), *sendings[:count])
        del sendings[:count]
    for feedback in pair:
        feedback.close()
    ended = raylevance("data", "import", "ubi", "--from", tmp_path / "feedback", "--store", tmp_path, "--json")
    assert ended.code == 0, ended.err
    summary = json.loads(ended.out)
    in_files = len(rows(tmp_path, "events"))
    assert in_files > len(made)
    assert summary["rows"] == {"queries": len(set(searches)), "events": len(made)}
    assert summary["dropped"]["events"] == {"repeats an event_id": in_files - len(made)}
    assert summary["quarantined"] == {}
    assert summary["files_not_read"] == []
    kind, _, version = summary["ref"].partition("@")
    tables = tmp_path / kind / version
    texts = {row["query_id"]: row["query"] for row in pq.read_table(tables / "queries").to_pylist()}
    found = Counter(
        (row["request_id"], texts[row["query_id"]], row["product_id"], row["action"])
        for row in pq.read_table(tables / "events").to_pylist()
    )
    text_of = dict(zip(names, searches, strict=True))
    assert found == Counter(
        (
            each["query_id"],
            text_of[each["query_id"]],
            each["event_attributes"]["object"]["object_id"],
            each["action_name"],
        )
        for each in made
    )


@pytest.mark.ray
def test_an_event_whose_query_is_not_known_is_named(
    ray_cluster: None, raylevance: Callable[..., Any], tmp_path: Path
) -> None:
    feedback = Feedback(tmp_path)
    feedback.answered("q1", "lamp")
    keep(feedback, event("e1"), event("e2", "of no answer"))
    feedback.close()
    command = ["data", "import", "ubi", "--from", tmp_path / "feedback", "--store", tmp_path, "--json"]
    assert "row 2: query_id is not in ubi_queries" in raylevance(*command).err
    summary = json.loads(raylevance(*command, "--on-bad-row", "quarantine").out)
    assert summary["rows"] == {"queries": 1, "events": 1}
    assert summary["quarantined"] == {"events": {"query_id is not in ubi_queries": 1}}


@pytest.mark.ray
def test_what_was_recommended_is_imported_without_queries(
    ray_cluster: None, raylevance: Callable[..., Any], full_service: Service, metrics: Metrics, tmp_path: Path
) -> None:
    """The answers of one request and of a batch, and events about them alone."""
    feedback = Feedback(tmp_path)
    request = {"triggers": [{"product_id": "P000"}], "k": 3}
    with TestClient(build_api(full_service, metrics, LimitSettings(), feedback=feedback)) as client:
        answers = [
            client.post("/v1/recommend", json=request).json(),
            *client.post("/v1/recommend/batch", json={"requests": [request, request]}).json()["answers"],
        ]
        sent = {(answer["query_id"], item["product_id"]) for answer in answers for item in answer["items"]}
        batch = [event(product, answer, product, client_id="u1") for answer, product in sorted(sent)]
        assert client.post("/v1/events", json={"events": batch}).json() == {"accepted": 9, "repeated": 0}
    ended = raylevance("data", "import", "ubi", "--from", tmp_path / "feedback", "--store", tmp_path, "--json")
    assert ended.code == 0, ended.err
    summary = json.loads(ended.out)
    assert summary["rows"] == {"queries": 0, "events": 9}
    assert summary["dropped"] == {"queries": {"has no user_query; its events are kept, without a query": 3}}
    kind, _, version = summary["ref"].partition("@")
    found = pq.read_table(tmp_path / kind / version / "events").to_pylist()
    assert {(row["request_id"], row["product_id"]) for row in found} == sent
    assert {(row["query_id"], row["user_id"], row["action"]) for row in found} == {(None, "u1", "click")}


@pytest.mark.long
@pytest.mark.ray
def test_the_documented_commands_join_what_was_served_with_the_catalogue(tmp_path: Path) -> None:
    """All but the training. An event of a product that has left the catalogue is put aside."""
    operations = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    [block] = [text for text in operations.split("\n```\n") if "shop/queries/served" in text]
    commands, _, training = block.strip().rpartition("\n")
    assert training.startswith("raylevance run item-retrieval --set data.source=tables/tables")
    tables = {
        "products": pa.table({"product_id": ["P1", "P2"], "title": ["red lamp", "hose"]}),
        "queries": pa.table({"query_id": ["judged"], "query": ["lamp"]}),
        "judgements": pa.table({"query_id": ["judged"], "product_id": ["P1"], "grade": [2], "source": ["human"]}),
    }
    (tmp_path / "catalogue").mkdir()
    for name, table in tables.items():
        pq.write_table(table, tmp_path / "catalogue" / f"{name}.parquet")
    feedback = Feedback(tmp_path / "store")
    feedback.answered("q1", "Lamp")
    feedback.answered("r1")
    keep(feedback, event("e1"), event("e2", product="gone"), event("e3", "r1", product="P2"))
    feedback.close()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "RAYLEVANCE_STORE": "store"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = Store(tmp_path / "store").get("tables/tables")
    assert made.metrics["rows"] == {"products": 2, "queries": 2, "judgements": 1, "events": 2}
    assert made.metrics["quarantined"] == {"events": {"unknown product_id": 1}}
