"""The HTTP API without Ray: `build_api` makes an ASGI application of the routes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

from raylevance import __version__
from raylevance.tokens import Tokens
from serve.feedback import Feedback
from serve.guard import Guard
from serve.metrics import Metrics
from serve.problems import install_problem_handlers
from serve.routes import classify, docs, events, health, page, query, recommend, relevance, search, versions
from serve.service import Service
from serve.settings import LimitSettings
from serve.tracing import Tracing

GAUGES_EVERY_S = 10.0
BEARER = HTTPBearer(auto_error=False, description="A token of `raylevance token add`.")
"""Describes in the schema what `Guard` checks."""


def build_api(
    service: Service,
    metrics: Metrics,
    limits: LimitSettings,
    *,
    tracing: Tracing | None = None,
    tokens: Tokens | None = None,
    feedback: Feedback | None = None,
    log_queries: bool = False,
    adds_request_id: bool = True,
) -> FastAPI:
    """Build the API around `service`.

    - `tracing`: where spans of requests go; by default where the environment says.
    - `tokens`: who may call it; None for anyone.
    - `feedback`: where events are kept; None keeps none, and `POST /v1/events` says so.
    - `log_queries`: whether the text of a query may stand in the log.
    - `adds_request_id`: whether answers get their X-Request-Id here; Ray Serve adds it by itself.
    """

    tracing = tracing or Tracing()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        gauges = asyncio.create_task(set_gauges(service, metrics, feedback))
        try:
            yield
        finally:
            gauges.cancel()
            await service.stop()
            await asyncio.to_thread(tracing.close)
            if feedback is not None:
                await asyncio.to_thread(feedback.close)

    api = FastAPI(
        title="raylevance",
        version=__version__,
        description="E-commerce search relevance on Ray.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    install_problem_handlers(api)
    routers = [
        search.router(service, feedback, log_queries),
        classify.router(service),
        relevance.router(service),
        recommend.router(service, feedback),
        query.router(service, feedback, log_queries),
        events.router(feedback),
        versions.router(service, events=feedback is not None),
    ]
    for router in routers:
        api.include_router(router, dependencies=[Depends(BEARER)] if tokens is not None else None)
    ready = health.router(service, names_versions=tokens is None)
    for open_router in (ready, page.router(service.answers.settings.max_k), docs.router()):
        api.include_router(open_router)
    paths = frozenset(route.path for route in api.routes if hasattr(route, "path"))
    api.add_middleware(
        Guard,
        limits=limits,
        metrics=metrics,
        tracing=tracing,
        tokens=tokens,
        routes=paths,
        adds_id=adds_request_id,
    )
    return api


async def set_gauges(service: Service, metrics: Metrics, feedback: Feedback | None) -> None:
    """Set the gauges of `metrics` every few seconds."""
    while True:
        metrics.set_gauges(service.loaded, asdict(feedback.counts) if feedback else None)
        await asyncio.sleep(GAUGES_EVERY_S)
