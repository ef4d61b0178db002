"""`POST /v1/query`: what a search page needs in one call."""

from fastapi import APIRouter, Request, Response

from raylevance.client.messages import Page, QueryRequest
from serve.feedback import Feedback
from serve.json_bodies import JsonRoute
from serve.responses import FAULTS, UNAVAILABLE, json_response, note_answer
from serve.search_page import search_page
from serve.service import Service


def router(service: Service, feedback: Feedback | None = None, log_queries: bool = False) -> APIRouter:
    """Build the route of the search page; `feedback` keeps the query of each answer, so that events can name it."""
    routes = APIRouter(route_class=JsonRoute, tags=["search"], responses={**FAULTS, **UNAVAILABLE})

    @routes.post("/v1/query", response_model=Page, summary="Classify, retrieve, score and cut, in one call")
    async def query(request: QueryRequest, http: Request) -> Response:
        answer = await search_page(service.answers, request)
        note_answer(http, [answer], feedback, log_queries)
        return json_response(answer)

    return routes
