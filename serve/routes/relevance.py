"""`POST /v1/relevance`: how relevant products are to a query."""

from fastapi import APIRouter, Response

from raylevance.client.messages import RelevanceAnswers, RelevanceBatch, RelevanceRequest, Relevances
from serve.json_bodies import JsonRoute
from serve.responses import FAULTS, NOT_SERVED, UNAVAILABLE, answer_all, json_response
from serve.service import Service


def router(service: Service) -> APIRouter:
    """Build the routes for one request and for several."""
    routes = APIRouter(route_class=JsonRoute, tags=["relevance"], responses={**FAULTS, **NOT_SERVED, **UNAVAILABLE})

    @routes.post("/v1/relevance", response_model=Relevances, summary="Relevance of products to a query")
    async def relevance(request: RelevanceRequest) -> Response:
        return json_response(await service.answers.relevance(request))

    @routes.post("/v1/relevance/batch", response_model=RelevanceAnswers, summary="Several requests of one bundle")
    async def relevance_all(batch: RelevanceBatch) -> Response:
        answers = service.answers
        found = await answer_all(answers.relevance, batch.requests)
        return json_response(RelevanceAnswers(answers=found))

    return routes
