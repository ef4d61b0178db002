"""`GET /v1/versions` and `POST /v1/reload`: the artifacts that answers are made from."""

from typing import Any

from fastapi import APIRouter

from raylevance.client.messages import Served
from serve.problems import NotServed
from serve.responses import FAULTS, NOT_SERVED
from serve.service import Service


def router(service: Service, *, events: bool = False) -> APIRouter:
    """Build the routes that say what this replica answers from, and look for a newer bundle at once.

    `events` says whether it keeps events.
    """
    guarded: dict[int | str, dict[str, Any]] = {status: FAULTS[status] for status in (401, 403, 429)}
    routes = APIRouter(tags=["operations"], responses=guarded)

    def served() -> Served:
        versions = service.answers.bundle.versions.model_dump()
        return Served(**versions, loaded=service.loaded, events=events, refused=list(service.refused))

    @routes.head("/v1/versions", include_in_schema=False)
    @routes.get("/v1/versions", summary="The artifacts that answers are made from, and the bundles that were refused")
    async def versions() -> Served:
        return served()

    @routes.post(
        "/v1/reload",
        responses=NOT_SERVED,
        summary="Look for a newer bundle now, in the replica that answers; scope admin",
    )
    async def reload() -> Served:
        if not service.follows:
            raise NotServed("no bundle is followed; start the server with --bundle bundle/NAME")
        await service.update(retry=True)
        return served()

    return routes
