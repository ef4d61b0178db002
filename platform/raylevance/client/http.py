"""A client of the HTTP API, sync and async: typed answers, time limits, and retries while the server is busy.

    with Client("http://127.0.0.1:8000", token="...") as client:
        answer = client.search("wireless earbuds", k=5)
        print(answer.hits[0].title, answer.versions.index)

    async with AsyncClient("http://127.0.0.1:8000") as client:
        page = await client.query("garden hose", triggers=[{"product_id": "B07X1"}])

A request that the server refuses raises `ApiError` with the server's own problem, one with a wrong field `UsageError`,
and one without an answer `RaylevanceError` (`raylevance.errors`), which both are. A request is sent again where it
meets status 429 or 503, a connection that fails, or a server that dies behind its proxy: after a pause that doubles
with each attempt, or as long as Retry-After says, up to ten seconds. That is safe for every route: events are kept once
by their id. Proxies that the environment names are not used; `options` may set one.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from raylevance.client.messages import (
    Answer,
    Answers,
    Classification,
    Classifications,
    ClassifyBatch,
    ClassifyRequest,
    Event,
    EventBatch,
    EventsKept,
    Page,
    Problem,
    QueryRequest,
    RecommendationAnswers,
    Recommendations,
    RecommendBatch,
    RecommendRequest,
    RelevanceAnswers,
    RelevanceBatch,
    RelevanceRequest,
    Relevances,
    SearchBatch,
    SearchRequest,
    Served,
)
from raylevance.errors import RaylevanceError, UsageError

M = TypeVar("M", bound=BaseModel)
Outcome = httpx.Response | httpx.RequestError | httpx.InvalidURL
"""What an attempt at a request meets."""

RETRIED = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
FROM_PROXY = frozenset({HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY})
"""What a proxy answers for a server that died with the request, unless the answer is a problem of the server's own."""
PROBLEM = "application/problem+json"
RETRIED_ERRORS = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)
"""Faults of the connection. An answer that is late is not asked for again, which would load a slow server more."""
TIMEOUT_S = 15.0
"""Longer than the server's own limit of 10 s, so that its answer tells what took too long."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0


class ApiError(RaylevanceError):
    """An answer that is not 2xx. `problem` is the server's, None where the answer was none of ours."""

    def __init__(self, response: httpx.Response, problem: Problem | None) -> None:
        """Describe an answer by its problem, or else by its URL and the beginning of its text."""
        detail = f"{response.url}: {' '.join(response.text.split())[:200] or response.reason_phrase}"
        if problem:
            detail = f"{problem.detail} (request {problem.request_id})"
        super().__init__(f"{response.status_code}: {detail}")
        self.status = response.status_code
        self.problem = problem


class _Calls:
    """The requests of the API, which a client sends in its own way."""

    def __init__(self, url: str, token: str | None, timeout_s: float, retries: int, options: Mapping[str, Any]) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{url}: is no URL of a server; write http://{url.removeprefix('//')}")
        try:
            httpx.URL(url)
        except httpx.InvalidURL as error:
            raise UsageError(f"{url}: is no URL of a server: {error}") from None
        if token and not (token.isascii() and token.isprintable()):
            raise UsageError("the token has characters other than printable ASCII, which no token of a server has")
        headers = httpx.Headers(options.get("headers"))
        if token:
            headers["authorization"] = f"Bearer {token}"
        self._options = {"base_url": url, "timeout": timeout_s, "trust_env": False, **options, "headers": headers}
        self._retries = retries

    def _pauses(self) -> Iterator[float]:
        """Yield the longest pause before each further attempt, in seconds."""
        return (min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S) for attempt in range(self._retries))


class Client(_Calls):
    """A client for scripts and threads; it keeps its connections, so use one for many requests, and close it."""

    def __init__(
        self, url: str, token: str | None = None, timeout_s: float = TIMEOUT_S, retries: int = 4, **options: Any
    ) -> None:
        """Call the server at `url`.

        `timeout_s` bounds the wait for each part of an answer, and `retries` the further attempts at a request.
        `options` go to `httpx.Client`, such as `verify` for a certificate of one's own, and `headers` to send with each
        request.
        """
        super().__init__(url, token, timeout_s, retries, options)
        self._client = httpx.Client(**self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def search(self, query: str, **fields: Any) -> Answer:
        """Search products. `fields` are those of `SearchRequest`, such as k, mode and filters."""
        return self._post("/v1/search", body(SearchRequest, query=query, **fields), Answer)

    def search_all(self, requests: Sequence[SearchRequest | dict[str, Any]]) -> list[Answer]:
        """Send up to `MAX_BATCH` searches at once; one bundle answers them all, in their order."""
        return self._post("/v1/search/batch", body(SearchBatch, requests=list(requests)), Answers).answers

    def query(self, query: str, **fields: Any) -> Page:
        """Get a search page. `fields` are those of `QueryRequest`."""
        return self._post("/v1/query", body(QueryRequest, query=query, **fields), Page)

    def classify(self, query: str, **fields: Any) -> Classification:
        """Classify a query. `fields` are those of `ClassifyRequest`."""
        return self._post("/v1/classify", body(ClassifyRequest, query=query, **fields), Classification)

    def relevance(self, query: str, products: Sequence[dict[str, str]]) -> Relevances:
        """Score products, each {"product_id": ...} or {"text": ...}, for a query."""
        return self._post("/v1/relevance", body(RelevanceRequest, query=query, products=list(products)), Relevances)

    def recommend(self, triggers: Sequence[dict[str, Any]], **fields: Any) -> Recommendations:
        """Recommend items for triggers, each {"product_id": ..., "weight": 1.0}."""
        request = body(RecommendRequest, triggers=list(triggers), **fields)
        return self._post("/v1/recommend", request, Recommendations)

    def classify_all(self, requests: Sequence[ClassifyRequest | dict[str, Any]]) -> list[Classification]:
        """Classify up to `MAX_BATCH` queries at once."""
        request = body(ClassifyBatch, requests=list(requests))
        return self._post("/v1/classify/batch", request, Classifications).answers

    def relevance_all(self, requests: Sequence[RelevanceRequest | dict[str, Any]]) -> list[Relevances]:
        """Send up to `MAX_BATCH` requests for relevance at once."""
        request = body(RelevanceBatch, requests=list(requests))
        return self._post("/v1/relevance/batch", request, RelevanceAnswers).answers

    def recommend_all(self, requests: Sequence[RecommendRequest | dict[str, Any]]) -> list[Recommendations]:
        """Send up to `MAX_BATCH` requests for recommendations at once."""
        request = body(RecommendBatch, requests=list(requests))
        return self._post("/v1/recommend/batch", request, RecommendationAnswers).answers

    def events(self, events: Sequence[Event | dict[str, Any]]) -> EventsKept:
        """Send events. They are on the server's disk when this returns."""
        return self._post("/v1/events", body(EventBatch, events=list(events)), EventsKept)

    def versions(self) -> Served:
        """Return what the server answers from."""
        return _read(self._send("GET", "/v1/versions"), Served)

    def reload(self) -> Served:
        """Let the replica that answers look for a newer bundle now. Needs the scope admin.

        The answer comes when the bundle is loaded. Where that takes longer than `timeout_s` this raises
        `RaylevanceError`; the server goes on, and `versions` says what became of it.
        """
        return _read(self._send("POST", "/v1/reload"), Served)

    def _post(self, path: str, request: BaseModel, answer: type[M]) -> M:
        return _read(self._send("POST", path, request), answer)

    def _send(self, method: str, path: str, request: BaseModel | None = None) -> httpx.Response:
        pauses = self._pauses()
        outcome: Outcome
        while True:
            try:
                outcome = self._client.request(method, path, **_content(request))
            except (httpx.RequestError, httpx.InvalidURL) as error:
                outcome = error
            following = _next(outcome, pauses, f"{self._client.base_url}{path}")
            if isinstance(following, httpx.Response):
                return following
            time.sleep(following)


class AsyncClient(_Calls):
    """The same client for asyncio."""

    def __init__(
        self, url: str, token: str | None = None, timeout_s: float = TIMEOUT_S, retries: int = 4, **options: Any
    ) -> None:
        """Call the server at `url`, as `Client` does; `options` go to `httpx.AsyncClient`."""
        super().__init__(url, token, timeout_s, retries, options)
        self._client = httpx.AsyncClient(**self._options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def search(self, query: str, **fields: Any) -> Answer:
        """Search products, as `Client.search`."""
        return await self._post("/v1/search", body(SearchRequest, query=query, **fields), Answer)

    async def search_all(self, requests: Sequence[SearchRequest | dict[str, Any]]) -> list[Answer]:
        """Send several searches at once, as `Client.search_all`."""
        return (await self._post("/v1/search/batch", body(SearchBatch, requests=list(requests)), Answers)).answers

    async def query(self, query: str, **fields: Any) -> Page:
        """Get a search page, as `Client.query`."""
        return await self._post("/v1/query", body(QueryRequest, query=query, **fields), Page)

    async def classify(self, query: str, **fields: Any) -> Classification:
        """Classify a query, as `Client.classify`."""
        return await self._post("/v1/classify", body(ClassifyRequest, query=query, **fields), Classification)

    async def relevance(self, query: str, products: Sequence[dict[str, str]]) -> Relevances:
        """Score products for a query, as `Client.relevance`."""
        request = body(RelevanceRequest, query=query, products=list(products))
        return await self._post("/v1/relevance", request, Relevances)

    async def recommend(self, triggers: Sequence[dict[str, Any]], **fields: Any) -> Recommendations:
        """Recommend items for triggers, as `Client.recommend`."""
        request = body(RecommendRequest, triggers=list(triggers), **fields)
        return await self._post("/v1/recommend", request, Recommendations)

    async def classify_all(self, requests: Sequence[ClassifyRequest | dict[str, Any]]) -> list[Classification]:
        """Classify several queries at once, as `Client.classify_all`."""
        request = body(ClassifyBatch, requests=list(requests))
        return (await self._post("/v1/classify/batch", request, Classifications)).answers

    async def relevance_all(self, requests: Sequence[RelevanceRequest | dict[str, Any]]) -> list[Relevances]:
        """Send several requests at once, as `Client.relevance_all`."""
        request = body(RelevanceBatch, requests=list(requests))
        return (await self._post("/v1/relevance/batch", request, RelevanceAnswers)).answers

    async def recommend_all(self, requests: Sequence[RecommendRequest | dict[str, Any]]) -> list[Recommendations]:
        """Send several requests at once, as `Client.recommend_all`."""
        request = body(RecommendBatch, requests=list(requests))
        return (await self._post("/v1/recommend/batch", request, RecommendationAnswers)).answers

    async def events(self, events: Sequence[Event | dict[str, Any]]) -> EventsKept:
        """Send events, as `Client.events`."""
        return await self._post("/v1/events", body(EventBatch, events=list(events)), EventsKept)

    async def versions(self) -> Served:
        """Return what the server answers from."""
        return _read(await self._send("GET", "/v1/versions"), Served)

    async def reload(self) -> Served:
        """Let a replica look for a newer bundle, as `Client.reload`."""
        return _read(await self._send("POST", "/v1/reload"), Served)

    async def _post(self, path: str, request: BaseModel, answer: type[M]) -> M:
        return _read(await self._send("POST", path, request), answer)

    async def _send(self, method: str, path: str, request: BaseModel | None = None) -> httpx.Response:
        pauses = self._pauses()
        outcome: Outcome
        while True:
            try:
                outcome = await self._client.request(method, path, **_content(request))
            except (httpx.RequestError, httpx.InvalidURL) as error:
                outcome = error
            following = _next(outcome, pauses, f"{self._client.base_url}{path}")
            if isinstance(following, httpx.Response):
                return following
            await asyncio.sleep(following)


def body(model: type[M], **fields: Any) -> M:
    """Return a request of `fields`. Raises `UsageError` for a field that the API does not take."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise UsageError(f"{where}: {fault['msg']}") from None


def _content(request: BaseModel | None) -> dict[str, Any]:
    if request is None:
        return {}
    # A server of an earlier version does not know all fields; it needs those that were given.
    content = request.model_dump_json(exclude_unset=True)
    return {"content": content, "headers": {"content-type": "application/json"}}


def _next(outcome: Outcome, pauses: Iterator[float], where: str) -> httpx.Response | float:
    """Return the answer to a request to `where`, or the seconds to wait before it is sent again.

    `outcome` is what an attempt met, and `pauses` are those before further attempts; one is taken for each.

    Raises `ApiError` for an answer that is not 2xx, and `RaylevanceError` where there is none.
    """
    if isinstance(outcome, httpx.Response):
        kind = outcome.headers.get("content-type", "")
        from_proxy = outcome.status_code in FROM_PROXY and not kind.startswith(PROBLEM)
        passes = outcome.status_code in RETRIED or from_proxy
    else:
        passes = isinstance(outcome, RETRIED_ERRORS)
    if passes and (pause := next(pauses, None)) is not None:
        return _wait(outcome, pause)
    if isinstance(outcome, httpx.Response):
        return _successful(outcome)
    raise RaylevanceError(f"{where}: no answer ({type(outcome).__name__}: {outcome})") from outcome


def _wait(outcome: Outcome, pause: float) -> float:
    """Return the seconds to wait: as the server says, else up to `pause`, at random so that clients do not align."""
    said = outcome.headers.get("retry-after", "") if isinstance(outcome, httpx.Response) else ""
    return min(float(said), LONGEST_PAUSE_S) if said.isdigit() else random.uniform(pause / 2, pause)


def _successful(response: httpx.Response) -> httpx.Response:
    """Return a response of status 2xx. Raises `ApiError` for another."""
    if response.is_success:
        return response
    try:
        problem = Problem.model_validate_json(response.content, extra="ignore")
    except ValidationError:
        problem = None
    raise ApiError(response, problem)


def _read(response: httpx.Response, model: type[M]) -> M:
    try:
        # A server of a later version may say more.
        return model.model_validate_json(response.content, extra="ignore")
    except ValidationError as error:
        fault = error.errors()[0]
        raise RaylevanceError(
            f"{response.url}: the answer is no {model.__name__} ({fault['msg']}); is the server another version?"
        ) from None
