"""Files that the server sends as they are: the search page and the documentation of the API."""

from collections.abc import Awaitable, Callable
from hashlib import sha256

from fastapi import APIRouter, Request, Response

MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
"""Only this server's own files run in a page or style it, and no other page can frame it."""
TRUSTED_TYPES = "require-trusted-types-for 'script'"


def add_file(routes: APIRouter, path: str, content: bytes, suffix: str, policy: str) -> None:
    """Add a route to `path` that answers `content` with GET and HEAD, or 304 to a browser whose copy has its ETag.

    `suffix` is that of the file's name, and `policy` its Content-Security-Policy.
    """
    routes.add_api_route(path, _answer(content, MEDIA_TYPES[suffix], policy), methods=["GET", "HEAD"])


def _answer(content: bytes, media_type: str, policy: str) -> Callable[[Request], Awaitable[Response]]:
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",  # Keep it, and ask each time whether it changed.
        "Content-Type": f"{media_type}; charset=utf-8",
        "ETag": tag,
    }

    async def answer(request: Request) -> Response:
        known = request.headers.get("If-None-Match", "").split(",")
        if tag in (each.strip().removeprefix("W/") for each in known):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)

    return answer
