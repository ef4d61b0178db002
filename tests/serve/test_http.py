"""The application on Ray Serve, queried over HTTP."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families
from ray import serve

from raylevance.artifacts import Store
from raylevance.client import ApiError, Client
from raylevance.errors import RaylevanceError
from raylevance.index.filters import Filters
from raylevance.index.ranking import Mode
from raylevance.inference.search import needs_vector
from serve.app import Encoders, Search, application
from serve.handles import result_of
from serve.metrics import BATCH_SIZE_METRIC, QUERIES_METRIC
from serve.server import deployed, free_port, running
from serve.settings import ServeSettings

pytestmark = pytest.mark.ray
QUERIES = ["red running shoes", "kettle", "socks for women", "白い lamp", "something for the garden", "Kestrel hose"]


@pytest.fixture(scope="module")
def server(ray_cluster: None, shop: Any) -> Iterator[str]:
    settings = ServeSettings(store=str(shop.root), index="index/shop", port=free_port("127.0.0.1", 0))
    with deployed(application(settings), settings.host, settings.port) as url:
        httpx.get(f"{url}/readyz", timeout=60).raise_for_status()
        yield url
    serve.shutdown()


def post(server: str, **request: Any) -> dict[str, Any]:
    response = httpx.post(f"{server}/v1/search", json=request, timeout=60)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def encoded() -> tuple[float, float]:
    """Return how many queries, and how many batches of them, were encoded, from the metrics that Prometheus reads."""
    found = {f"ray_{QUERIES_METRIC}_total": 0.0, f"ray_{BATCH_SIZE_METRIC}_count": 0.0}
    for node in ray.nodes():
        page = httpx.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", trust_env=False)
        for family in text_string_to_metric_families(page.text):
            for sample in family.samples:
                if sample.name in found:
                    found[sample.name] += sample.value
    queries, batches = found.values()
    return queries, batches


def test_queries_of_independent_clients_are_encoded_in_batches(server: str, shop: Any) -> None:
    queries = [f"{QUERIES[number % len(QUERIES)]} {number}" for number in range(320)]  # none is in the cache
    with httpx.Client(trust_env=False, timeout=60) as client, ThreadPoolExecutor(16) as threads:

        def send(query: str) -> dict[str, Any]:
            answer: dict[str, Any] = client.post(
                f"{server}/v1/search", json={"query": query, "mode": "dense", "k": 5}
            ).json()
            return answer

        answers = list(threads.map(send, queries))
    expected = shop.index.search(queries, shop.encoder.encode_queries(queries), 5, mode="dense")
    for query, answer, hits in zip(queries, answers, expected, strict=True):
        assert answer["query"] == query
        assert [hit["score"] for hit in answer["hits"]] == pytest.approx([hit.score for hit in hits], abs=1e-5)
    deadline = time.monotonic() + 60  # Ray exports metrics every few seconds.
    while (counts := encoded())[0] < len(queries) and time.monotonic() < deadline:
        time.sleep(0.5)
    counted, batches = counts
    assert counted >= len(queries)
    assert counted / batches > 3, counts


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
@pytest.mark.parametrize(
    ("filters", "minimum_grade"),
    [({}, 0), ({"brand": ["Nøva", "Kestrel"]}, 0), ({"category": ["Home", "Kitchen"], "locale": "us"}, 1)],
)
def test_it_answers_like_the_index(
    server: str, shop: Any, mode: Mode, filters: dict[str, Any], minimum_grade: int
) -> None:
    for query in QUERIES:
        hits = post(server, query=query, k=20, mode=mode, filters=filters, minimum_grade=minimum_grade)["hits"]
        vectors = shop.encoder.encode_queries([query]) if needs_vector(mode, minimum_grade) else None
        [expected] = shop.index.search(
            [query], vectors, 20, mode=mode, filters=Filters(**filters), minimum_grade=minimum_grade
        )
        assert [(hit["product_id"], hit["grade"]) for hit in hits] == [(hit.product_id, hit.grade) for hit in expected]
        assert [hit["score"] for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-5)


def test_versions_health_and_readiness(server: str, shop: Any) -> None:
    versions = post(server, query="lamp")["versions"]
    assert versions["index"] == Store(shop.root).get("index/shop").ref
    served = httpx.get(f"{server}/v1/versions").json()
    assert (served.items() >= versions.items(), served["refused"]) == (True, [])
    assert httpx.get(f"{server}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{server}/readyz").json() == {"status": "ready", "versions": versions}
    assert "/v1/search" in httpx.get(f"{server}/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("host", "port", "named"),
    [("127.0.0.1", 0, "port=[0-9]+, not 0"), ("0.0.0.0", None, "host=127.0.0.1, not 0.0.0.0")],
)
def test_a_serve_that_runs_at_another_address_is_not_taken(
    server: str, shop: Any, host: str, port: int | None, named: str
) -> None:
    settings = ServeSettings(store=str(shop.root), index="index/shop")
    port = int(server.rpartition(":")[2]) if port is None else port
    with pytest.raises(RaylevanceError, match=named), deployed(application(settings), host, port):
        pytest.fail("it started")
    assert httpx.get(f"{server}/healthz").json() == {"status": "ok"}


def test_an_application_that_runs_is_neither_replaced_nor_deleted(server: str, shop: Any) -> None:
    settings = ServeSettings(store=str(shop.root), index="index/shop", port=int(server.rpartition(":")[2]))
    running_since = httpx.get(f"{server}/v1/versions").json()["loaded"]
    with (
        pytest.raises(RaylevanceError, match="already runs an application 'raylevance'"),
        deployed(application(settings), settings.host, settings.port),
    ):
        pytest.fail("it started")
    assert httpx.get(f"{server}/v1/versions").json()["loaded"] == running_since


def test_an_answer_has_one_request_id(server: str) -> None:
    sent = httpx.post(f"{server}/v1/search", json={"query": "a"}, headers={"x-request-id": "r-1"})
    assert sent.headers.get_list("x-request-id") == ["r-1"]
    failed = httpx.post(f"{server}/v1/search", json={})
    assert failed.headers.get_list("x-request-id") == [failed.json()["request_id"]]


def test_a_failure_is_json(server: str) -> None:
    response = httpx.post(f"{server}/v1/search", json={"query": "a", "limit": 3})
    assert response.status_code == 422
    assert response.json()["detail"].startswith("unknown field 'limit'")
    assert httpx.get(f"{server}/v2/search").json()["code"] == "not_found"
    with Client(server) as client, pytest.raises(ApiError, match="422: k: at most 100 hits, got 101"):
        client.search("lamp", k=101)


def deployments_of(application: serve.Application) -> dict[str, serve.Deployment]:
    """Return the deployments of an application that is not running, by name."""
    bound = application._bound_deployment
    found = {bound.name: bound}
    for argument in bound.init_args:
        if isinstance(argument, serve.Application):
            found |= deployments_of(argument)
    return found


def test_gpus_reach_the_actors_and_their_parts(shop: Any) -> None:
    settings = ServeSettings(store=str(shop.root), index="index/shop", encoder_gpus=0.5, search_gpus=0.25, encoders=2)
    deployments = deployments_of(application(settings))
    assert deployments["Encoders"].ray_actor_options == {"num_cpus": 0.5, "num_gpus": 0.5}
    assert deployments["Encoders"].num_replicas == 2
    assert deployments["Search"].ray_actor_options == {"num_cpus": 0.5, "num_gpus": 0.25}
    together = deployments_of(application(settings.model_copy(update={"encoders": 0})))
    assert set(together) == {"Search"}
    assert together["Search"].ray_actor_options == {"num_cpus": 1.0, "num_gpus": 0.75}


def test_load_may_start_more_replicas(shop: Any) -> None:
    settings = ServeSettings(store=str(shop.root), index="index/shop", replicas=2, most_replicas=5)
    settings = settings.model_copy(update={"encoders": 1, "most_encoders": 3, "shard_processes": 2})
    settings = settings.model_copy(update={"shard_replicas": 2, "most_shard_replicas": 4})
    deployments: Any = deployments_of(application(settings))
    scaling = {name: deployment._deployment_config.autoscaling_config for name, deployment in deployments.items()}
    assert {name: (found.min_replicas, found.max_replicas) for name, found in scaling.items()} == {
        "Search": (2, 5),
        "Encoders": (1, 3),
        "IndexShards0": (2, 4),
        "IndexShards1": (2, 4),
    }
    for name in ("replicas", "encoders", "shard_replicas"):
        with pytest.raises(ValueError, match=f"most_{name}=1 is less than {name}=2"):
            ServeSettings.model_validate({name: 2, f"most_{name}": 1, "shard_processes": 1})


@pytest.mark.parametrize("given", [{"most_encoders": 2}, {"shard_replicas": 2}, {"most_shard_replicas": 1}])
def test_copies_of_processes_that_are_not_there_are_refused(given: dict[str, int]) -> None:
    needed = "encoders" if "most_encoders" in given else "shard_processes"
    with pytest.raises(ValueError, match=f"{min(given)}: has no effect without {needed}"):
        ServeSettings.model_validate(given)
    ServeSettings.model_validate({**given, needed: 1})


def test_a_searcher_stays_where_the_processes_that_it_asks_fail(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new one would find them as they are, and what needs none of them would go unanswered too."""
    settings = ServeSettings(store=str(shop.root), index="index/shop", encoders=1, shard_processes=1)
    deployments: Any = deployments_of(application(settings))
    versions = deployments["Search"].init_args[1]

    async def fails(_: object) -> bool:
        return False

    monkeypatch.setattr("serve.service.Service.is_ready", fails)

    class Handle:
        def options(self, **_: object) -> "Handle":
            return self

    async def check(search: Any) -> None:
        search._probed = True
        for _ in range(10):
            await search.check_health()

    async def sharing() -> None:
        await check(Search.__bases__[0](settings, versions, Handle(), Handle()))

    async def alone() -> None:
        await check(Search.__bases__[0](settings, versions))

    asyncio.run(sharing())
    with pytest.raises(RuntimeError, match="5 probes in a row had no answer"):
        asyncio.run(alone())


def test_a_replica_with_a_gpu_uses_it(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ServeSettings(store=str(shop.root), index="index/shop", encoder_gpus=1, search_gpus=1, encoders=1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("faiss.get_num_gpus", lambda: 0)
    deployments: Any = deployments_of(application(settings))
    pinned = deployments["Search"].init_args[1]
    with pytest.raises(RaylevanceError, match="torch sees no GPU to encode on"):
        result_of(asyncio.run(Encoders(settings, pinned).encode(pinned.encoder, ["lamp"])))
    without_ingress = Search.__bases__[0]
    with pytest.raises(RaylevanceError, match="FAISS sees no GPU to search on"):
        without_ingress(*deployments["Search"].init_args[:2], None)


@pytest.mark.parametrize("setting", ["encoder_gpus", "search_gpus"])
def test_gpus_that_the_cluster_lacks_are_refused_at_the_start(ray_cluster: None, shop: Any, setting: str) -> None:
    settings = ServeSettings(store=str(shop.root), index="index/shop", port=0, **{setting: 0.5})
    message = r"replicas=1 need 0.5 GPUs, the cluster has 0; lower them, encoder_gpus or search_gpus$"
    with pytest.raises(RaylevanceError, match=message), running(settings):
        pytest.fail("it started")


def listening(port_of: set[int]) -> list[str]:
    """Return the addresses of sockets that listen on one of the ports, from the kernel's table."""
    found = []
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            address, port = line.split()[1].split(":")
            if line.split()[3] == "0A" and int(port, 16) in port_of:
                found.append(address)
    return found


def test_http_listens_on_loopback_alone(server: str) -> None:
    """Also the statistics and metrics of HAProxy, which Ray 2.60 opens on every address."""
    names = ("STATS", "METRICS")
    ports = {int(os.environ[f"RAY_SERVE_HAPROXY_{name}_PORT"]) for name in names}
    ports |= {int(server.rpartition(":")[2]), int(os.environ["RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"])}
    first = int(os.environ["RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT"])
    ports |= set(range(first, int(os.environ["RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT"])))
    addresses = listening(ports)
    assert len(addresses) >= 4
    assert set(addresses) == {"0100007F"}


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /readyz HTTP/1.1\r\nHost: x\r\n" + b"X-Flood: a\r\n" * 20_000 + b"\r\n",
        b"GET /readyz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 300_000 + b"\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/search HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n",
        b"GET /v1/../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b'POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 9\r\n\r\n{"query"',
    ],
)
def test_what_is_no_request_is_refused_by_the_proxy_or_the_replica(server: str, request_bytes: bytes) -> None:
    host, _, port = server.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        try:
            connection.sendall(request_bytes)
            answer = connection.recv(65_536)
        except ConnectionError:
            answer = b""
    assert answer == b"" or answer.split()[1].startswith(b"4"), answer[:200]
    assert b"Traceback" not in answer and b"root:" not in answer
    assert httpx.get(f"{server}/readyz", timeout=30).status_code == 200
