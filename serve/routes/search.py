"""`POST /v1/search`: products for a query."""

from typing import Any

from fastapi import APIRouter

from raylevance.errors import UsageError
from serve.messages import Answer, Failure, SearchRequest
from serve.searcher import Searcher

INVALID_REQUEST: dict[int | str, dict[str, Any]] = {
    422: {"model": Failure, "description": "A field of the request is unknown, or its value is not allowed."}
}


def router(searcher: Searcher, max_k: int) -> APIRouter:
    """Build the search route; a request for more than `max_k` hits is refused."""
    routes = APIRouter()

    @routes.post("/v1/search", responses=INVALID_REQUEST, tags=["search"], summary="Search products, with grades")
    async def search(request: SearchRequest) -> Answer:
        if request.k > max_k:
            raise UsageError(f"k: at most {max_k} hits, got {request.k}")
        return await searcher.answer(request)

    return routes
