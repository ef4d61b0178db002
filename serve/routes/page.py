"""`GET /`: the search page, and its files below `/page/`."""

from pathlib import Path

from fastapi import APIRouter

from serve.static_files import MEDIA_TYPES, POLICY, TRUSTED_TYPES, add_file

FOLDER = Path(__file__).parents[1] / "page"
INDEX = "index.html"
HITS = b'data-hits="%d"'
MOST_HITS = 20
"""The hits that the page asks for, where the server allows as many."""


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
        add_file(routes, path, content, file.suffix, f"{POLICY}; {TRUSTED_TYPES}")
    return routes
