"""What a request passes before a route: tokens, sizes, numbers, times; none is answered without a problem's shape."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from raylevance import tokens as tokens_module
from raylevance.errors import RaylevanceError, UsageError
from raylevance.tokens import Tokens, add_token, read_tokens, remove_token
from serve.api import build_api
from serve.metrics import Metrics
from serve.service import Service
from serve.settings import LimitSettings, ServeSettings

SEARCH = {"query": "lamp"}
Serve = Callable[..., httpx.AsyncClient]


@pytest.fixture
def tokens(tmp_path: Path) -> tuple[Path, str, str]:
    """A file with a token of scope search and one of both scopes, and the two tokens."""
    file = tmp_path / "tokens.json"
    return file, add_token(file, "shop", ("search",)), add_token(file, "ops", ("search", "admin"))


@pytest.fixture
def guarded(tokens: tuple[Path, str, str], service: Service, metrics: Metrics) -> Iterator[TestClient]:
    with TestClient(build_api(service, metrics, LimitSettings(), tokens=Tokens(str(tokens[0])))) as client:
        yield client


@pytest.fixture
def serve_with(service: Service, metrics: Metrics) -> Serve:
    """Return a function that makes an async client of a server with other limits."""

    def make(**limits: Any) -> httpx.AsyncClient:
        app = build_api(service, metrics, LimitSettings(**limits))
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")

    return make


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": ""}, bearer("wrong"), bearer(""), {"authorization": "Basic abc"}, bearer("ü")],
)
def test_a_wrong_token_is_refused_before_the_body_is_read(guarded: TestClient, headers: dict[str, str]) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    for path in ("/v1/search", "/v1/versions", "/docs/none", "/page/none", "/no/such/path"):
        response = guarded.post(path, content=b"{" * 1000, headers=raw)
        assert response.status_code == 401, path
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["code"] == "unauthorized"


def test_nothing_of_a_body_is_read_before_the_token_is_checked(
    tokens: tuple[Path, str, str], service: Service, metrics: Metrics
) -> None:
    app = build_api(service, metrics, LimitSettings(), tokens=Tokens(str(tokens[0])))
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/search", "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 401


def test_tokens_open_what_their_scopes_say(guarded: TestClient, tokens: tuple[Path, str, str]) -> None:
    _, shop, ops = tokens
    assert guarded.post("/v1/search", json=SEARCH, headers=bearer(shop)).status_code == 200
    assert guarded.post("/v1/search", json=SEARCH, headers={"Authorization": f"bearer  {ops}"}).status_code == 200
    refused = guarded.post("/v1/reload", headers=bearer(shop))
    assert (refused.status_code, refused.json()["detail"]) == (403, "the token lacks the scope 'admin'")
    assert guarded.get("/readyz").json() == {"status": "ready", "versions": None}, "strangers learn no names"
    reloaded = guarded.post("/v1/reload", headers=bearer(ops))
    assert (reloaded.status_code, reloaded.json()["code"]) == (404, "not_served"), "no bundle is followed"


def test_either_scope_reads_the_versions(tokens: tuple[Path, str, str], service: Service, metrics: Metrics) -> None:
    bot = bearer(add_token(tokens[0], "bot", ("admin",)))
    with TestClient(build_api(service, metrics, LimitSettings(), tokens=Tokens(str(tokens[0])))) as client:
        assert client.get("/v1/versions", headers=bot).status_code == 200
        assert client.get("/v1/versions", headers=bearer(tokens[1])).status_code == 200
        assert client.post("/v1/search", json=SEARCH, headers=bot).status_code == 403


@pytest.mark.parametrize(
    "path", ["/", "/page/page.js", "/docs", "/docs/start.js", "/openapi.json", "/healthz", "/readyz"]
)
def test_what_has_no_data_needs_no_token(guarded: TestClient, path: str) -> None:
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/page/../v1/versions", "/page/..%2fv1/versions", "/healthz/../v1/versions"])
def test_no_spelling_of_a_path_goes_around_the_token(guarded: TestClient, path: str) -> None:
    response = guarded.get(path)
    assert response.status_code in (401, 404)
    assert "index" not in response.json()


def test_tokens_rotate_without_a_restart(
    guarded: TestClient, tokens: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "CHECK_EVERY_S", 0.0)
    file, shop, ops = tokens

    def status(token: str) -> int:
        return guarded.post("/v1/search", json=SEARCH, headers=bearer(token)).status_code

    new = add_token(file, "new shop", ("search",))
    assert (status(new), status(shop)) == (200, 200)
    remove_token(file, "shop")
    assert (status(new), status(shop), status(ops)) == (200, 401, 200)
    file.write_text("torn")
    assert (status(new), status(ops)) == (200, 200), "the last good file holds"
    file.unlink()
    assert (status(new), status(shop)) == (200, 401)


def test_the_last_token_can_be_removed(
    guarded: TestClient, tokens: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "CHECK_EVERY_S", 0.0)
    file, shop, ops = tokens
    remove_token(file, "shop")
    remove_token(file, "ops")
    for token in (shop, ops):
        assert guarded.post("/v1/search", json=SEARCH, headers=bearer(token)).status_code == 401
    with pytest.raises(RaylevanceError, match="has no token"):
        Tokens(str(file))
    new = add_token(file, "shop", ("search",))
    assert guarded.post("/v1/search", json=SEARCH, headers=bearer(new)).status_code == 200


def test_a_file_of_tokens_that_becomes_readable_is_read(
    tokens: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As after `chown`, which changes neither its time nor its size."""
    monkeypatch.setattr(tokens_module, "CHECK_EVERY_S", 0.0)
    file, shop, _ = tokens
    read = Tokens(str(file))
    remove_token(file, "shop")
    refusals = [PermissionError(13, "Permission denied")] * 2
    read_bytes = Path.read_bytes

    def refuse_at_first(path: Path) -> bytes:
        if refusals:
            raise refusals.pop()
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse_at_first)
    logger = logging.getLogger("ray.serve")
    logger.addHandler(caplog.handler)
    try:
        assert [len(read.scopes(shop)) for _ in range(3)] == [1, 1, 0]
    finally:
        logger.removeHandler(caplog.handler)
    assert sum("stay as they were" in record.message for record in caplog.records) == 1


def test_the_file_of_tokens_keeps_its_owner_and_mode(tokens: tuple[Path, str, str]) -> None:
    file = tokens[0]
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    given = (1234, 1235) if os.getuid() == 0 else (os.getuid(), os.getgid())
    os.chown(file, *given)
    add_token(file, "other", ("search",))
    kept = file.stat()
    assert (kept.st_mode & 0o777, kept.st_uid, kept.st_gid) == (0o640, *given)


def test_the_file_of_tokens_has_hashes_alone(tokens: tuple[Path, str, str]) -> None:
    file, shop, ops = tokens
    assert shop not in file.read_text() and ops not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert set(read_tokens(file)) == {"shop", "ops"}
    with pytest.raises(UsageError, match="has a token 'shop'"):
        add_token(file, "shop", ("search",))
    with pytest.raises(UsageError, match="has no token 'sop'; it has ops, shop"):
        remove_token(file, "sop")


def test_tokens_that_are_changed_at_once_are_all_kept(tmp_path: Path) -> None:
    """Processes, because the commands are; each adds tokens and removes every second one."""
    file, processes, each = tmp_path / "tokens.json", 4, 20
    program = (
        "import sys; from pathlib import Path; from raylevance.tokens import add_token, remove_token\n"
        "file, process, each = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])\n"
        "for number in range(each):\n"
        "    add_token(file, f'{process}-{number}', ('search',))\n"
        "    if number % 2: remove_token(file, f'{process}-{number}')\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, file, str(process), str(each)]) for process in range(processes)
    ]
    assert [process.wait(timeout=60) for process in started] == [0] * processes
    expected = {f"{process}-{number}" for process in range(processes) for number in range(0, each, 2)}
    assert set(read_tokens(file)) == expected


def test_the_folder_of_a_file_of_tokens_is_made_or_named(tmp_path: Path) -> None:
    file = tmp_path / "new" / "tokens.json"
    add_token(file, "shop", ("search",))
    assert set(read_tokens(file)) == {"shop"}
    with pytest.raises(RaylevanceError, match=r"tokens\.json/other: can't be written: (Not a directory|File exists)"):
        add_token(file / "other", "shop", ("search",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "has no token"),
        ("[]", "not a file of tokens"),
        ('{"a": {"sha256": "00", "scopes": ["search"]}}', "a.sha256"),
        ('{"a": {"sha256": "%s", "scopes": ["root"]}}' % ("0" * 64), "a.scopes.0"),
        ('{"a": {"sha256": "%s", "scopes": []}}' % ("0" * 64), "a.scopes"),
    ],
)
def test_a_bad_file_of_tokens_is_refused_at_the_start(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "tokens.json"
    file.write_text(text)
    with pytest.raises(RaylevanceError, match=message):
        Tokens(str(file))
    with pytest.raises(RaylevanceError, match="can't be read"):
        Tokens(str(tmp_path / "none.json"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "shop.example"])
def test_an_open_port_needs_tokens(host: str) -> None:
    with pytest.raises(ValueError, match="which needs tokens: make one with `raylevance token add"):
        ServeSettings(host=host)
    assert ServeSettings(host=host, tokens="tokens.json").host == host


def test_requests_have_ids(serve_with: Serve) -> None:
    async def run() -> None:
        async with serve_with() as client:
            own = await client.post("/v1/search", json=SEARCH, headers={"x-request-id": "abc-123"})
            assert own.headers["x-request-id"] == "abc-123"
            balancer = "Root=1-67891233-abcdef012345678912345678;Self=1/x+y@z"
            taken = await client.post("/v1/search", json=SEARCH, headers={"x-request-id": balancer})
            assert taken.headers.get_list("x-request-id") == [balancer]
            made = [(await client.post("/v1/search", json=SEARCH)).headers["x-request-id"] for _ in range(3)]
            assert len(set(made)) == 3
            bad = await client.post("/v1/search", json=SEARCH, headers={"x-request-id": 'a"\n{'.replace("\n", "")})
            assert bad.headers["x-request-id"] != 'a"{'

    asyncio.run(run())


def test_a_body_is_cut_off_while_it_arrives(serve_with: Serve) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1000
            yield b" " * 1000

    async def run() -> httpx.Response:
        async with serve_with(max_body_bytes=5000) as client:
            return await client.post("/v1/search", content=endless(), headers={"content-type": "application/json"})

    response = asyncio.run(asyncio.wait_for(run(), 20))
    assert (response.status_code, response.json()["detail"]) == (413, "the body is longer than 5000 bytes")
    assert sent <= 7000


def test_a_body_that_does_not_arrive_is_given_up(serve_with: Serve) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b'{"query": '
        await asyncio.sleep(30)
        yield b'"a"}'

    async def run() -> httpx.Response:
        async with serve_with(timeout_s=0.3) as client:
            return await client.post("/v1/search", content=slow(), headers={"content-type": "application/json"})

    started = time.monotonic()
    response = asyncio.run(run())
    assert (response.status_code, response.json()["detail"]) == (408, "the body has not arrived within 0.3 s")
    assert time.monotonic() - started < 10


def test_a_slow_answer_is_given_up(serve_with: Serve, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: Any) -> None:
        await asyncio.sleep(30)

    monkeypatch.setattr(service.answers, "search", never)

    async def run() -> httpx.Response:
        async with serve_with(timeout_s=0.2) as client:
            return await client.post("/v1/search", json=SEARCH)

    response = asyncio.run(run())
    assert (response.status_code, response.json()["detail"]) == (504, "no answer within 0.2 s")


def test_a_bundle_may_take_longer_to_load(serve_with: Serve, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def load(*, retry: bool) -> bool:
        await asyncio.sleep(0.5)
        return retry

    monkeypatch.setattr(Service, "follows", True)
    monkeypatch.setattr(service, "update", load)

    async def run() -> httpx.Response:
        async with serve_with(timeout_s=0.2) as client:
            return await client.post("/v1/reload")

    assert asyncio.run(run()).status_code == 200


HERE = ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:8000", "127.1.2.3:80", "[::1]", "[::1]:8000"]
ELSEWHERE = [
    "evil.example",
    "evil.example:8000",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "[::2]",
    "10.0.0.1",
]


@pytest.mark.parametrize(("host", "status"), [*((host, 200) for host in HERE), *((host, 403) for host in ELSEWHERE)])
def test_a_server_without_tokens_answers_for_loopback_alone(
    service: Service, metrics: Metrics, host: str, status: int
) -> None:
    """A page of another origin that has its own name point to 127.0.0.1 reads nothing."""
    with TestClient(build_api(service, metrics, LimitSettings()), base_url="http://localhost") as client:
        for path in ("/", "/v1/versions", "/openapi.json"):
            answered = client.get(path, headers={"host": host})
            assert answered.status_code == status, path
            if status == 403:
                assert answered.headers["content-type"] == "application/problem+json"
                assert f"{host!r} is no name of loopback" in answered.json()["detail"]


def test_a_server_with_tokens_answers_for_any_host(guarded: TestClient, tokens: tuple[Path, str, str]) -> None:
    headers = {**bearer(tokens[1]), "host": "shop.example"}
    assert guarded.get("/v1/versions", headers=headers).status_code == 200


def test_a_load_balancer_that_names_no_host_is_answered(service: Service, metrics: Metrics) -> None:
    """As HAProxy, which asks with HTTP/1.0."""
    app, sent = build_api(service, metrics, LimitSettings()), list[Any]()

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/healthz", "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 200


def test_more_requests_than_the_limit_are_told_to_come_back(
    serve_with: Serve, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = service.answers.search
    free = asyncio.Event()

    async def waits(request: Any) -> Any:
        await free.wait()
        return await answer(request)

    monkeypatch.setattr(service.answers, "search", waits)

    async def run() -> tuple[list[httpx.Response], httpx.Response]:
        async with serve_with(max_in_flight=3) as client:
            held = [asyncio.create_task(client.post("/v1/search", json=SEARCH)) for _ in range(3)]
            await asyncio.sleep(0.1)
            refused = await client.post("/v1/search", json=SEARCH)
            assert (await client.get("/healthz")).status_code == 200
            free.set()
            return [*await asyncio.gather(*held), await client.post("/v1/search", json=SEARCH)], refused

    answered, refused = asyncio.run(run())
    assert [response.status_code for response in answered] == [200] * 4
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["detail"] == "3 requests are in flight; try again in 1 s"


@pytest.mark.parametrize("log_queries", [False, True])
def test_the_log_has_queries_only_when_asked(
    service: Service, metrics: Metrics, caplog: pytest.LogCaptureFixture, log_queries: bool
) -> None:
    caplog.set_level("INFO", "ray.serve")
    app = build_api(service, metrics, LimitSettings(), log_queries=log_queries)
    with TestClient(app, base_url="http://localhost") as client:
        client.post("/v1/search", json={"query": "a private lamp"}, headers={"x-request-id": "r1"})
        client.get("/v1/nothing/secret")
    lines = [json.loads(record.message) for record in caplog.records if record.message.startswith("{")]
    assert lines[0]["request_id"] == "r1"
    assert {"method": "POST", "route": "/v1/search", "status": 200}.items() <= lines[0].items()
    assert ("private" in caplog.text) == log_queries
    assert "secret" not in caplog.text
