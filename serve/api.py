"""The HTTP routes, apart from Ray: `build_api` makes an ASGI application around anything that encodes a query."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from raylevance import __version__
from raylevance.errors import UsageError
from serve import failures
from serve.body_limit import BodyLimit
from serve.bundle import Served, Vector
from serve.messages import Answer, Failure, Health, Readiness, SearchRequest, Versions

Encode = Callable[[str], Awaitable[Vector]]

Responses = dict[int | str, dict[str, Any]]
REFUSED: Responses = {422: {"model": Failure, "description": "The request names something unknown or out of range."}}
NOT_READY: Responses = {503: {"model": Failure, "description": "The models are still being loaded."}}
PROBE = "ready"
PROBE_SECONDS = 2.0


class Searcher:
    """Answers from `served`, one search at a time on a thread of its own: the event loop is never held up."""

    def __init__(self, served: Served, encode: Encode) -> None:
        """`encode`: a query text to its unit vector [d]."""
        self.served = served
        self.encode = encode
        self._thread = ThreadPoolExecutor(1, "search")

    async def answer(self, request: SearchRequest) -> Answer:
        """Encode the query and search. `took_ms` is the time of both."""
        started = time.perf_counter()
        served = self.served
        vector = await self.encode(request.query)
        hits = await asyncio.get_running_loop().run_in_executor(self._thread, served.search, request, vector)
        return Answer(
            query=request.query,
            mode=request.mode,
            took_ms=round(1000 * (time.perf_counter() - started), 1),
            hits=hits,
            versions=served.versions,
        )

    async def encodes(self) -> bool:
        """Whether the encoder answers in time; the index was loaded before this object was made."""
        try:
            await asyncio.wait_for(_awaited(self.encode(PROBE)), PROBE_SECONDS)
        except Exception:
            return False
        return True


def build_api(searcher: Searcher, max_k: int = 100) -> FastAPI:
    """The routes of the contract around `searcher`; `max_k` bounds the hits that one request may ask for."""
    api = FastAPI(title="raylevance", version=__version__, description="E-commerce search relevance on Ray.")
    api.add_middleware(BodyLimit)
    failures.install(api)

    @api.post("/v1/search", responses=REFUSED, tags=["search"], summary="Products for a query, graded")
    async def search(request: SearchRequest) -> Answer:
        if request.k > max_k:
            raise UsageError(f"k: at most {max_k} hits, got {request.k}")
        return await searcher.answer(request)

    @api.get("/v1/versions", tags=["operations"], summary="The artifacts that answers are made from")
    async def versions() -> Versions:
        return searcher.served.versions

    @api.get("/healthz", tags=["operations"], summary="The process is up")
    async def health() -> Health:
        return Health()

    @api.get(
        "/readyz", response_model=Readiness, responses=NOT_READY, tags=["operations"], summary="Searches will work"
    )
    async def ready() -> Readiness | JSONResponse:
        if await searcher.encodes():
            return Readiness(versions=searcher.served.versions)
        return failures.failure(HTTPStatus.SERVICE_UNAVAILABLE, "the encoder does not answer yet", "not_ready")

    return api


async def _awaited(vector: Awaitable[Vector]) -> Vector:
    """`wait_for` takes coroutines, and a Ray Serve response is only awaitable."""
    return await vector
