"""Failures as `application/problem+json` (RFC 9457): every one has the same shape, and its detail is one line."""

import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Route

from raylevance.client.messages import Problem
from raylevance.config import setting_names
from raylevance.errors import UsageError, nearest
from serve.request_id import REQUEST_ID

MAX_ECHO_CHARACTERS = 80
"""A value of the request is repeated in a message up to this length."""
MOST_FAULTS = 3
MEDIA_TYPE = "application/problem+json"


class NotServed(UsageError):
    """A request for which this server has nothing, such as no classifier. Its text is the detail, with status 404."""


class Unavailable(Exception):
    """A request that can't be answered now, but later. Its text is the detail of the answer, with status 503."""


class RepeatedKey(HTTPException):
    """A body in which an object has a key more than once."""

    def __init__(self, key: str) -> None:
        """Name the key."""
        super().__init__(HTTPStatus.BAD_REQUEST, f"the body has the field {_echo(key)} more than once; send it once")


def install_problem_handlers(api: FastAPI) -> None:
    """Make `api` answer the exceptions of a request that can't be answered with a `Problem`; `Guard` has all others."""

    @api.exception_handler(RequestValidationError)
    def answer_invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
        detail = describe_faults(error.errors(), body_model(request))
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, "invalid_request")

    @api.exception_handler(NotServed)
    def answer_not_served(_: Request, error: NotServed) -> JSONResponse:
        return problem(HTTPStatus.NOT_FOUND, str(error), "not_served")

    @api.exception_handler(UsageError)
    def answer_usage_error(_: Request, error: UsageError) -> JSONResponse:
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), "invalid_request")

    @api.exception_handler(Unavailable)
    def answer_unavailable(_: Request, error: Unavailable) -> JSONResponse:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), None, {"Retry-After": "1"})

    @api.exception_handler(RepeatedKey)
    def answer_repeated_key(_: Request, error: RepeatedKey) -> JSONResponse:
        return problem(HTTPStatus.BAD_REQUEST, error.detail)

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
        elif error.status_code == HTTPStatus.BAD_REQUEST:
            message = "the body is not JSON that can be read"
        return problem(HTTPStatus(error.status_code), message, None, headers)


def problem(
    status: HTTPStatus, detail: str, code: str | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    """Return a response with `status` and `detail`; `code` is the status's name in snake case unless given."""
    body = Problem(
        title=status.phrase,
        status=status,
        detail=detail,
        code=code or status.name.lower(),
        request_id=REQUEST_ID.get(),
    )
    return JSONResponse(body.model_dump(), status, headers, media_type=MEDIA_TYPE)


def body_model(request: Request) -> type[BaseModel] | None:
    """Return the model of the body that the route of `request` takes, None for a route without one."""
    parameters = request.scope["route"].dependant.body_params if "route" in request.scope else []
    model = parameters[0].field_info.annotation if parameters else None
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def describe_faults(faults: Any, model: type[BaseModel] | None) -> str:
    """Describe the first faults of a request (pydantic's list of errors) in one line, and count the others.

    `model` is that of the body, whose fields are named where one is unknown.
    """
    others = f" (and {len(faults) - MOST_FAULTS} more)" if len(faults) > MOST_FAULTS else ""
    return "; ".join(_describe_fault(fault, model) for fault in faults[:MOST_FAULTS]) + others


def _describe_fault(fault: dict[str, Any], model: type[BaseModel] | None) -> str:
    field = ".".join(str(part) for part in fault["loc"][1:])
    kind, value = fault["type"], fault.get("input")
    if kind == "json_invalid":
        return f"the body is not valid JSON: {fault['ctx']['error']}, at character {field}"
    if not field:
        return "the body must be a JSON object, sent with content-type application/json"
    if kind == "extra_forbidden":
        named = f"; {nearest(field, setting_names(model))}" if model else ""
        return f"unknown field {_echo(field)}{named}"
    if kind == "missing":
        return f"field {_echo(field)} is required"
    if kind == "literal_error" and isinstance(value, str):
        allowed = re.findall(r"'(.+?)'", fault["ctx"]["expected"])
        return f"{_plain(field)}: unknown value {_echo(value)}; {nearest(value, allowed)}"
    message = re.sub(r" after validation, not (\d+)$", "", fault["msg"].removeprefix("Value error, "))
    return f"{_plain(field)}: {message[:1].lower()}{message[1:]}, got {_echo(value)}"


def _plain(field: str) -> str:
    return _echo(field)[1:-1] if field.isascii() and field.isprintable() else _echo(field)


def _echo(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= MAX_ECHO_CHARACTERS else f"{text[:MAX_ECHO_CHARACTERS]}..."
