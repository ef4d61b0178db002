"""The client against a server over TCP: typed answers, retries, failures and time limits, sync and async."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from raylevance.client import ApiError, AsyncClient, Client
from raylevance.client import http as client_module
from raylevance.client.messages import SearchRequest
from raylevance.errors import RaylevanceError, UsageError

VERSIONS = {"index": "index/a@1", "encoder": "encoder/a@1", "tables": "tables/a@1", "raylevance": "0"}
ANSWER = {"query_id": "q1", "took_ms": 1.0, "versions": VERSIONS, "query": "lamp", "mode": "hybrid", "hits": []}
Reply = Callable[[], Response]


class Server:
    """Answers every request with the next of its replies, the last of which repeats; it keeps what it was sent."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.sent: list[tuple[float, str, bytes, dict[str, str]]] = []
        self.url = ""

    async def answer(self, request: Request) -> Response:
        self.sent.append((time.monotonic(), request.url.path, await request.body(), dict(request.headers)))
        return (self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])()


@contextmanager
def running(app: Any) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    app = Starlette(routes=[Route("/{path:path}", made.answer, methods=["GET", "POST"])])
    with running(app) as made.url:
        yield made


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_PAUSE_S", 0.02)


def ok(body: Any = ANSWER) -> Reply:
    return lambda: JSONResponse(body)


def problem(status: int, detail: str, **headers: str) -> Reply:
    body = {"title": "T", "status": status, "detail": detail, "code": "c", "request_id": "r7"}
    return lambda: JSONResponse(body, status, headers, media_type="application/problem+json")


def search(server: Server, *, use_async: bool = False, **options: Any) -> Any:
    """Search with either client."""
    if not use_async:
        with Client(server.url, **options) as client:
            return client.search("lamp", k=3)

    async def run() -> Any:
        async with AsyncClient(server.url, **options) as client:
            return await client.search("lamp", k=3)

    return asyncio.run(run())


BOTH = pytest.mark.parametrize("use_async", [False, True])


@BOTH
def test_an_answer_is_typed_and_the_token_is_sent(server: Server, use_async: bool) -> None:
    server.replies = [ok()]
    answer = search(server, use_async=use_async, token="secret")
    assert (answer.query_id, answer.versions.index, answer.hits) == ("q1", "index/a@1", [])
    [(_, path, body, headers)] = server.sent
    assert path == "/v1/search"
    assert SearchRequest.model_validate_json(body) == SearchRequest(query="lamp", k=3)
    assert headers["authorization"] == "Bearer secret"


@BOTH
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(server: Server, status: int, use_async: bool) -> None:
    server.replies = [problem(status, "busy"), problem(status, "busy"), ok()]
    assert search(server, use_async=use_async).query_id == "q1"
    assert len(server.sent) == 3


@BOTH
@pytest.mark.parametrize("status", [500, 502])
def test_a_server_that_died_behind_its_proxy_is_asked_again(server: Server, status: int, use_async: bool) -> None:
    of_proxy = Response("<html>\nInternal Server Error\n</html>", status, media_type="text/plain")
    server.replies = [lambda: of_proxy, ok()]
    assert search(server, use_async=use_async).query_id == "q1"
    server.replies = [lambda: of_proxy]
    with pytest.raises(ApiError, match=f"^{status}: {server.url}/v1/search: <html> Internal Server Error </html>$"):
        search(server, use_async=use_async, retries=1)


@BOTH
def test_it_waits_as_long_as_the_server_says(server: Server, use_async: bool) -> None:
    server.replies = [problem(429, "busy", **{"Retry-After": "1"}), ok()]
    search(server, use_async=use_async)
    (first, *_), (second, *_) = server.sent
    assert 1.0 <= second - first < 5.0


@BOTH
def test_it_gives_up_after_the_retries_with_the_problem_of_the_server(server: Server, use_async: bool) -> None:
    server.replies = [problem(503, "no models")]
    with pytest.raises(ApiError, match=r"^503: no models \(request r7\)$") as raised:
        search(server, use_async=use_async, retries=2)
    assert len(server.sent) == 3
    assert raised.value.status == 503
    assert raised.value.problem is not None and raised.value.problem.code == "c"


@BOTH
@pytest.mark.parametrize("status", [401, 404, 422, 500, 504])
def test_other_failures_are_not_tried_again(server: Server, status: int, use_async: bool) -> None:
    server.replies = [problem(status, "no"), ok()]
    with pytest.raises(ApiError, match=f"^{status}: no"):
        search(server, use_async=use_async)
    assert len(server.sent) == 1


@BOTH
def test_an_answer_of_another_server_is_named(server: Server, use_async: bool) -> None:
    server.replies = [lambda: Response("<html>a proxy says no</html>", 502)]
    with pytest.raises(ApiError, match=rf"^502: {server.url}/v1/search: <html>a proxy says no") as raised:
        search(server, use_async=use_async)
    assert raised.value.problem is None
    server.replies = [ok({"some": "thing"})]
    with pytest.raises(RaylevanceError, match="is no Answer"):
        search(server, use_async=use_async)


@BOTH
def test_no_server_is_named_after_the_retries(use_async: bool) -> None:
    gone = Server()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gone.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(RaylevanceError, match=rf"{gone.url}/v1/search: no answer \(ConnectError"):
        search(gone, use_async=use_async, retries=3)
    assert time.monotonic() - started > 0.02 / 2 + 0.04 / 2 + 0.08 / 2


@BOTH
def test_an_answer_that_can_not_be_decoded_is_named(server: Server, use_async: bool) -> None:
    server.replies = [lambda: Response(b"not gzip", headers={"content-encoding": "gzip"})]
    with pytest.raises(RaylevanceError, match=rf"{server.url}/v1/search: no answer \(DecodingError"):
        search(server, use_async=use_async)
    assert len(server.sent) == 1


@BOTH
def test_a_slow_answer_is_given_up(server: Server, use_async: bool) -> None:
    def slow() -> Response:
        time.sleep(1.5)
        return JSONResponse(ANSWER)

    server.replies = [slow]
    with pytest.raises(RaylevanceError, match=r"no answer .*ReadTimeout"):
        search(server, use_async=use_async, timeout_s=0.2)
    assert len(server.sent) == 1, "a late answer is not asked for again"


@BOTH
def test_a_later_server_may_say_more(server: Server, use_async: bool) -> None:
    later = {**ANSWER, "new": 1, "versions": {**VERSIONS, "reranker": "reranker/a@1"}}
    server.replies = [ok(later)]
    assert search(server, use_async=use_async).versions.index == "index/a@1"
    refusal = {"title": "T", "status": 422, "detail": "no", "code": "c", "request_id": "r7", "instance": "/1"}
    server.replies = [lambda: JSONResponse(refusal, 422, media_type="application/problem+json")]
    with pytest.raises(ApiError, match=r"^422: no \(request r7\)$"):
        search(server, use_async=use_async)


@BOTH
def test_an_earlier_server_is_sent_no_field_that_was_not_given(server: Server, use_async: bool) -> None:
    server.replies = [ok()]
    search(server, use_async=use_async)
    assert json.loads(server.sent[0][2]) == {"query": "lamp", "k": 3}


@BOTH
def test_options_of_httpx_win(server: Server, use_async: bool) -> None:
    server.replies = [ok()]
    options = {"headers": {"x-shop": "a", "Authorization": "Basic b"}, "timeout": 9.0, "trust_env": False}
    search(server, use_async=use_async, **options)
    search(server, use_async=use_async, token="secret", **options)
    sent = [headers for *_, headers in server.sent]
    assert [(headers["x-shop"], headers["authorization"]) for headers in sent] == [
        ("a", "Basic b"),
        ("a", "Bearer secret"),
    ]


def test_a_wrong_field_is_refused_before_it_is_sent(server: Server) -> None:
    with Client(server.url) as client:
        with pytest.raises(UsageError, match="kk: Extra inputs"):
            client.search("lamp", kk=3)
        with pytest.raises(UsageError, match=r"triggers.0.weight"):
            client.recommend([{"product_id": "a", "weight": -1.0}])
    assert server.sent == []


def test_every_route_has_a_method_in_both_clients() -> None:
    names = {name for name in vars(Client) if not name.startswith("_")}
    assert names == {name for name in vars(AsyncClient) if not name.startswith("_")}
    assert names >= {"search", "search_all", "query", "classify", "relevance", "recommend", "events", "versions"}


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "", "ftp://shop"])
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError, match="is no URL of a server; write http://"):
        Client(url)


def test_a_port_that_is_none_and_a_token_that_can_not_be_sent_are_refused_at_once() -> None:
    with pytest.raises(UsageError, match="http://localhost:8OOO: is no URL of a server: Invalid port"):
        Client("http://localhost:8OOO")
    for token in ("tokén", "to\nken"):
        with pytest.raises(UsageError, match="the token has characters other than printable ASCII"):
            AsyncClient("http://localhost:8000", token=token)


def test_an_answer_without_a_body_names_its_url_and_status(server: Server) -> None:
    server.replies = [lambda: Response(status_code=404)]
    with pytest.raises(ApiError, match=f"404: {server.url}/v1/search: Not Found"):
        search(server)


def test_several_requests_may_be_plain(server: Server) -> None:
    server.replies = [ok({"answers": [ANSWER]})]
    with Client(server.url) as client:
        [answer] = client.search_all([{"query": "lamp"}])
    assert answer.query == "lamp"
