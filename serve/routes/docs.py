"""`GET /docs`: Swagger UI over `/openapi.json`, with files of this server alone.

Swagger UI comes from fastapi-offline, which packs its two files for installation with pip.
"""

from pathlib import Path

import fastapi_offline
from fastapi import APIRouter

from serve.static_files import POLICY, add_file

FOLDER = Path(__file__).parents[1] / "docs"
SWAGGER_UI = Path(fastapi_offline.__file__).parent / "static"
FILES = {
    "/docs": FOLDER / "index.html",
    "/docs/start.js": FOLDER / "start.js",
    "/docs/swagger-ui-bundle.js": SWAGGER_UI / "swagger-ui-bundle.js",
    "/docs/swagger-ui.css": SWAGGER_UI / "swagger-ui.css",
}
DOCS_POLICY = f"{POLICY}; img-src 'self' data:"
"""Pictures in its style sheet are allowed. Trusted types are not asked for: Swagger UI makes HTML of text."""


PATHS = frozenset(FILES)
"""The paths of the documentation. They hold no data, so they need no token."""


def router() -> APIRouter:
    """Build the routes of the documentation, with GET and HEAD. The files are read here, once."""
    routes = APIRouter(include_in_schema=False)
    for path, file in FILES.items():
        add_file(routes, path, file.read_bytes(), file.suffix, DOCS_POLICY)
    return routes
