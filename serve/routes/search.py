"""`POST /v1/search`: products for a query."""

from fastapi import APIRouter, Request, Response

from raylevance.client.messages import Answer, Answers, SearchBatch, SearchRequest
from serve.feedback import Feedback
from serve.json_bodies import JsonRoute
from serve.responses import FAULTS, UNAVAILABLE, answer_all, json_response, note_answer
from serve.service import Service


def router(service: Service, feedback: Feedback | None = None, log_queries: bool = False) -> APIRouter:
    """Build the search routes; `feedback` keeps the query of each answer, so that events can name it."""
    routes = APIRouter(route_class=JsonRoute, tags=["search"], responses={**FAULTS, **UNAVAILABLE})

    @routes.post("/v1/search", response_model=Answer, summary="Search products, with grades")
    async def search(request: SearchRequest, http: Request) -> Response:
        answer = await service.answers.search(request)
        note_answer(http, [answer], feedback, log_queries)
        return json_response(answer)

    @routes.post("/v1/search/batch", response_model=Answers, summary="Several searches, answered by one bundle")
    async def search_all(batch: SearchBatch, http: Request) -> Response:
        answers = service.answers
        found = await answer_all(answers.search, batch.requests)
        note_answer(http, found, feedback, log_queries)
        return json_response(Answers(answers=found))

    return routes
