"""`POST /v1/events`: what users did with the products of answers."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from fastapi.exceptions import HTTPException

from raylevance.client.messages import EventBatch, EventsKept
from serve.feedback import Feedback
from serve.journal import NotKeptError
from serve.json_bodies import JsonRoute
from serve.problems import NotServed
from serve.responses import FAULTS, NOT_SERVED

RETRY_AFTER_S = 5
FAILURES: dict[int | str, dict[str, Any]] = {
    404: NOT_SERVED[404] | {"description": "The server keeps no events."},
    503: NOT_SERVED[404] | {"description": "The events were not kept; Retry-After says when to send them again."},
}


def router(feedback: Feedback | None) -> APIRouter:
    """Build the route that keeps events. It answers when they are on the disk. Without `feedback` it keeps none."""
    routes = APIRouter(route_class=JsonRoute, tags=["events"], responses={**FAULTS, **FAILURES})

    @routes.post("/v1/events", summary="Keep what users did with answers")
    async def events(batch: EventBatch) -> EventsKept:
        if feedback is None:
            raise NotServed("this server keeps no events; start it with --set events=true")
        try:
            return await feedback.keep(batch.events)
        except NotKeptError as error:
            detail = f"the events were not kept: {error}; send them again"
            headers = {"Retry-After": str(RETRY_AFTER_S)}
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers) from error

    return routes
