"""JSON responses for failures: every one has the same shape, and its message is one readable line."""

import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route

from raylevance.config import setting_names
from raylevance.errors import UsageError, nearest
from serve.messages import Failure, Fault, SearchRequest

MAX_ECHO_CHARACTERS = 80
"""A value of the request is repeated in a message up to this length."""


def install_error_handlers(api: FastAPI) -> None:
    """Make `api` answer every exception with a `Failure`.

    An unexpected exception is raised again after the answer, so that the server's log has its traceback.
    """

    @api.exception_handler(RequestValidationError)
    def answer_invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(HTTPStatus.UNPROCESSABLE_ENTITY, describe_faults(error.errors()), "invalid_request")

    @api.exception_handler(UsageError)
    def answer_usage_error(_: Request, error: UsageError) -> JSONResponse:
        return error_response(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), "invalid_request")

    @api.exception_handler(HTTPException)
    def answer_http_error(request: Request, error: HTTPException) -> JSONResponse:
        message: str = error.detail
        headers = dict(error.headers or {})
        path = request.url.path
        if error.status_code == HTTPStatus.NOT_FOUND:
            paths = [route.path for route in api.routes if hasattr(route, "path")]
            message = f"no such path {_echo(path)}; {nearest(path, paths)}"
        elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            # The exception names the methods of one route; a path may have a route for each method.
            routes = [route for route in api.routes if isinstance(route, Route) and route.path == path]
            methods = {method for route in routes for method in route.methods or ()}
            headers["Allow"] = ", ".join(sorted(methods))
            message = f"{path} does not take {request.method}, it takes {headers['Allow']}"
        response = error_response(HTTPStatus(error.status_code), message)
        response.headers.update(headers)
        return response

    @api.exception_handler(Exception)
    def answer_unexpected_error(_: Request, error: Exception) -> JSONResponse:
        return error_response(HTTPStatus.INTERNAL_SERVER_ERROR, "the search failed; the server's log says why")


def error_response(status: HTTPStatus, message: str, code: str | None = None) -> JSONResponse:
    """Return a response with `status` and `message`; `code` is the status's name in snake case unless given."""
    body = Failure(error=Fault(code=code or status.name.lower(), message=message))
    return JSONResponse(body.model_dump(), status)


def describe_faults(faults: Any) -> str:
    """Describe the first of a request's faults (pydantic's list of errors) in one line, and count the others."""
    others = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return _describe_fault(faults[0]) + others


def _describe_fault(fault: dict[str, Any]) -> str:
    field = ".".join(str(part) for part in fault["loc"][1:])
    kind, value = fault["type"], fault.get("input")
    if kind == "json_invalid":
        return f"the body is not valid JSON: {fault['ctx']['error']}, at character {field}"
    if not field:
        return "the body must be a JSON object, sent with content-type application/json"
    if kind == "extra_forbidden":
        return f"unknown field {_echo(field)}; {nearest(field, setting_names(SearchRequest))}"
    if kind == "missing":
        return f"field {field!r} is required"
    if kind == "literal_error" and isinstance(value, str):
        allowed = re.findall(r"'(.+?)'", fault["ctx"]["expected"])
        return f"{field}: unknown value {_echo(value)}; {nearest(value, allowed)}"
    return f"{field}: {fault['msg'][:1].lower()}{fault['msg'][1:]}, got {_echo(value)}"


def _echo(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= MAX_ECHO_CHARACTERS else f"{text[:MAX_ECHO_CHARACTERS]}..."
