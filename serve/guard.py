"""What every request passes before a route sees it: its id, its token, and limits on its body, number and time.

The checks stand in order of their cost: the token is checked before a byte of the body is read.
"""

import asyncio
import json
import logging
import re
import time
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from raylevance.tokens import Tokens
from serve.metrics import Metrics
from serve.problems import problem
from serve.request_id import REQUEST_ID, new_id
from serve.routes import docs, page
from serve.settings import LimitSettings
from serve.tracing import Tracing

log = logging.getLogger("ray.serve")

OPEN = page.PATHS | docs.PATHS | {"/openapi.json", "/healthz", "/readyz"}
"""Paths that need no token: the page and the documentation, which have no data, and what a load balancer asks."""
SEARCH, ADMIN = "search", "admin"
SCOPES = {"/v1/reload": [ADMIN], "/v1/versions": [SEARCH, ADMIN]}
"""The scopes that open a path, each by itself; others need `SEARCH`."""
UNBOUNDED = frozenset({"/healthz", "/readyz"})
"""Paths that are answered however many requests are in flight."""
UNTIMED = frozenset({"/v1/reload"})
"""Paths that may take longer than the time limit of a request: to load a bundle takes minutes."""
LOOPBACK_HOST = re.compile(r"(localhost\.?|127(\.\d{1,3}){3}|\[::1\])(:\d*)?", re.IGNORECASE)
"""The hosts of a server without tokens. A page of another origin can make its own name mean 127.0.0.1 (DNS rebinding),
but its browser then sends that name."""
ID = re.compile(r"[A-Za-z0-9._:;=/+@-]{1,128}")
"""The ids of requests that are taken over, such as those of load balancers."""
RETRY_AFTER_S = 1
CLIENT_LEFT = 499
"""The status in metrics and the log for a client that left before its answer, as nginx writes it."""


class Guard:
    """ASGI middleware around the routes."""

    def __init__(
        self,
        app: ASGIApp,
        limits: LimitSettings,
        metrics: Metrics,
        tracing: Tracing,
        tokens: Tokens | None,
        routes: frozenset[str],
        adds_id: bool,
    ) -> None:
        """Pass the requests that are allowed on to `app`; metrics name the path of a request if it is in `routes`.

        `adds_id` puts the id of the request into the head of its answer. Ray Serve does that by itself.
        """
        self.app = app
        self._limits = limits
        self._metrics = metrics
        self._tracing = tracing
        self._tokens = tokens
        self._routes = routes
        self._adds_id = adds_id
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if ID.fullmatch(given) else new_id()
        REQUEST_ID.set(request_id)
        adds_id = self._adds_id or request_id != given
        request = _Request(self._limits, receive, send, request_id, adds_id=adds_id)
        route = scope["path"] if scope["path"] in self._routes else "other"
        self._in_flight += 1
        try:
            with self._tracing.request(scope["method"], route, headers) as span:
                await self._pass(scope, headers, request)
                span |= {"http.route": route, "http.response.status_code": request.status, "request.id": request.id}
        finally:
            self._in_flight -= 1
            request.status = request.status or CLIENT_LEFT
            seconds = time.perf_counter() - started
            self._metrics.answered(route, request.status, seconds)
            self._metrics.in_flight(self._in_flight)
            if route not in UNBOUNDED:
                log.info(_line(scope, route, request, seconds))

    async def _pass(self, scope: Scope, headers: dict[bytes, bytes], request: "_Request") -> None:
        refusal = self._refusal(scope["path"], headers)
        if refusal:
            await problem(*refusal)(scope, request.receive, request.send)
        else:
            await self._answer(scope, request)

    def _refusal(
        self, path: str, headers: dict[bytes, bytes]
    ) -> tuple[HTTPStatus, str, str | None, dict[str, str]] | None:
        """Return why a request is refused by its head alone, None if it is not."""
        host = headers.get(b"host", b"").decode("latin-1")
        if self._tokens is None and host and not LOOPBACK_HOST.fullmatch(host):
            message = f"{host[:80]!a} is no name of loopback: call 127.0.0.1, or start the server with --tokens"
            return HTTPStatus.FORBIDDEN, message, None, {}
        if self._tokens is not None and path not in OPEN:
            kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
            scopes = self._tokens.scopes(token.strip()) if kind.lower() == "bearer" else frozenset()
            if not scopes:
                message = "a token is needed: send the header 'Authorization: Bearer TOKEN'"
                if token:
                    message = "the token is not known here; it may have been removed, or is not sent as Bearer TOKEN"
                return HTTPStatus.UNAUTHORIZED, message, None, {"WWW-Authenticate": "Bearer"}
            needed = SCOPES.get(path, [SEARCH])
            if scopes.isdisjoint(needed):
                return HTTPStatus.FORBIDDEN, f"the token lacks the scope {needed[0]!r}", None, {}
        if self._in_flight > self._limits.max_in_flight and path not in UNBOUNDED:
            message = f"{self._limits.max_in_flight} requests are in flight; try again in {RETRY_AFTER_S} s"
            return HTTPStatus.TOO_MANY_REQUESTS, message, None, {"Retry-After": str(RETRY_AFTER_S)}
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._limits.max_body_bytes:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_long(self._limits), None, {}
        return None

    async def _answer(self, scope: Scope, request: "_Request") -> None:
        """Let the routes answer; a fault of ours is a problem too, with its traceback in the log alone."""
        try:
            async with asyncio.timeout(None if scope["path"] in UNTIMED else self._limits.timeout_s):
                await self.app(scope, request.receive, request.send)
        except TimeoutError:
            if request.status:
                raise  # the answer has begun, so that it can only be cut off
            if request.is_waiting:
                status, what = HTTPStatus.REQUEST_TIMEOUT, "the body has not arrived"
            else:
                status, what = HTTPStatus.GATEWAY_TIMEOUT, "no answer"
            await problem(status, f"{what} within {self._limits.timeout_s:g} s")(scope, request.receive, request.send)
        except Exception:
            log.exception("request %s failed", request.id)
            if request.status:
                raise
            detail = "the request failed; the server's log says why"
            await problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail)(scope, request.receive, request.send)


class _Request:
    """A request while it is answered."""

    def __init__(self, limits: LimitSettings, receive: Receive, send: Send, request_id: str, *, adds_id: bool) -> None:
        self.status = 0
        self.is_waiting = False
        """Whether a part of the body is waited for."""
        self.id = request_id
        self._adds_id = adds_id
        self._limits, self._receive, self._send = limits, receive, send
        self._received = 0

    async def receive(self) -> Message:
        """Receive a part of the body. Raises an `HTTPException` of status 413 when it turns out to be too long."""
        self.is_waiting = True
        message = await self._receive()
        self.is_waiting = False
        self._received += len(message.get("body", b""))
        if self._received > self._limits.max_body_bytes:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_long(self._limits))
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer; its head gets the id of the request where wanted."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        if message["type"] == "http.response.start" and self._adds_id:
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.id.encode())]
        await self._send(message)


def too_long(limits: LimitSettings) -> str:
    """Return the message for a body that is too long."""
    return f"the body is longer than {limits.max_body_bytes} bytes"


def _line(scope: Scope, route: str, request: _Request, seconds: float) -> str:
    """Return the line of the log for a request, in JSON; a path that is not a route of ours stays out of it."""
    return json.dumps(
        {
            "request_id": request.id,
            "method": scope["method"],
            "route": route,
            "status": request.status,
            "ms": round(1000 * seconds, 1),
            **scope.get("state", {}).get("logged", {}),
        }
    )
