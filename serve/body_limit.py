"""A limit on the size of request bodies, checked before anything reads them."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.error_responses import error_response

MAX_BODY_BYTES = 64 << 10
"""Enough for any valid request: a query has at most 512 characters, and filters are a few names."""

TOO_LONG = f"the body is longer than {MAX_BODY_BYTES} bytes"


class BodyLimit:
    """ASGI middleware that answers 413 when a body is declared, or turns out, to be too long."""

    def __init__(self, app: ASGIApp) -> None:
        """Pass the requests that are short enough on to `app`."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
            await error_response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_LONG)(scope, receive, send)
            return
        received_bytes = 0

        async def receive_within_limit() -> Message:
            nonlocal received_bytes
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > MAX_BODY_BYTES:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_LONG)
            return message

        await self.app(scope, receive_within_limit, send)
