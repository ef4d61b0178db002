"""The HTTP API without Ray: `build_api` makes an ASGI application of the routes."""

from fastapi import FastAPI

from raylevance import __version__
from serve.body_limit import BodyLimit
from serve.error_responses import install_error_handlers
from serve.routes import health, search, versions
from serve.searcher import Searcher


def build_api(searcher: Searcher, max_k: int = 100) -> FastAPI:
    """Build the API around `searcher`; a request may ask for at most `max_k` hits."""
    api = FastAPI(title="raylevance", version=__version__, description="E-commerce search relevance on Ray.")
    api.add_middleware(BodyLimit)
    install_error_handlers(api)
    for router in (search.router(searcher, max_k), versions.router(searcher), health.router(searcher)):
        api.include_router(router)
    return api
