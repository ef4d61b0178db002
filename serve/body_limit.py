"""Requests are refused by their size before anything reads them."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.failures import failure

LONGEST_BODY = 64 << 10
"""Bytes: a query has at most 512 characters, and filters a few names."""
REASON = f"the body is longer than {LONGEST_BODY} bytes"


class BodyLimit:
    """ASGI middleware: 413 for a body that says it is too long, or turns out to be."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > LONGEST_BODY:
            await failure(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, REASON)(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > LONGEST_BODY:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, REASON)
            return message

        await self.app(scope, counted, send)
