"""The Ray Serve application: searchers behind HTTP that share a pool of query encoders.

    serve.run(application(ServeSettings(store="store")))

The `serve` command of Ray also takes it, as `serve.app:application` with the settings as arguments.
"""

import asyncio
from typing import Any

from fastapi import FastAPI
from ray import serve

from raylevance.artifacts import Store
from raylevance.inference.search import load_query_encoder
from serve.api import build_api
from serve.bundle import Bundle, Vector, pin_versions
from serve.messages import Versions
from serve.searcher import Searcher
from serve.settings import ServeSettings

MAX_REQUESTS_PER_SEARCHER = 256
"""Requests that one searcher holds at once; while they wait for their vectors they cost next to nothing."""

LOAD_ATTEMPTS = 2
DRAIN_POLL_S = 0.2


class QueryEncoder:
    """Encodes the queries of all searchers; queries that arrive together are encoded in one batch."""

    def __init__(self, store: str, encoder: str, batch_size: int, batch_wait_ms: float) -> None:
        """Load the artifact `encoder` of `store`, and encode once because the first forward pass is slow."""
        self._encoder = load_query_encoder(Store(store), encoder)
        self._encoder.encode_queries(["warm"])
        batch: Any = self.encode
        batch.set_max_batch_size(batch_size)
        batch.set_batch_wait_timeout_s(batch_wait_ms / 1000)

    async def __call__(self, query: str) -> Vector:
        """Return the unit vector float32 [d] of `query`."""
        vector: Vector = await self.encode(query)
        return vector

    @serve.batch
    async def encode(self, queries: list[str]) -> list[Vector]:
        """Return a unit vector float32 [d] for each query, computed on a thread while the next batch is collected."""
        return list(await asyncio.to_thread(self._encoder.encode_queries, queries))


@serve.ingress()
class Search:
    """The HTTP ingress. A replica takes requests once its bundle is loaded."""

    def __init__(self, settings: ServeSettings, versions: Versions, encoder: Any) -> None:
        """Load the bundle at `versions`; `encoder` is the handle of `QueryEncoder`."""
        self._searcher = Searcher(Bundle.load(Store(settings.store), versions), encoder.remote)
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
        max_ongoing_requests=2 * settings.batch_size,
    ).bind(settings.store, versions.encoder, settings.batch_size, settings.batch_wait_ms)
    return _deployment(
        Search,
        replicas=settings.replicas,
        cpus=settings.search_cpus,
        max_ongoing_requests=MAX_REQUESTS_PER_SEARCHER,
    ).bind(settings, versions, encoder)


def _deployment(kind: type[Any], *, replicas: int, cpus: float, max_ongoing_requests: int) -> serve.Deployment:
    """Deploy `kind`. Ray Serve's own limit of 5 ongoing requests would never fill a batch."""
    return serve.deployment(
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cpus},
        max_ongoing_requests=max_ongoing_requests,
        max_constructor_retry_count=LOAD_ATTEMPTS,
        graceful_shutdown_wait_loop_s=DRAIN_POLL_S,
    )(kind)
