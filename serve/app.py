"""The Ray Serve application: searchers behind HTTP that share a pool of query encoders.

    serve.run(application(ServeSettings(store="store")))

The `serve` command of Ray also takes it, as `serve.app:application` with the settings as arguments.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.metrics import Counter, Histogram

from raylevance.artifacts import Store
from raylevance.inference.search import load_query_encoder
from serve.api import build_api
from serve.bundle import Bundle, Vectors, pin_versions
from serve.messages import Versions
from serve.searcher import Searcher
from serve.settings import ServeSettings

MAX_REQUESTS_PER_SEARCHER = 256
"""Requests that one searcher holds at once; while they wait for their vectors they cost next to nothing."""

MAX_BATCHES_PER_ENCODER = 2
"""Batches that one encoder holds at once: the one that it encodes, and the next."""

BATCH_SIZE_METRIC, QUERIES_METRIC = "raylevance_encoder_batch_size", "raylevance_encoder_queries"
"""The sizes of batches, and the queries in them: Ray exports only an estimate of the sum of a histogram."""

BATCH_SIZE_BOUNDARIES = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]

LOAD_ATTEMPTS = 2
DRAIN_POLL_S = 0.2


class QueryEncoder:
    """Encodes the queries of all searchers, a batch at a time. The sizes of the batches are a metric."""

    def __init__(self, store: str, encoder: str, use_gpu: bool) -> None:
        """Load the artifact `encoder` of `store`, and encode once because the first forward pass is slow."""
        self._encoder = load_query_encoder(Store(store), encoder, use_gpu=use_gpu)
        self._encoder.encode_queries(["warm"])
        self._thread = ThreadPoolExecutor(1, "encode")
        self._sizes = Histogram(
            BATCH_SIZE_METRIC, description="Queries in a batch of the encoder.", boundaries=BATCH_SIZE_BOUNDARIES
        )
        self._queries = Counter(QUERIES_METRIC, description="Queries that the encoder has encoded.")

    async def __call__(self, queries: list[str]) -> Vectors:
        """Return unit vectors float32 [n, d] of `queries`."""
        self._sizes.observe(len(queries))
        self._queries.inc(len(queries))
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._encoder.encode_queries, queries)


@serve.ingress()
class Search:
    """The HTTP ingress. A replica takes requests once its bundle is loaded."""

    def __init__(self, settings: ServeSettings, versions: Versions, encoder: Any) -> None:
        """Load the bundle at `versions`; `encoder` is the handle of `QueryEncoder`."""
        bundle = Bundle.load(Store(settings.store), versions, use_gpu=settings.search_gpus > 0)
        self._searcher = Searcher(bundle, encoder.remote, settings.batch_size, settings.batch_wait_ms / 1000)
        self._max_k = settings.max_k

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the routes; Ray Serve calls this in the replica."""
        return build_api(self._searcher, self._max_k)


def application(settings: ServeSettings) -> serve.Application:
    """Build the application over the index that `settings` names.

    The versions are pinned here, once, and every replica loads these: also one that starts after a newer version was
    published. Raises `RaylevanceError` when the index or its encoder is missing or damaged.
    """
    versions = pin_versions(Store(settings.store), settings.index)
    encoder = _deployment(
        QueryEncoder,
        replicas=settings.replicas,
        cpus=settings.encoder_cpus,
        gpus=settings.encoder_gpus,
        max_ongoing_requests=MAX_BATCHES_PER_ENCODER,
    ).bind(settings.store, versions.encoder, settings.encoder_gpus > 0)
    return _deployment(
        Search,
        replicas=settings.replicas,
        cpus=settings.search_cpus,
        gpus=settings.search_gpus,
        max_ongoing_requests=MAX_REQUESTS_PER_SEARCHER,
    ).bind(settings, versions, encoder)


def _deployment(
    kind: type[Any], *, replicas: int, cpus: float, gpus: float, max_ongoing_requests: int
) -> serve.Deployment:
    return serve.deployment(
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        max_ongoing_requests=max_ongoing_requests,
        max_constructor_retry_count=LOAD_ATTEMPTS,
        graceful_shutdown_wait_loop_s=DRAIN_POLL_S,
    )(kind)
