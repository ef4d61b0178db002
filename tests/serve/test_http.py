"""The application on Ray Serve, queried over HTTP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from ray import serve

from raylevance.artifacts import Store
from raylevance.errors import RaylevanceError
from raylevance.index.filters import Filters
from serve import app
from serve.client import send_query
from serve.server import APPLICATION, deployed, free_port
from serve.settings import ServeSettings

pytestmark = pytest.mark.ray
QUERIES = ["red running shoes", "kettle", "socks for women", "白い lamp", "something for the garden", "Kestrel hose"]


def counting_encoder() -> type[app.QueryEncoder]:
    """Return a `QueryEncoder` that records the size of every batch.

    The class is defined in a function so that it is pickled by value: the replicas can't import a test.
    """

    class Counting(app.QueryEncoder):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.sizes: list[int] = []
            encode = self._encoder.encode_queries

            def count(queries: list[str]) -> Any:
                self.sizes.append(len(queries))
                return encode(queries)

            self._encoder.encode_queries = count

        def batch_sizes(self) -> list[int]:
            return self.sizes

    return Counting


@pytest.fixture(scope="module")
def server(ray_cluster: None, shop: Any) -> Iterator[str]:
    settings = ServeSettings(
        store=str(shop.root), index="index/shop", port=free_port("127.0.0.1", 0), batch_size=8, batch_wait_ms=50
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "QueryEncoder", counting_encoder())
        application = app.application(settings)
    with deployed(application, settings.host, settings.port) as url:
        httpx.get(f"{url}/readyz", timeout=60).raise_for_status()
        yield url
    serve.shutdown()


def post(server: str, **request: Any) -> dict[str, Any]:
    response = httpx.post(f"{server}/v1/search", json=request, timeout=60)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
@pytest.mark.parametrize(
    ("filters", "minimum_grade"),
    [({}, 0), ({"brand": ["Nøva", "Kestrel"]}, 0), ({"category": ["Home", "Kitchen"], "locale": "us"}, 1)],
)
def test_it_answers_like_the_index(
    server: str, shop: Any, mode: str, filters: dict[str, Any], minimum_grade: int
) -> None:
    for query in QUERIES:
        hits = post(server, query=query, k=20, mode=mode, filters=filters, minimum_grade=minimum_grade)["hits"]
        vectors = shop.encoder.encode_queries([query])
        [expected] = shop.index.search(
            [query], vectors, 20, mode=mode, filters=Filters(**filters), minimum_grade=minimum_grade
        )
        assert [(hit["product_id"], hit["grade"]) for hit in hits] == [(hit.product_id, hit.grade) for hit in expected]
        assert [hit["score"] for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-5)


def test_concurrent_requests_are_encoded_in_batches(server: str, shop: Any) -> None:
    encoder = serve.get_deployment_handle("Counting", APPLICATION)
    before = len(encoder.batch_sizes.remote().result())
    queries = [f"{color} {word}" for color in ("red", "blue", "green", "black") for word in QUERIES]
    with ThreadPoolExecutor(len(queries)) as threads:
        answers = list(threads.map(lambda query: post(server, query=query, k=5, mode="dense"), queries))
    sizes = encoder.batch_sizes.remote().result()[before:]
    assert sum(sizes) == len(queries)
    assert 1 < max(sizes) <= 8
    expected = shop.index.search(queries, shop.encoder.encode_queries(queries), 5, mode="dense")
    for query, answer, hits in zip(queries, answers, expected, strict=True):
        assert answer["query"] == query
        assert [hit["score"] for hit in answer["hits"]] == pytest.approx([hit.score for hit in hits], abs=1e-5)


def test_versions_health_and_readiness(server: str, shop: Any) -> None:
    versions = post(server, query="lamp")["versions"]
    assert versions["index"] == Store(shop.root).get("index/shop").ref
    assert httpx.get(f"{server}/v1/versions").json() == versions
    assert httpx.get(f"{server}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{server}/readyz").json() == {"status": "ready", "versions": versions}
    assert "/v1/search" in httpx.get(f"{server}/openapi.json").json()["paths"]


def test_a_failure_is_json(server: str) -> None:
    response = httpx.post(f"{server}/v1/search", json={"query": "a", "limit": 3})
    assert response.status_code == 422
    assert response.json()["error"]["message"].startswith("unknown field 'limit'")
    assert httpx.get(f"{server}/v2/search").json()["error"]["code"] == "not_found"
    with pytest.raises(RaylevanceError, match="query: string should have at least 1 character"):
        send_query(server, " ")
