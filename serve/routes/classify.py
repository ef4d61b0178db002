"""`POST /v1/classify`: categories, brands or intents of a query."""

from fastapi import APIRouter, Response

from raylevance.client.messages import Classification, Classifications, ClassifyBatch, ClassifyRequest
from serve.json_bodies import JsonRoute
from serve.responses import FAULTS, NOT_SERVED, UNAVAILABLE, answer_all, json_response
from serve.service import Service


def router(service: Service) -> APIRouter:
    """Build the routes for one request and for several."""
    routes = APIRouter(route_class=JsonRoute, tags=["classify"], responses={**FAULTS, **NOT_SERVED, **UNAVAILABLE})

    @routes.post("/v1/classify", response_model=Classification, summary="Labels of a query")
    async def classify(request: ClassifyRequest) -> Response:
        return json_response(await service.answers.classify(request))

    @routes.post("/v1/classify/batch", response_model=Classifications, summary="Several requests of one bundle")
    async def classify_all(batch: ClassifyBatch) -> Response:
        answers = service.answers
        found = await answer_all(answers.classify, batch.requests)
        return json_response(Classifications(answers=found))

    return routes
