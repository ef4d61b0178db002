"""Bad requests, generated from the OpenAPI document and from a list: each gets a 4xx of one shape, and none a 500."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from raylevance.client.messages import Problem
from raylevance.tokens import Tokens, add_token
from serve.api import build_api
from serve.feedback import Feedback
from serve.metrics import Metrics
from serve.service import Service
from serve.settings import LimitSettings

LIMITS = LimitSettings(max_body_bytes=20_000, timeout_s=5)
EACH = 12
"""Generated requests of each operation here; the long test takes more, 5,000 in all."""
OPERATIONS = [
    *(f"/v1/{name}{batch}" for name in ("search", "classify", "relevance", "recommend") for batch in ("", "/batch")),
    "/v1/query",
    "/v1/events",
    "/v1/reload",
]
TOKEN = "the right token"


@pytest.fixture(scope="module")
def app(full_service: Service, metrics: Metrics, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    feedback = Feedback(tmp_path_factory.mktemp("feedback"))
    yield build_api(full_service, metrics, LIMITS, feedback=feedback)
    feedback.close()


@pytest.fixture(scope="module")
def server(app: Any) -> Iterator[str]:
    """The URL of a real server: some bad requests exist only as bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        running.should_exit = True
        thread.join()


def check_refusal(response: httpx.Response) -> Problem:
    """Check that a response is a 4xx with a problem of one line, without a trace of the code."""
    assert 400 <= response.status_code < 500, (response.status_code, response.text[:300])
    assert response.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate_json(response.content)
    assert problem.status == response.status_code
    assert problem.detail and "\n" not in problem.detail and len(problem.detail) < 1000
    assert problem.request_id == response.headers["x-request-id"]
    for leak in ("Traceback", "site-packages", ".py", "0x"):
        assert leak not in problem.detail or leak in str(response.request.content)
    return problem


def generated(server: str, path: str, count: int, mode: GenerationMode) -> int:
    """Send generated requests of `mode` to `path`; return how many were sent."""
    schema = schemathesis.openapi.from_url(f"{server}/openapi.json")
    schema.config.generation.update(modes=[mode])
    operation = schema[path]["POST"]
    sent = 0
    with httpx.Client(base_url=server, timeout=30, trust_env=False) as client:

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def send(case: Case) -> None:
            nonlocal sent
            body = case.body if isinstance(case.body, (dict, list, str, int, float, bool, type(None))) else None
            try:
                content = json.dumps(body).encode()
            except (TypeError, ValueError, UnicodeEncodeError):
                content = repr(case.body).encode("utf-8", "replace")
            kind = case.media_type or "application/json"
            response = client.post(path, content=content, headers={"content-type": kind})
            sent += 1
            if response.status_code != 200:
                check_refusal(response)

        send()
    return sent


@pytest.mark.parametrize("mode", [GenerationMode.NEGATIVE, GenerationMode.POSITIVE])
@pytest.mark.parametrize("path", [path for path in OPERATIONS if path != "/v1/reload"])
def test_generated_requests_are_answered_or_refused(server: str, path: str, mode: GenerationMode) -> None:
    assert generated(server, path, EACH, mode) >= EACH / 2


@pytest.mark.long
@pytest.mark.parametrize("path", [path for path in OPERATIONS if path != "/v1/reload"])
def test_five_thousand_generated_requests_are_answered_or_refused(server: str, path: str) -> None:
    assert generated(server, path, 500, GenerationMode.NEGATIVE) >= 400


JSON = {"content-type": "application/json"}
BODIES: dict[str, bytes] = {
    "empty": b"",
    "binary": bytes(range(256)) * 10,
    "not UTF-8": b'{"query": "\xff\xfe"}',
    "deep lists": b"[" * 9_000,
    "deep objects": b'{"query":' * 1_000,
    "deep and closed": b'{"query":' + b"[" * 4_000 + b"]" * 4_000 + b"}",
    "a huge number": b'{"query": "a", "k": ' + b"9" * 5_000 + b"}",
    "infinity": b'{"query": "a", "k": 1e999}',
    "not a number": b'{"query": NaN}',
    "a lone surrogate": b'{"query": "\\ud800"}',
    "a lone surrogate in a filter": b'{"query": "a", "filters": {"brand": ["\\udfff"]}}',
    "a field twice, wrong last": b'{"query": "a", "query": 1}',
    "two documents": b'{"query": "a"}{"query": "b"}',
    "a trailing comma": b'{"query": "a",}',
    "a wrong type": b'{"query": ["a"]}',
    "a boolean for a number": b'{"query": "a", "k": true}',
    "a float for a number": b'{"query": "a", "k": 3.0}',
    "a negative k": b'{"query": "a", "k": -1}',
    "a huge k": b'{"query": "a", "k": 1000000000000000000000}',
    "only blanks": b'{"query": "\\u2003\\u00a0 "}',
    "an unknown field with markup": b'{"query": "a", "<script>alert(1)</script>": 1}',
    "an unknown field of many lines": b'{"query": "a", "x\\ny": 1}',
    "prototype": b'{"query": "a", "__proto__": {"admin": true}}',
    "too long": b'{"query": "' + b"a" * 19_000 + b'"}',
}


@pytest.mark.parametrize("path", [path for path in OPERATIONS if path != "/v1/reload"])
def test_bad_bodies_are_refused(server: str, path: str) -> None:
    with httpx.Client(base_url=server, timeout=30, trust_env=False) as client:
        for name, body in BODIES.items():
            response = client.post(path, content=body, headers=JSON)
            assert 400 <= response.status_code < 500, (name, response.text)
            check_refusal(response)
        for kind in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
            "a/b;c=d",
        ):
            check_refusal(client.post(path, content=b'{"query": 1}', headers={"content-type": kind}))
        assert check_refusal(client.post(path, content=b" " * 20_001, headers=JSON)).status == 413
        assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/search/",
        "/v1/../etc/passwd",
        "/v1/%2e%2e/%2e%2e/etc/passwd",
        "/page/..%2f..%2fapi.py",
        "/page/%00",
        "/\\..\\x",
        "/v1/search%0d%0aSet-Cookie:a",
        "/" + "a" * 5_000,
        "/v1/search;a=b",
        "/.git/config",
        "/v1/SEARCH",
    ],
)
def test_path_tricks_are_not_found(server: str, path: str) -> None:
    status, headers, body = raw(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert status in (400, 404, 405, 307)
    assert b"root:" not in body and b"def " not in body
    assert b"set-cookie" not in headers.lower()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-Flood: a\r\n" * 20_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 300_000 + b"\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
        b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n",
        b"POST /v1/search HTTP/9.9\r\nHost: localhost\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_the_server_stays(server: str, request_bytes: bytes) -> None:
    status, _, body = raw(server, request_bytes, hang_up=True)
    assert status == 0 or 400 <= status < 500 or (status == 200 and request_bytes.startswith(b"GET / "))
    assert b"Traceback" not in body
    assert httpx.get(f"{server}/readyz", timeout=30).status_code == 200


def raw(server: str, request: bytes, *, hang_up: bool = False) -> tuple[int, bytes, bytes]:
    """Send bytes; return the status, 0 if the server hung up, and the head and the body of what came back."""
    host, port = server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        try:
            connection.sendall(request)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            while part := connection.recv(65_536):
                answer += part
        except OSError:
            return 0, b"", b""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head.startswith(b"HTTP/") else 0, head, body


def test_slow_bodies_are_given_up_and_hold_nobody_up(full_service: Service, metrics: Metrics, tmp_path: Path) -> None:
    app = build_api(full_service, metrics, LimitSettings(timeout_s=1.0, max_in_flight=8))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        head = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += b"Content-Length: 100\r\n\r\n{"
        slow = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(12)]
        for connection in slow:
            connection.sendall(head)
        time.sleep(0.2)
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
        statuses = sorted(int(connection.recv(65_536).split()[1]) for connection in slow)
        assert statuses == [408] * 8 + [429] * 4
        answered = httpx.post(f"http://127.0.0.1:{port}/v1/search", json={"query": "lamp"}, timeout=30)
        assert answered.status_code == 200
        for connection in slow:
            connection.close()
        running.should_exit = True
        thread.join()


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer x", "bearer null", "Basic QTpC", "Bearer " + "a" * 8_000, "Token x"]
)
def test_wrong_tokens_are_refused_on_every_path(
    full_service: Service, metrics: Metrics, tmp_path: Path, header: str
) -> None:
    add_token(tmp_path / "tokens.json", "shop", ("search",))
    app = build_api(full_service, metrics, LIMITS, tokens=Tokens(str(tmp_path / "tokens.json")))
    from fastapi.testclient import TestClient

    with TestClient(app, base_url="http://localhost") as client:
        for path in [*OPERATIONS, "/v1/versions", "/docs/none", "/redoc", "/no/such"]:
            response: Any = client.post(path, content=b"{", headers={"authorization": header})
            assert check_refusal(response).status == 401


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(data=st.dictionaries(st.text(max_size=8) | st.sampled_from(["query", "k", "filters"]), JSON_VALUES, max_size=5))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_object_is_answered_or_refused(server: str, data: dict[str, Any]) -> None:
    content = json.dumps({"query": "a"} | data).encode()
    response = httpx.post(f"{server}/v1/search", content=content, headers=JSON, timeout=30)
    assert response.status_code < 500
    if response.status_code != 200:
        check_refusal(response)
