"""`POST /v1/events`: what users did with the products of answers."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from fastapi.exceptions import HTTPException

from raylevance.client.messages import EventBatch, EventsKept, Problem
from serve.bundle import NotServed
from serve.feedback import Feedback
from serve.journal import NotKeptError

RETRY_AFTER_S = 5

FAILURES: dict[int | str, dict[str, Any]] = {
    422: {"model": Problem, "description": "A field of an event is unknown, or its value is not allowed."},
    503: {"model": Problem, "description": "The events were not kept. Send them again after `Retry-After` seconds."},
}


def router(feedback: Feedback | None) -> APIRouter:
    """Build the route that keeps events. It answers when they are on the disk; None keeps none, and says so."""
    routes = APIRouter()

    @routes.post("/v1/events", responses=FAILURES, tags=["events"], summary="Keep what users did with answers")
    async def events(batch: EventBatch) -> EventsKept:
        if feedback is None:
            raise NotServed("events are not kept; start the server with --set events=true")
        try:
            return await feedback.keep(batch.events)
        except NotKeptError as error:
            raise HTTPException(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"the events were not kept: {error}; send them again",
                {"Retry-After": str(RETRY_AFTER_S)},
            ) from error

    return routes
