"""`GET /healthz` and `GET /readyz`: whether the process runs, and whether searches work."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from raylevance.client.messages import Health, Problem, Readiness
from serve.problems import problem
from serve.service import Service

NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"model": Problem, "description": "The models are still being loaded."}
}


def router(service: Service, *, names_versions: bool = True) -> APIRouter:
    """Build the two routes that a load balancer or Kubernetes asks, with GET or HEAD; they need no token.

    `names_versions` says whether `/readyz` names the artifacts, which strangers should not learn.
    """
    routes = APIRouter()

    @routes.head("/healthz", include_in_schema=False)
    @routes.get("/healthz", tags=["operations"], summary="The process is up")
    async def health() -> Health:
        return Health()

    @routes.head("/readyz", response_model=None, include_in_schema=False)
    @routes.get("/readyz", response_model=Readiness, responses=NOT_READY, tags=["operations"], summary="Searches work")
    async def ready() -> Readiness | JSONResponse:
        if await service.is_ready():
            return Readiness(versions=service.answers.bundle.versions if names_versions else None)
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "the models do not answer yet", "not_ready")

    return routes
