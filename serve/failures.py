"""Every failure is JSON of one shape, one readable line, and never a traceback."""

import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from raylevance.config import known_keys
from raylevance.errors import UsageError, nearest
from serve.messages import Failure, Fault, SearchRequest

LONGEST_ECHO = 80


def install(api: FastAPI) -> None:
    """Answer what `api` raises. A defect of ours is also raised on, so that the server's log has its traceback."""

    @api.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return failure(HTTPStatus.UNPROCESSABLE_ENTITY, explain(error.errors()), "invalid_request")

    @api.exception_handler(UsageError)
    def refused(_: Request, error: UsageError) -> JSONResponse:
        return failure(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), "invalid_request")

    @api.exception_handler(HTTPException)
    def other(request: Request, error: HTTPException) -> JSONResponse:
        message: str = error.detail
        if error.status_code == HTTPStatus.NOT_FOUND:
            paths = [route.path for route in api.routes if hasattr(route, "path")]
            message = f"no such path {_echo(request.url.path)}; {nearest(request.url.path, paths)}"
        elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = (error.headers or {}).get("Allow", "another method")
            message = f"{request.url.path} does not take {request.method}, it takes {allowed}"
        answer = failure(HTTPStatus(error.status_code), message)
        answer.headers.update(error.headers or {})
        return answer

    @api.exception_handler(Exception)
    def defect(_: Request, error: Exception) -> JSONResponse:
        return failure(HTTPStatus.INTERNAL_SERVER_ERROR, "the search failed; the server's log says why")


def failure(status: HTTPStatus, message: str, code: str | None = None) -> JSONResponse:
    """`message` with `status`; `code` is the status's own name in snake case unless given."""
    body = Failure(error=Fault(code=code or status.name.lower(), message=message))
    return JSONResponse(body.model_dump(), status)


def explain(faults: Any) -> str:
    """The first of a request's faults (pydantic's error list) in one line; the count says how many more there are."""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return _line(faults[0]) + more


def _line(fault: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in fault["loc"][1:])
    kind, value = fault["type"], fault.get("input")
    if kind == "json_invalid":
        return f"the body is not valid JSON: {fault['ctx']['error']}, at character {key}"
    if not key:
        return "the body must be a JSON object, sent with content-type application/json"
    if kind == "extra_forbidden":
        return f"unknown field {_echo(key)}; {nearest(key, known_keys(SearchRequest))}"
    if kind == "missing":
        return f"field {key!r} is required"
    if kind == "literal_error" and isinstance(value, str):
        known = re.findall(r"'(.+?)'", fault["ctx"]["expected"])
        return f"{key}: unknown value {_echo(value)}; {nearest(value, known)}"
    return f"{key}: {fault['msg'][:1].lower()}{fault['msg'][1:]}, got {_echo(value)}"


def _echo(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= LONGEST_ECHO else f"{text[:LONGEST_ECHO]}..."
