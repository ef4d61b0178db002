"""The metrics of a replica, which Ray exports to Prometheus with the prefix `ray_`.

`grafana.json` beside this file is a dashboard of them.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from ray.util.metrics import Counter, Gauge, Histogram

LATENCY_S = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
BATCH_SIZE_METRIC, QUERIES_METRIC = "raylevance_encoder_batch_size", "raylevance_encoder_queries"
SIZES = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]


class Metrics:
    """The counters and times of a replica."""

    def __init__(self) -> None:
        """Register the metrics with Ray; without Ray they are kept nowhere."""
        self._requests = Counter(
            "raylevance_requests", description="Requests by route and status.", tag_keys=("route", "status")
        )
        self._latency = Histogram(
            "raylevance_request_seconds",
            description="Time from the head of a request to the end of its answer.",
            boundaries=LATENCY_S,
            tag_keys=("route",),
        )
        self._stages = Histogram(
            "raylevance_stage_seconds",
            description="Time of one batch in a stage: encode, search, score or recommend.",
            boundaries=LATENCY_S,
            tag_keys=("stage",),
        )
        self._waiting = Gauge("raylevance_requests_in_flight", description="Requests that are being answered.")
        self._in_flight = 0
        self._cached = Counter(
            "raylevance_cache_lookups",
            description="Lookups of query vectors and of answers in the cache, by whether it had them.",
            tag_keys=("cache", "found"),
        )
        self._searches = Counter("raylevance_searches", description="Searches and search pages.")
        self._empty = Counter("raylevance_searches_without_hits", description="Searches that found no product.")
        self._bundles = Counter(
            "raylevance_bundles", description="Bundles taken into service and refused.", tag_keys=("outcome",)
        )

        self._since = Gauge(
            "raylevance_bundle_taken_seconds", description="When the bundle in service was taken, as a Unix time."
        )
        self._events = Gauge(
            "raylevance_feedback",
            description="What became of events and queries since the replica started, by outcome.",
            tag_keys=("outcome",),
        )

    def taken(self, since: datetime) -> None:
        """Count a bundle that was taken into service."""
        self._bundles.inc(1, {"outcome": "taken"})
        self.set_gauges(since)

    def set_gauges(self, since: datetime, feedback: Mapping[str, int] | None = None) -> None:
        """Record when the bundle in service was taken, the requests in flight, and what became of events, by outcome.

        Ray stops to export a gauge that is not set for about half a minute, so the API calls this every few seconds.
        """
        self._since.set(since.timestamp())
        self._waiting.set(self._in_flight)
        for outcome, count in (feedback or {}).items():
            self._events.set(count, {"outcome": outcome})

    def refused(self) -> None:
        """Count a bundle that was refused."""
        self._bundles.inc(1, {"outcome": "refused"})

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer, and the time that it took."""
        self._requests.inc(1, {"route": route, "status": str(status)})
        self._latency.observe(seconds, {"route": route})

    def in_flight(self, count: int) -> None:
        """Record how many requests are being answered."""
        self._in_flight = count
        self._waiting.set(count)

    def cached(self, cache: str, found: bool) -> None:
        """Count a lookup in the cache of `answer`s or of `vector`s."""
        self._cached.inc(1, {"cache": cache, "found": "yes" if found else "no"})

    def found(self, hits: int) -> None:
        """Count a search, and whether it found nothing."""
        self._searches.inc(1)
        if not hits:
            self._empty.inc(1)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a batch in the stage `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._stages.observe(time.perf_counter() - started, {"stage": name})


class BatchMetrics:
    """The sizes of the batches of an encoder, for Prometheus."""

    def __init__(self) -> None:
        """Register the metrics with Ray."""
        self._sizes = Histogram(BATCH_SIZE_METRIC, description="Queries in a batch of the encoder.", boundaries=SIZES)
        self._queries = Counter(QUERIES_METRIC, description="Queries that the encoder has encoded.")

    def observe(self, queries: int) -> None:
        """Count a batch. Ray only estimates the sum of a histogram, so queries have a counter of their own."""
        self._sizes.observe(queries)
        self._queries.inc(queries)
