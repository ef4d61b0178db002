"""Responses that routes share: answers as JSON, and the failures that OpenAPI lists."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel

from raylevance.client.messages import Problem
from raylevance.errors import UsageError
from serve.feedback import Feedback
from serve.problems import MEDIA_TYPE

R = TypeVar("R")
A = TypeVar("A")


def _fault(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"model": Problem, "description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


FAULTS: dict[int | str, dict[str, Any]] = {
    400: _fault("The body is not JSON that can be read, or has a field twice."),
    401: _fault("A token is needed."),
    403: _fault("The token lacks the scope; or, where no token is needed, the Host is no name of loopback."),
    408: _fault("The body did not arrive in time."),
    413: _fault("The body is too long."),
    422: _fault("A field of the request is unknown, or its value is not allowed."),
    429: _fault("Too many requests are in flight; Retry-After says when to try again."),
    504: _fault("No answer in time."),
}
"""Failures of every route that takes a body."""
NOT_SERVED: dict[int | str, dict[str, Any]] = {404: _fault("The bundle has no artifact for this.")}
UNAVAILABLE: dict[int | str, dict[str, Any]] = {
    503: _fault("The processes that encode or hold the index do not answer; Retry-After says when to try again.")
}


class Answered(Protocol):
    """An answer that events can name."""

    @property
    def query_id(self) -> str:
        """The name of the answer."""

    @property
    def query(self) -> str:
        """The text that was searched for."""


async def answer_all(answer: Callable[[R], Awaitable[A]], requests: Sequence[R]) -> list[A]:
    """Answer the requests of a batch together, in their order. The first that fails ends the others, and is named."""

    async def one(number: int, request: R) -> A:
        try:
            return await answer(request)
        except UsageError as error:
            raise type(error)(f"requests.{number}: {error}") from None

    tasks = [asyncio.ensure_future(one(number, request)) for number, request in enumerate(requests)]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def json_response(answer: BaseModel) -> Response:
    """Return `answer` as JSON. FastAPI would check it against its own model once more."""
    return Response(answer.model_dump_json(), media_type="application/json")


def note_answer(request: Request, answers: Sequence[Answered], feedback: Feedback | None, log_queries: bool) -> None:
    """Keep the queries of `answers` for the events about them, and add them to the line of the log where wanted."""
    if feedback is not None:
        for answer in answers:
            feedback.answered(answer.query_id, answer.query)
    if log_queries:
        request.state.logged = {"queries": [answer.query for answer in answers]}
