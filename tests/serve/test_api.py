"""The routes without Ray: their answers and their failures."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from ray.util.metrics import Gauge

from raylevance.artifacts import Store
from raylevance.index.vectors import Vectors
from serve import api as api_module
from serve import service as service_module
from serve.api import build_api
from serve.metrics import Metrics
from serve.service import Service
from serve.settings import LimitSettings

LIMITS = LimitSettings()
MakeService = Callable[..., Service]


class Encoder:
    """Models of which only the encoder is asked."""

    def __init__(self, encode: Callable[[list[str]], Awaitable[Vectors]]) -> None:
        self._encode = encode

    async def encode(self, _: str, queries: list[str]) -> Vectors:
        return await self._encode(queries)

    async def score(self, _: str, pairs: list[Any]) -> list[float]:
        raise AssertionError(pairs)


@pytest.fixture(scope="module")
def client(service: Service, metrics: Metrics) -> Iterator[TestClient]:
    with TestClient(
        build_api(service, metrics, LIMITS), raise_server_exceptions=False, base_url="http://localhost"
    ) as client:
        yield client


@pytest.fixture
def client_of(make_service: MakeService, metrics: Metrics) -> Callable[..., TestClient]:
    """Return a function that makes a client of a server whose encoder is a function."""

    def make(encode: Callable[[list[str]], Awaitable[Vectors]], **options: Any) -> TestClient:
        return TestClient(
            build_api(make_service(Encoder(encode)), metrics, LIMITS), base_url="http://localhost", **options
        )

    return make


def search(client: TestClient, **request: Any) -> dict[str, Any]:
    response = client.post("/v1/search", json=request)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_an_answer_has_hits_and_versions(client: TestClient, shop: Any) -> None:
    answer = search(client, query="  red running shoes ", k=3)
    store = Store(shop.root)
    assert answer["query"] == "red running shoes"
    assert answer["mode"] == "hybrid"
    assert answer["took_ms"] > 0
    assert answer["versions"]["index"] == store.get("index/shop").ref
    assert answer["versions"]["encoder"] == store.get("encoder/shop").ref
    assert answer["versions"]["tables"] == store.get("tables/shop").ref
    assert client.get("/v1/versions").json().items() >= answer["versions"].items()
    first = answer["hits"][0]
    assert len(answer["hits"]) == 3
    assert first["title"].lower().startswith("red running shoe")
    assert first["category"] == ["Clothing", "Shoes"]
    assert first["grade"] == 2
    assert set(first) == {
        "product_id",
        "title",
        "brand",
        "category",
        "score",
        "grade",
        "dense_score",
        "lexical_score",
        "explanation",
    }
    assert first["explanation"] is None


def test_filters_narrow_the_hits(client: TestClient) -> None:
    request = {"query": "red", "k": 100}
    of_brand = search(client, **request, filters={"brand": ["Kestrel"]})["hits"]
    assert {hit["brand"] for hit in of_brand} == {"Kestrel"}
    in_category = search(client, **request, mode="dense", filters={"category": ["Home"]})["hits"]
    assert {hit["category"][0] for hit in in_category} == {"Home"}
    assert len(in_category) == 100
    assert search(client, **request, filters={"brand": ["no such brand"]})["hits"] == []


@pytest.mark.parametrize("filters", [None, {}, {"brand": []}, {"category": []}, {"brand": None, "category": []}])
def test_an_empty_filter_places_no_condition(client: TestClient, filters: Any) -> None:
    request = {"query": "red", "k": 100, "mode": "dense"}
    assert search(client, **request, filters=filters)["hits"] == search(client, **request)["hits"]


def test_a_lexical_search_encodes_only_for_grades(client_of: Callable[..., TestClient]) -> None:
    encoded: list[str] = []

    async def encode(queries: list[str]) -> Vectors:
        encoded.extend(queries)
        return np.full((len(queries), 384), 384**-0.5, np.float32)

    with client_of(encode) as client:
        hits = search(client, query="red sock", mode="lexical")["hits"]
        assert not encoded
        search(client, query="red sock", mode="lexical", minimum_grade=1)
        assert encoded == ["red sock"]
    assert len(hits) == 10
    assert {(hit["dense_score"], hit["grade"]) for hit in hits} == {(None, None)}
    assert [hit["score"] for hit in hits] == [hit["lexical_score"] for hit in hits]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_minimum_grade_applies_in_every_mode(client: TestClient, mode: str) -> None:
    request = {"query": "blue wool socks", "k": 100, "mode": mode}
    hits = search(client, **request)["hits"]
    relevant = search(client, **request, minimum_grade=2)["hits"]
    assert {hit["grade"] for hit in relevant} == {2}
    assert len(relevant) < len(hits)


@pytest.mark.parametrize("query", ["白い kettle", "Nøva", "🧦🧦", "a" * 512, "مصباح", "select * from; --"])
def test_any_text_is_a_valid_query(client: TestClient, query: str) -> None:
    assert search(client, query=query)["query"] == query


@pytest.mark.parametrize(
    ("request_body", "message"),
    [
        ({}, "field 'query' is required"),
        ({"query": "a", "kk": 1}, "unknown field 'kk'; did you mean 'k'?"),
        ({"query": "a", "filters": {"brnad": ["b"]}}, "unknown field 'filters.brnad'; did you mean 'filters.brand'?"),
        ({"query": "a", "mode": "denes"}, "mode: unknown value 'denes'; did you mean 'dense'?"),
        ({"query": "a", "k": 0}, "k: input should be greater than 0, got 0"),
        ({"query": "a", "k": 101}, "k: at most 100 hits, got 101"),
        ({"query": "a", "k": "10"}, "k: input should be a valid integer, got '10'"),
        ({"query": "a", "minimum_grade": 3}, "minimum_grade: input should be 0, 1 or 2, got 3"),
        ({"query": " \t "}, "query: string should have at least 1 character, got ' \\t '"),
        ({"query": "a" * 513}, f"query: string should have at most 512 characters, got '{'a' * 79}..."),
        ({"query": "a", "filters": {"brand": "b"}}, "filters.brand: input should be a valid list, got 'b'"),
        (
            {"query": 1, "k": 0},
            "query: input should be a valid string, got 1; k: input should be greater than 0, got 0",
        ),
        (["query"], "the body must be a JSON object, sent with content-type application/json"),
    ],
)
def test_an_invalid_request_is_explained_in_one_line(client: TestClient, request_body: Any, message: str) -> None:
    response = client.post("/v1/search", json=request_body)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem.pop("request_id") == response.headers["x-request-id"]
    assert problem == {
        "type": "about:blank",
        "title": HTTPStatus.UNPROCESSABLE_ENTITY.phrase,
        "status": 422,
        "detail": message,
        "code": "invalid_request",
    }


@pytest.mark.parametrize(
    "body", [b"{", b"", b"null", b"\xff\xfe", b'{"query": "\\ud800"}', b'{"\\ud800": 1}', b"[" * 50_000]
)
def test_a_body_that_is_not_a_request_is_refused_in_json(client: TestClient, body: bytes) -> None:
    response = client.post("/v1/search", content=body, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)
    assert response.headers["content-type"] == "application/problem+json"
    detail = response.json()["detail"]
    assert "\n" not in detail and "Traceback" not in detail


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ('{"query": "a", "filters": {"brand": ["Kestrel"]}, "filters": null}', "filters"),
        ('{"query": "a", "filters": {"brand": ["Kestrel"], "brand": []}}', "brand"),
    ],
)
def test_a_field_that_is_given_twice_is_refused(client: TestClient, body: str, key: str) -> None:
    response = client.post("/v1/search", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (400, "bad_request")
    assert response.json()["detail"] == f"the body has the field {key!r} more than once; send it once"


def test_a_body_that_is_too_long_is_refused(client: TestClient) -> None:
    body = json.dumps({"query": "a", "filters": {"brand": ["b"] * 100_000}}).encode()
    chunks = (body[start : start + 1000] for start in range(0, len(body), 1000))
    for content in (body, chunks):
        response = client.post("/v1/search", content=content, headers={"content-type": "application/json"})
        assert response.status_code == 413
        assert response.json()["detail"] == "the body is longer than 262144 bytes"


def test_an_unknown_path_or_method_is_a_json_error(client: TestClient) -> None:
    missing = client.get("/v1/serch")
    assert missing.status_code == 404
    assert missing.json()["code"] == "not_found"
    assert missing.json()["detail"] == "no such path '/v1/serch'; did you mean '/v1/search'?"
    not_allowed = client.get("/v1/search")
    assert (not_allowed.status_code, not_allowed.headers["allow"]) == (405, "POST")
    assert not_allowed.json()["code"] == "method_not_allowed"
    assert not_allowed.json()["detail"] == "/v1/search does not take GET, it takes POST"
    assert client.post("/healthz").headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/versions", "/openapi.json", "/docs"])
def test_head_is_answered_wherever_get_is(client: TestClient, path: str) -> None:
    get, head = client.get(path), client.head(path)
    assert (get.status_code, head.status_code) == (200, 200)
    assert head.headers["content-type"] == get.headers["content-type"]


def test_an_unexpected_error_is_answered_without_its_traceback(client_of: Callable[..., TestClient]) -> None:
    async def failing_encode(_: list[str]) -> Vectors:
        raise KeyError("a secret of the encoder")

    with client_of(failing_encode, raise_server_exceptions=False) as client:
        response = client.post("/v1/search", json={"query": "a"})
    assert response.status_code == 500
    assert response.json()["code"] == "internal_server_error"
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert "secret" not in response.text and "Traceback" not in response.text


def test_readiness_follows_the_encoder(
    client_of: Callable[..., TestClient], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = False

    async def encode(queries: list[str]) -> Vectors:
        while not loaded:
            await asyncio.sleep(0.01)
        return np.full((len(queries), 384), 384**-0.5, np.float32)

    monkeypatch.setattr(service_module, "READY_TIMEOUT_S", 0.1)
    with client_of(encode) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        before = client.get("/readyz")
        loaded = True
        after = client.get("/readyz")
    assert before.status_code == 503
    assert (before.json()["code"], before.json()["detail"]) == ("not_ready", "the models do not answer yet")
    assert after.status_code == 200
    assert after.json() == {"status": "ready", "versions": service.answers.bundle.versions.model_dump()}


ROUTES = {"search", "classify", "relevance", "recommend"}


def test_the_schema_describes_every_route(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert schema["info"]["title"] == "raylevance"
    batches = {f"/v1/{name}/batch" for name in ROUTES}
    others = {"/v1/query", "/v1/events", "/v1/versions", "/v1/reload", "/healthz", "/readyz"}
    assert set(schema["paths"]) == {f"/v1/{name}" for name in ROUTES} | batches | others
    assert schema["components"]["schemas"]["SearchRequest"]["examples"][0] == {"query": "wireless earbuds"}
    failure = schema["paths"]["/v1/search"]["post"]["responses"]["422"]["content"]
    assert failure["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    for path in ("/v1/search", "/v1/search/batch", "/v1/query", "/v1/classify", "/v1/relevance"):
        assert "Retry-After" in schema["paths"][path]["post"]["responses"]["503"]["description"], path
    assert "503" not in schema["paths"]["/v1/recommend"]["post"]["responses"], "a table answers it"
    for path, method in (("/v1/versions", "get"), ("/v1/reload", "post")):
        assert "429" in schema["paths"][path][method]["responses"], path
    filters = schema["components"]["schemas"]["SearchRequest"]["properties"]["filters"]
    assert {"type": "null"} in filters["anyOf"]
    assert "empty list" in filters["description"]
    assert set(schema["paths"]["/healthz"]) == {"get"}
    assert client.get("/docs").status_code == 200


def test_the_examples_of_the_schema_are_answered(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    for example in schema["components"]["schemas"]["SearchRequest"]["examples"]:
        assert search(client, **example)["query"] == example["query"]


def test_gauges_are_set_while_nothing_happens(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray drops a gauge from its export that is not set for a while."""
    seen: list[tuple[str, float]] = []
    monkeypatch.setattr(api_module, "GAUGES_EVERY_S", 0.02)
    monkeypatch.setattr(Gauge, "set", lambda gauge, value, tags=None: seen.append((gauge.info["name"], value)))
    with TestClient(build_api(service, Metrics(), LimitSettings()), base_url="http://localhost"):
        time.sleep(0.3)
    for name, value in (("bundle_taken_seconds", service.loaded.timestamp()), ("requests_in_flight", 0)):
        assert seen.count((f"raylevance_{name}", value)) >= 3, seen
