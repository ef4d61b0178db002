"""The Ray Serve application: replicas behind HTTP, and where wanted encoders and index shards that they share.

    serve.run(application(ServeSettings(store="store")))

The `serve` command of Ray takes `serve.app:deployment`, with the settings as arguments (`serve/config.yaml`).
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.schema import LoggingConfig

from raylevance.artifacts import Store
from raylevance.client.messages import Versions
from raylevance.errors import UsageError
from raylevance.inference import bundle as bundles
from raylevance.tokens import Tokens
from serve.api import build_api
from serve.bundle import newest_versions, versions_of
from serve.feedback import Feedback
from serve.handles import result_of
from serve.metrics import BatchMetrics, Metrics
from serve.models import MOST_IN_POOL, LocalModels, PooledModels, RemoteModels, models_of
from serve.processes import Processes, encoders, replicas, shard_copies
from serve.service import Service
from serve.settings import ServeSettings
from serve.shards import HeldShards, ShardProcesses

log = logging.getLogger("ray.serve")

LOAD_ATTEMPTS = 2
DRAIN_POLL_S = 0.2
HEALTH_CHECK_S = 2.0
HEALTH_TIMEOUT_S = 120.0
"""The first check loads the models."""
MOST_FAILURES = 5
LOGGING = LoggingConfig(encoding="JSON", enable_access_log=False)
"""The guard writes a line for each request, with its id and without the text of the query."""


class Encoders(PooledModels):
    """A replica of the pool of encoders and scorers. It takes requests once it has those of `versions`."""

    def __init__(self, settings: ServeSettings, versions: Versions) -> None:
        """Load the models of `versions`, or those of the newest bundle, before the first request; others later."""
        use_gpu = settings.encoder_gpus > 0
        models = LocalModels(settings.store, use_gpu=use_gpu, most=MOST_IN_POOL, observe=BatchMetrics().observe)
        super().__init__(models)
        self._first: list[str] | None = models_of(newest(settings, versions))

    async def check_health(self) -> None:
        """Load the models that the first requests need. Ray Serve asks before it sends them."""
        first, self._first = self._first, None
        with log_faults("models"):
            result_of(await self.load(first or []))


class IndexShards(HeldShards):
    """A replica of a process that holds shards. It takes requests once it has those of the index of `versions`."""

    def __init__(self, settings: ServeSettings, versions: Versions, number: int) -> None:
        """Load the shards of this process, the one of that number, before the first request."""
        super().__init__(settings.store, number, settings.shard_processes, use_gpu=settings.search_gpus > 0)
        self._first: str | None = newest(settings, versions).index

    async def check_health(self) -> None:
        """Load the shards that the first requests need. Ray Serve asks before it sends them."""
        first, self._first = self._first, None
        with log_faults("shards"):
            if first:
                result_of(await self.load(first))


@serve.ingress()
class Search:
    """The HTTP ingress. A replica takes requests once its bundle is loaded."""

    def __init__(self, settings: ServeSettings, versions: Versions, encoders: Any = None, *shards: Any) -> None:
        """Load the artifacts at `versions`, or those of the newest bundle.

        `encoders` is the handle of `Encoders`, and `shards` are those of `IndexShards`, where there are any.
        """
        metrics = Metrics()
        models = (
            RemoteModels(encoders)
            if encoders is not None
            else LocalModels(settings.store, use_gpu=settings.encoder_gpus > 0, observe=BatchMetrics().observe)
        )
        processes = ShardProcesses(shards, settings.timeout_s) if shards else None
        self._service = Service(settings, newest(settings, versions), models, metrics, processes)
        self._probed = False
        self._failures = 0
        self._shares = encoders is not None or bool(shards)
        self._api = build_api(
            self._service,
            metrics,
            settings,
            tokens=Tokens(settings.tokens) if settings.tokens else None,
            feedback=Feedback(settings.store) if settings.events else None,
            log_queries=settings.log_queries,
            adds_request_id=False,
        )

    async def check_health(self) -> None:
        """Raise where searches do not work. Ray Serve asks before it sends the first request, and every 2 seconds.

        The first call loads the models, so that no request waits for them. Later, a few failures in a row are needed,
        because a replica that is replaced in the middle of a peak makes it worse. Where other processes encode or hold
        the index, a failure may be theirs: this replica stays, and answers what it can.
        """
        if not self._probed:
            await self._service.warm()
            self._probed = True
        self._failures = 0 if await self._service.is_ready() or self._shares else self._failures + 1
        if self._failures >= MOST_FAILURES:
            raise RuntimeError(f"{self._failures} probes in a row had no answer")

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the routes; Ray Serve calls this in the replica."""
        return self._api


def application(settings: ServeSettings, versions: Versions | None = None) -> serve.Application:
    """Build the application over the artifacts that `settings` names.

    Without a bundle their versions are pinned here, once, and every replica loads these: also one that starts after a
    newer version was published; `versions` are those that the caller has pinned. Raises `RaylevanceError` when one is
    missing or damaged.
    """
    versions = versions or pin_versions(settings)
    if settings.tokens:
        Tokens(settings.tokens)
    pool = _deployment(Encoders, encoders(settings)).bind(settings, versions) if settings.encoders else None
    shards = [
        _deployment(IndexShards, shard_copies(settings), f"IndexShards{number}").bind(settings, versions, number)
        for number in range(settings.shard_processes)
    ]
    return _deployment(Search, replicas(settings)).bind(settings, versions, pool, *shards)


def deployment(settings: ServeSettings) -> serve.Application:
    """Build the application for `serve deploy`, whose file decides the address (`http_options`).

    Raises `UsageError` where `args` sets what has no effect there, or no tokens: the address may be open.
    """
    given = settings.model_fields_set & {"host", "port", "tls_cert", "tls_key"}
    if given:
        raise UsageError(f"args.{min(given)}: has no effect in a file for `serve deploy`; set it in http_options")
    if settings.tokens is None:
        raise UsageError("args.tokens: is needed in a file for `serve deploy`; `raylevance token add` makes the file")
    return application(settings)


def pin_versions(settings: ServeSettings) -> Versions:
    """Return the versions to serve: those of the bundle, or the newest of each artifact that `settings` names.

    Raises `UsageError` for a reference of another kind, `RaylevanceError` when an artifact is missing or damaged.
    """
    store = Store(settings.store)
    if settings.bundle:
        return newest_versions(store, settings.bundle)
    return versions_of(bundles.pin(store, settings.index, settings.classifier, settings.scorer, settings.items))


def newest(settings: ServeSettings, versions: Versions) -> Versions:
    """Return the versions of the newest bundle that can be read, for a replica that starts; `versions` without one."""
    return newest_versions(Store(settings.store), settings.bundle) if settings.bundle else versions


@contextmanager
def log_faults(what: str) -> Iterator[None]:
    """Log what fails, and go on: a bundle that is damaged must not keep a replica from answering from another one."""
    try:
        yield
    except Exception as error:
        log.error("the %s of the newest bundle can't be loaded: %s", what, error)


def _deployment(kind: type[Any], processes: Processes, name: str | None = None) -> serve.Deployment:
    return serve.deployment(
        name=name or kind.__name__,
        max_constructor_retry_count=LOAD_ATTEMPTS,
        graceful_shutdown_wait_loop_s=DRAIN_POLL_S,
        health_check_period_s=HEALTH_CHECK_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        logging_config=LOGGING,
        **processes.options(),
    )(kind)
