"""A search page in one call joins what the routes of its parts answer."""

import pytest
from fastapi.testclient import TestClient

from raylevance.client.messages import Hit, RecommendedItem
from serve.api import build_api
from serve.metrics import Metrics
from serve.search_page import ranked_hits
from serve.service import Service
from serve.settings import LimitSettings, PageSettings
from tests.serve.conftest import post


def test_the_page_joins_all_parts_by_its_formula(client: TestClient, full_service: Service) -> None:
    weights = full_service.answers.settings.page
    triggers = [{"product_id": "P190"}, {"product_id": "nope"}]
    page = post(client, "/v1/query", query="red lamp", k=20, triggers=triggers)
    hybrid = post(client, "/v1/search", query="red lamp", k=weights.candidates)["hits"]
    prior = {
        label["label"]: label["probability"]
        for label in post(client, "/v1/classify", query="red lamp", task="category", k=100, minimum=0.0)["tasks"][
            "category"
        ]
    }
    brought = post(client, "/v1/recommend", triggers=[{"product_id": "P190"}], k=200)["items"]
    scores = {hit["product_id"]: hit["score"] for hit in hybrid}
    low, high = min(scores.values()), max(scores.values())
    table = {item["product_id"]: item["score"] for item in brought}
    worst, best = min(table.values()), max(table.values())
    expected = {}
    for hit in hybrid:
        score = (hit["score"] - low) / (high - low)
        score += weights.category_weight * prior.get(" > ".join(hit["category"]), 0.0)
        if hit["product_id"] in table:
            score += weights.trigger_weight * (table[hit["product_id"]] - worst) / (best - worst)
        expected[hit["product_id"]] = score
    judged = sorted(expected, key=lambda product_id: -expected[product_id])[: weights.judged]
    products = [{"product_id": product_id} for product_id in judged]
    for product in post(client, "/v1/relevance", query="red lamp", products=products)["products"]:
        expected[product["product_id"]] += weights.relevance_weight * product["probability"]
    assert page["unknown"] == ["nope"]
    assert len(page["hits"]) == 20
    for hit in page["hits"]:
        assert hit["score"] == pytest.approx(expected[hit["product_id"]], abs=2e-3)
        assert hit["trigger"] == ("P190" if hit["product_id"] in table else None)
    given = [hit["score"] for hit in page["hits"]]
    assert given == sorted(given, reverse=True)


def test_the_page_cuts_at_the_grade_and_counts_what_it_cut(client: TestClient) -> None:
    every = post(client, "/v1/query", query="blue wool socks", k=100)
    relevant = post(client, "/v1/query", query="blue wool socks", k=100, minimum_grade=2)
    assert {hit["grade"] for hit in relevant["hits"]} == {2}
    assert len(relevant["hits"]) + relevant["cut"] == len(every["hits"])


def hit(product_id: str, score: float, category: list[str] | None = None) -> Hit:
    return Hit(
        product_id=product_id,
        title="",
        brand=None,
        category=category,
        score=score,
        grade=None,
        dense_score=None,
        lexical_score=None,
    )


def test_the_deepest_label_above_a_product_counts() -> None:
    hits = [hit("a", 1.0, ["Home", "Kitchen", "Pans"]), hit("b", 1.0, ["Garden"]), hit("c", 1.0)]
    prior = {"Home": 0.25, "Home > Kitchen": 0.75}
    ranked = ranked_hits(hits, prior, {}, PageSettings(category_weight=2.0))
    assert [(one.product_id, one.score) for one in ranked] == [("a", 2.5), ("b", 1.0), ("c", 1.0)]


def test_without_parts_the_page_is_the_hybrid_order() -> None:
    hits = [hit("a", 9.0), hit("b", 5.0), hit("c", 1.0)]
    ranked = ranked_hits(hits, None, {}, PageSettings())
    assert [(one.product_id, one.score) for one in ranked] == [("a", 1.0), ("b", 0.5), ("c", 0.0)]
    item = RecommendedItem(product_id="c", score=3.0, trigger="t", title=None, brand=None, category=None)
    moved = ranked_hits(hits, None, {"c": item}, PageSettings(trigger_weight=0.75))
    assert [one.product_id for one in moved] == ["a", "c", "b"]


def test_the_page_explains_when_asked(client: TestClient) -> None:
    hits = post(client, "/v1/query", query="red lamp", k=3, explain=True)["hits"]
    assert ["red", "lamp"] in [hit["explanation"]["words"] for hit in hits]
    assert {hit["explanation"] for hit in post(client, "/v1/query", query="red lamp", k=3)["hits"]} == {None}


def test_without_a_table_a_page_names_all_triggers_as_unknown(service: Service, metrics: Metrics) -> None:
    triggers = [{"product_id": name} for name in ("P002", "P001", "P002")]
    with TestClient(build_api(service, metrics, LimitSettings()), base_url="http://localhost") as client:
        page = post(client, "/v1/query", query="lamp", triggers=triggers)
        plain = post(client, "/v1/query", query="lamp")
    assert (page["unknown"], plain["unknown"]) == (["P002", "P001"], [])
    assert page["hits"] == plain["hits"] != []
