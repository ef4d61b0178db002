"""`GET /healthz` and `GET /readyz`: whether the process runs, and whether searches work."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from serve.error_responses import error_response
from serve.messages import Failure, Health, Readiness
from serve.searcher import Searcher

NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"model": Failure, "description": "The models are still being loaded."}
}


def router(searcher: Searcher) -> APIRouter:
    """Build the two routes that a load balancer or Kubernetes asks, with GET or HEAD."""
    routes = APIRouter()

    @routes.head("/healthz", include_in_schema=False)
    @routes.get("/healthz", tags=["operations"], summary="The process is up")
    async def health() -> Health:
        return Health()

    @routes.head("/readyz", response_model=None, include_in_schema=False)
    @routes.get("/readyz", response_model=Readiness, responses=NOT_READY, tags=["operations"], summary="Searches work")
    async def ready() -> Readiness | JSONResponse:
        if await searcher.is_ready():
            return Readiness(versions=searcher.bundle.versions)
        return error_response(HTTPStatus.SERVICE_UNAVAILABLE, "the encoder does not answer yet", "not_ready")

    return routes
