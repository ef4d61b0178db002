"""`GET /`: the search page, and its files below `/page/`."""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Request, Response

FOLDER = Path(__file__).parents[1] / "page"
INDEX = "index.html"
MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HITS = b'data-hits="%d"'
MOST_HITS = 20
"""The hits that the page asks for, where the server allows as many."""

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Only this server's own files run in the page or style it, and no other page can frame it."""


def _files() -> dict[str, Path]:
    names = sorted(file for file in FOLDER.iterdir() if file.suffix in MEDIA_TYPES)
    return {"/" if file.name == INDEX else f"/page/{file.name}": file for file in names}


PATHS = frozenset(_files())
"""The paths of the page's files. They hold no data, so they need no token: the page itself asks for one."""


def router(max_k: int = 100) -> APIRouter:
    """Build the routes of the page's files, with GET and HEAD.

    The page asks for at most `max_k` hits. The files are read here, once.
    """
    routes = APIRouter(include_in_schema=False)
    for path, file in _files().items():
        content = file.read_bytes().replace(HITS % MOST_HITS, HITS % min(MOST_HITS, max_k))
        routes.add_api_route(path, _answer(content, MEDIA_TYPES[file.suffix]), methods=["GET", "HEAD"])
    return routes


def _answer(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that answers `content`, or 304 to a browser whose copy has the same ETag."""
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = {
        **SECURITY_HEADERS,
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
