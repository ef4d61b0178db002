"""`POST /v1/events`: no event that was acknowledged is lost, and none is kept that an import would refuse."""

import errno
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
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serve.feedback import Feedback
from serve.problems import install_problem_handlers
from serve.routes import events as events_route
from tests.serve.test_feedback import NEVER_S, event, event_ids, journals, rows, wait_until

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
    return TestClient(api, base_url="http://localhost")


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
