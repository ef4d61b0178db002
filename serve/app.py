"""The Ray Serve application: searchers behind HTTP that share a pool of query encoders.

    serve.run(application(ServeSettings(store="store")))

The `serve` command of Ray takes it too, as `serve.app:application` with the settings as arguments.
"""

import asyncio
from typing import Any

from fastapi import FastAPI
from ray import serve

from raylevance.artifacts import Store
from serve.api import Searcher, build_api
from serve.bundle import Served, Vector, pin
from serve.messages import Versions
from serve.settings import ServeSettings

IN_FLIGHT = 256
"""Requests that one searcher holds at once; while they wait for their vectors they cost next to nothing."""

LOAD_ATTEMPTS = 2
DRAIN_POLL_S = 0.2


class QueryEncoder:
    """Encodes the queries of all searchers, those that come together in one batch."""

    def __init__(self, store: str, encoder: str, batch_size: int, batch_wait_ms: float) -> None:
        """Load `encoder` (a reference) and make it encode once: the first forward pass is many times slower."""
        from raylevance.models.encoder import Encoder

        self._encoder = Encoder.load(Store(store).path(encoder))
        self._encoder.encode_queries(["warm"])
        batch: Any = self.encode
        batch.set_max_batch_size(batch_size)
        batch.set_batch_wait_timeout_s(batch_wait_ms / 1000)

    async def __call__(self, query: str) -> Vector:
        """The unit vector float32 [d] of `query`."""
        vector: Vector = await self.encode(query)
        return vector

    @serve.batch
    async def encode(self, queries: list[str]) -> list[Vector]:
        """A unit vector float32 [d] each, computed on a thread so that the next batch gathers meanwhile."""
        return list(await asyncio.to_thread(self._encoder.encode_queries, queries))


@serve.ingress()
class Search:
    """The HTTP ingress. A replica takes requests once its index is loaded."""

    def __init__(self, settings: ServeSettings, versions: Versions, encoder: Any) -> None:
        """`encoder`: the handle of `QueryEncoder`."""
        self._searcher = Searcher(Served.load(settings.store, versions), encoder.remote)
        self._max_k = settings.max_k

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_api(self._searcher, self._max_k)


def application(settings: ServeSettings) -> serve.Application:
    """Encoders and searchers over the index that `settings` names, every replica at the versions found now.

    Raises `RaylevanceError` where the index or its encoder is missing or damaged.
    """
    versions = pin(Store(settings.store), settings.index)
    encoder = _deployment(QueryEncoder, settings.replicas, settings.encoder_cpus, 2 * settings.batch_size)
    search = _deployment(Search, settings.replicas, settings.search_cpus, IN_FLIGHT)
    encoding = encoder.bind(settings.store, versions.encoder, settings.batch_size, settings.batch_wait_ms)
    return search.bind(settings, versions, encoding)


def _deployment(kind: type[Any], replicas: int, cpus: float, in_flight: int) -> serve.Deployment:
    """`replicas` of `kind` with `cpus` each, which hold `in_flight` requests at once: Serve's own 5 fill no batch."""
    return serve.deployment(
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cpus},
        max_ongoing_requests=in_flight,
        max_constructor_retry_count=LOAD_ATTEMPTS,
        graceful_shutdown_wait_loop_s=DRAIN_POLL_S,
    )(kind)
