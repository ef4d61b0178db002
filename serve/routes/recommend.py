"""`POST /v1/recommend`: items like those that a user acted on."""

from fastapi import APIRouter, Response

from raylevance.client.messages import RecommendationAnswers, Recommendations, RecommendBatch, RecommendRequest
from serve.feedback import Feedback
from serve.json_bodies import JsonRoute
from serve.responses import FAULTS, NOT_SERVED, answer_all, json_response
from serve.service import Service


def router(service: Service, feedback: Feedback | None = None) -> APIRouter:
    """Build the routes for one request and for several; `feedback` keeps their ids, so that events can name them."""
    routes = APIRouter(route_class=JsonRoute, tags=["recommend"], responses={**FAULTS, **NOT_SERVED})

    def noted(answer: Recommendations) -> Recommendations:
        if feedback is not None:
            feedback.answered(answer.query_id)
        return answer

    @routes.post("/v1/recommend", response_model=Recommendations, summary="Items for what a user acted on")
    async def recommend(request: RecommendRequest) -> Response:
        return json_response(noted(await service.answers.recommend(request)))

    @routes.post("/v1/recommend/batch", response_model=RecommendationAnswers, summary="Several requests of one bundle")
    async def recommend_all(batch: RecommendBatch) -> Response:
        answers = service.answers
        found = await answer_all(answers.recommend, batch.requests)
        return json_response(RecommendationAnswers(answers=[noted(answer) for answer in found]))

    return routes
