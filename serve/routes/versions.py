"""`GET /v1/versions`: the artifacts that answers are made from."""

from fastapi import APIRouter

from serve.messages import Versions
from serve.searcher import Searcher


def router(searcher: Searcher) -> APIRouter:
    """Build the route that returns the versions of the searcher's bundle."""
    routes = APIRouter()

    @routes.head("/v1/versions", include_in_schema=False)
    @routes.get("/v1/versions", tags=["operations"], summary="The artifacts that answers are made from")
    async def versions() -> Versions:
        return searcher.bundle.versions

    return routes
