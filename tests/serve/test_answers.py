"""What is served equals what the predictors give offline: classify, relevance and recommend."""

import asyncio
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from raylevance.artifacts import Store
from raylevance.client.messages import RecommendRequest, SearchRequest, Trigger
from raylevance.errors import UsageError
from raylevance.index.filters import Filters
from raylevance.inference import item_table, query_classifier, scorer
from raylevance.inference.item_table import TriggerLists
from raylevance.inference.search import excluded_words_found, needs_vector, words_found
from serve.answers import search_all
from serve.api import build_api
from serve.metrics import Metrics
from serve.problems import Unavailable
from serve.responses import answer_all
from serve.service import Service
from serve.settings import LimitSettings
from tests.serve.conftest import post

QUERIES = ["Red running shoes", "白い lamp", "something for the kitchen", "KESTREL hose"]
PROBABILITY = 1e-4


@pytest.fixture(scope="module")
def store(full_shop: Any) -> Store:
    return Store(full_shop.root)


@pytest.mark.parametrize("query", QUERIES)
def test_classify_answers_as_the_classifier_does(client: TestClient, store: Store, query: str) -> None:
    offline = query_classifier.load(store, "classifier/query")
    answer = post(client, "/v1/classify", query=query, k=4, minimum=0.0)
    assert set(answer["tasks"]) == {"category", "brand"}
    for task, labels in answer["tasks"].items():
        [expected] = offline.classify([query], task, 4, 0.0)
        assert [label["label"] for label in labels] == [label.label_id for label in expected]
        assert [label["path"] for label in labels] == [label.path for label in expected]
        given = [label["probability"] for label in labels]
        assert given == pytest.approx([label.probability for label in expected], abs=PROBABILITY)


def test_classify_leaves_out_labels_below_their_thresholds(client: TestClient) -> None:
    every = post(client, "/v1/classify", query="kettle", task="category", k=5, minimum=0.0)["tasks"]["category"]
    counted = post(client, "/v1/classify", query="kettle", task="category", k=5)["tasks"]["category"]
    assert counted == [label for label in every if label["probability"] >= np.float32(0.3)]


def test_what_is_no_search_does_not_wait_for_one_nor_stands_for_one(full_service: Service) -> None:
    """A search may wait for a shard that is down: the server is ready only where searches are answered."""
    answers, waits = full_service.answers, threading.Event()

    async def run() -> None:
        stuck = asyncio.get_running_loop().run_in_executor(answers._thread, waits.wait)
        before = answers.searched_at
        request = RecommendRequest(triggers=[Trigger(product_id="unknown")], k=1)
        found = await asyncio.wait_for(answers.recommend(request), 10)
        assert found.unknown == ["unknown"] and answers.searched_at == before
        waits.set()
        await stuck
        await answers.search(SearchRequest(query="red lamp", k=1))
        assert answers.searched_at > before

    try:
        asyncio.run(run())
    finally:
        waits.set()


def test_an_unknown_task_is_named(client: TestClient) -> None:
    response = client.post("/v1/classify", json={"query": "kettle", "task": "categry"})
    assert response.status_code == 422
    assert "did you mean 'category'" in response.json()["detail"]


@pytest.mark.parametrize("query", QUERIES)
def test_relevance_answers_as_the_scorer_does(client: TestClient, store: Store, query: str) -> None:
    offline = scorer.load(store, "scorer/relevance")
    table = pq.read_table(store.path("tables/shop") / "products")
    rows = [150, 3, 77]
    ids = table["product_id"].take(pa.array(rows)).to_pylist()
    texts = offline.item_texts(table.take(pa.array(rows)))
    products = [
        {"product_id": ids[0]},
        {"text": "a blue kettle"},
        {"product_id": "no such"},
        *[{"product_id": i} for i in ids[1:]],
    ]
    answer = post(client, "/v1/relevance", query=query, products=products)
    expected = offline.score([query] * 4, [texts[0], "a blue kettle", *texts[1:]], [ids[0], None, *ids[1:]])
    given = [product["probability"] for product in answer["products"]]
    assert given[2] is None and answer["products"][2]["relevant"] is None
    assert given[:2] + given[3:] == pytest.approx(expected.tolist(), abs=PROBABILITY)
    assert answer["unknown"] == ["no such"]
    for product in answer["products"]:
        if product["probability"] is not None:
            assert product["relevant"] == (product["probability"] >= offline.threshold)


def test_recommend_answers_as_the_table_does(client: TestClient, store: Store) -> None:
    offline = item_table.load(store, "table/items")
    triggers = [("P199", 1.0), ("P007", 4.0), ("P042", 0.5)]
    rows = offline.lookup(pa.array([product_id for product_id, _ in triggers]))
    lists = TriggerLists.of([(rows.tolist(), [weight for _, weight in triggers])])
    expected = offline.recommend(lists, 40)
    known = expected.items[0] >= 0
    sent = [{"product_id": product_id, "weight": weight} for product_id, weight in [*triggers, ("unknown", 9.0)]]
    answer = post(client, "/v1/recommend", triggers=sent, k=40)
    assert [item["product_id"] for item in answer["items"]] == offline.product_ids(expected.items[0][known]).to_pylist()
    assert [item["score"] for item in answer["items"]] == pytest.approx(expected.scores[0][known].tolist(), abs=1e-6)
    assert [item["trigger"] for item in answer["items"]] == offline.product_ids(expected.triggers[0][known]).to_pylist()
    assert answer["unknown"] == ["unknown"]
    assert not {item["product_id"] for item in answer["items"]} & {product_id for product_id, _ in triggers}
    assert all(item["title"] for item in answer["items"])


def test_recommend_keeps_to_a_category_and_leaves_out_what_is_excluded(client: TestClient) -> None:
    request = {"triggers": [{"product_id": "P042"}], "k": 30}
    every = post(client, "/v1/recommend", **request)["items"]
    excluded = [item["product_id"] for item in every[::2]]
    left = post(client, "/v1/recommend", **request, exclude=[*excluded, "unknown"])["items"]
    assert [item["product_id"] for item in left] == [item["product_id"] for item in every[1::2]]
    clothing = post(client, "/v1/recommend", **request, category=["Clothing"])["items"]
    assert clothing and {item["category"][0] for item in clothing} == {"Clothing"}
    assert len(post(client, "/v1/recommend", **request, most_per_category=2)["items"]) <= 2 * 5
    response = client.post("/v1/recommend", json={**request, "category": ["Clothes"]})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_only_unknown_triggers_bring_nothing(client: TestClient) -> None:
    answer = post(client, "/v1/recommend", triggers=[{"product_id": "x"}, {"product_id": "y"}])
    assert (answer["items"], answer["unknown"]) == ([], ["x", "y"])


@pytest.mark.parametrize("name", ["search", "classify", "relevance", "recommend"])
def test_a_batch_answers_as_single_requests_do(client: TestClient, name: str) -> None:
    requests: dict[str, list[dict[str, Any]]] = {
        "search": [{"query": query, "k": 3 + row, "explain": row == 1} for row, query in enumerate(QUERIES)],
        "classify": [{"query": query, "minimum": 0.0} for query in QUERIES],
        "relevance": [{"query": query, "products": [{"product_id": "P001"}]} for query in QUERIES],
        "recommend": [{"triggers": [{"product_id": f"P00{row}"}]} for row in range(4)],
    }
    answers = post(client, f"/v1/{name}/batch", requests=requests[name])["answers"]
    singles = [post(client, f"/v1/{name}", **request) for request in requests[name]]
    for answer, single in zip(answers, singles, strict=True):
        assert without_ids(answer) == rounded(without_ids(single))
    assert len({answer["query_id"] for answer in answers}) == len(answers)


def without_ids(answer: dict[str, Any]) -> Any:
    return rounded({name: value for name, value in answer.items() if name not in ("query_id", "took_ms")})


def rounded(value: Any) -> Any:
    """Round floats: a query that is encoded with others may differ in the last bits."""
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 3))


def test_a_batch_has_a_limit(client: TestClient) -> None:
    response = client.post("/v1/search/batch", json={"requests": [{"query": "a"}] * 33})
    assert response.status_code == 422
    assert response.json()["detail"].startswith("requests: list should have at most 32 items")


def test_explanations_name_the_words_that_a_product_has(client: TestClient, store: Store) -> None:
    hits = post(client, "/v1/search", query="red shoes for women", k=5, explain=True)["hits"]
    assert {tuple(hit["explanation"]["words"]) for hit in hits[:1]} == {("red", "shoes", "women")}
    offline = scorer.load(store, "scorer/relevance")
    table = pq.read_table(store.path("tables/shop") / "products")
    texts = dict(zip(table["product_id"].to_pylist(), offline.item_texts(table), strict=True))
    ids = [hit["product_id"] for hit in hits]
    expected = offline.score(["red shoes for women"] * 5, [texts[i] for i in ids], ids)
    assert [hit["explanation"]["relevance"] for hit in hits] == pytest.approx(expected.tolist(), abs=PROBABILITY)


def test_explanations_name_the_words_that_the_query_excludes(client: TestClient) -> None:
    hits = post(client, "/v1/search", query="shoes not red", k=20, mode="lexical", explain=True)["hits"]
    red = ["red" in hit["title"].lower().split() for hit in hits]
    assert [hit["explanation"]["excluded"] for hit in hits] == [["red"] if has else [] for has in red]
    assert 0 < sum(red) < 20


@pytest.mark.parametrize(
    ("query", "title", "words", "excluded"),
    [
        ("lamp without cord", "Lamp with cord", ["lamp"], ["cord"]),
        ("lamp without cord", "Cordless lamp", ["lamp"], []),
        ("salsa without jalapeño", "Jalapeno salsa", ["salsa"], ["jalapeño"]),
        ("lamp without cord,red", "Red lamp, long cord", ["lamp"], ["cord"]),
        ("lamp with cord", "Lamp with cord", ["lamp", "cord"], []),
    ],
)
def test_a_word_is_named_as_found_or_as_excluded(query: str, title: str, words: list[str], excluded: list[str]) -> None:
    assert words_found(query, [title, "nothing"]) == [words, []]
    assert excluded_words_found(query, [title, "nothing"]) == [excluded, []]


@pytest.mark.parametrize(
    ("path", "request_body"),
    [
        ("/v1/classify", {"query": "a"}),
        ("/v1/relevance", {"query": "a", "products": [{"text": "b"}]}),
        ("/v1/recommend", {"triggers": [{"product_id": "P001"}]}),
        ("/v1/events", None),
    ],
)
def test_a_part_that_is_not_served_says_how_to_serve_it(
    service: Service, metrics: Metrics, path: str, request_body: Any
) -> None:
    if request_body is None:
        event = {"event_id": "e", "action_name": "click", "query_id": "q", "timestamp": "2026-05-01T10:00:00Z"}
        request_body = {"events": [{**event, "event_attributes": {"object": {"object_id": "P001"}}}]}
    with TestClient(build_api(service, metrics, LimitSettings()), base_url="http://localhost") as client:
        response = client.post(path, json=request_body)
    assert (response.status_code, response.json()["code"]) == (404, "not_served")
    assert re.search("start (it|the server) with", response.json()["detail"])


def test_answers_are_kept_for_equal_requests_alone(full_service: Service, metrics: Metrics) -> None:
    with TestClient(build_api(full_service, metrics, LimitSettings()), base_url="http://localhost") as client:
        first = post(client, "/v1/search", query="a green hose", k=4)
        again = post(client, "/v1/search", query="a green hose", k=4)
        other = post(client, "/v1/search", query="a green hose", k=4, mode="lexical")
    assert again["hits"] == first["hits"]
    assert again["query_id"] != first["query_id"]
    assert other["hits"] != first["hits"]


def test_a_search_that_fails_leaves_the_others_of_its_batch_alone(full_service: Service, metrics: Metrics) -> None:
    class Sometimes:
        def search_all(self, queries: list[str], *_: Any) -> list[Any]:
            if "bad" in queries:
                raise UsageError("no such thing")
            return [[query] for query in queries]

    bundle: Any = replace(full_service.answers.bundle, products=Sometimes())
    searches = [(SearchRequest(query=query), None) for query in ("good", "bad", "good")]
    with ThreadPoolExecutor(1) as thread:
        found = asyncio.run(search_all(bundle, thread, metrics, searches))
    assert [found[0], found[2]] == [["good"], ["good"]]
    assert isinstance(found[1], UsageError)


def test_shards_that_do_not_answer_are_asked_once_for_a_batch(full_service: Service, metrics: Metrics) -> None:
    """Each search would wait as long again, and hold the thread that later searches need."""
    asked: list[list[str]] = []

    class Gone:
        def search_all(self, queries: list[str], *_: Any) -> list[Any]:
            asked.append(queries)
            raise Unavailable("the shards of the index do not answer within 10 s")

    bundle: Any = replace(full_service.answers.bundle, products=Gone())
    searches = [(SearchRequest(query=query, k=k), None) for k in (1, 2) for query in ("lamp", "sock", "shoe")]
    with ThreadPoolExecutor(1) as thread:
        found = asyncio.run(search_all(bundle, thread, metrics, searches))
    assert asked == [["lamp", "sock", "shoe"]]
    assert [type(error) for error in found] == [Unavailable] * 6


def test_requests_of_a_batch_get_their_own_answers(full_service: Service, metrics: Metrics, shop: Any) -> None:
    """Requests of several kinds in no order, of which those of one kind are searched for together."""
    kinds = [
        {"k": k, "mode": mode, "filters": filters, "minimum_grade": grade, "explain": explain}
        for k, mode, filters, grade, explain in [
            (5, "hybrid", None, 0, False),
            (5, "hybrid", None, 0, True),
            (7, "dense", Filters(locale="us"), 1, False),
            (7, "lexical", Filters(locale="us"), 0, False),
            (7, "lexical", None, 1, False),
        ]
    ]
    queries = ["red lamp", "kettle", "白い lamp", "nothing", "garden hose", "red lamp"]
    requests = [SearchRequest.model_validate({"query": query, **kind}) for kind in kinds for query in queries]
    requests = [requests[place] for place in np.random.default_rng(0).permutation(len(requests))]
    encoded = {query: shop.encoder.encode_queries([query])[0] for query in queries}
    searches = [
        (request, encoded[request.query] if needs_vector(request.mode, request.minimum_grade) else None)
        for request in requests
    ]
    products = full_service.answers.bundle.products
    with ThreadPoolExecutor(1) as thread:
        found = asyncio.run(search_all(full_service.answers.bundle, thread, metrics, searches))
    for (request, vector), hits in zip(searches, found, strict=True):
        alone = products.search(request.query, vector, request.k, request.mode, request.filters, request.minimum_grade)
        assert isinstance(hits, list)
        assert [hit.product_id for hit in hits] == [hit.product_id for hit in alone]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in alone], abs=1e-5)
    assert any(found)


def test_a_batch_names_the_request_that_fails(client: TestClient) -> None:
    requests = [{"query": "a"}, {"query": "b", "k": 1000}, {"query": "c"}]
    response = client.post("/v1/search/batch", json={"requests": requests})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert response.json()["detail"] == "requests.1: k: at most 200 hits, got 1000"


def test_a_batch_that_fails_ends_its_other_requests() -> None:
    ended: list[int] = []

    async def answer(number: int) -> int:
        if number == 2:
            raise UsageError("no")
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.append(number)
            raise
        return number

    async def run() -> None:
        with pytest.raises(UsageError, match=r"requests\.2: no"):
            await answer_all(answer, [0, 1, 2, 3])
        await asyncio.sleep(0)

    asyncio.run(run())
    assert sorted(ended) == [0, 1, 3]


@pytest.mark.parametrize("path", ["/v1/search", "/v1/query"])
def test_a_grade_needs_bands(
    full_service: Service, metrics: Metrics, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(full_service.answers.bundle.products.index, "bands", None)
    with TestClient(build_api(full_service, metrics, LimitSettings()), base_url="http://localhost") as client:
        response = client.post(path, json={"query": "lamp", "minimum_grade": 1})
    assert response.status_code == 422
    assert response.json()["detail"].startswith("minimum_grade needs grade bands, and this index has none")


@pytest.mark.parametrize("most", [0, 2**63, 10**30])
def test_a_number_that_no_array_holds_is_refused(client: TestClient, most: int) -> None:
    request = {"triggers": [{"product_id": "P001"}], "most_per_category": most}
    assert client.post("/v1/recommend", json=request).status_code == 422
