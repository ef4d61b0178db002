"""The Ray Serve application: searchers behind HTTP, and where wanted a pool of encoders that they share.

    serve.run(application(ServeSettings(store="store")))

The `serve` command of Ray takes `serve.app:deployment`, with the settings as arguments (`serve/config.yaml`).
"""

from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import LoggingConfig

from raylevance.artifacts import Store
from raylevance.client.messages import Versions
from raylevance.errors import UsageError
from raylevance.inference import bundle as bundles
from raylevance.tokens import Tokens
from serve.api import build_api
from serve.bundle import Vectors, newest_versions, versions_of
from serve.feedback import Feedback
from serve.metrics import BatchMetrics, Metrics
from serve.models import MOST_IN_POOL, LocalModels, RemoteModels
from serve.service import Service
from serve.settings import ServeSettings

MAX_BATCHES_PER_ENCODER = 64
"""Batches that one encoder holds at once; those that wait for a model to load must not keep others out."""
LOAD_ATTEMPTS = 2
DRAIN_POLL_S = 0.2
HEALTH_CHECK_S = 2.0
HEALTH_TIMEOUT_S = 120.0
"""The first check loads the models."""
MOST_FAILURES = 5
LOGGING = LoggingConfig(encoding="JSON", enable_access_log=False)
"""The guard writes a line for each request, with its id and without the text of the query."""


class Encoders:
    """A replica of the pool of encoders and scorers."""

    def __init__(self, settings: ServeSettings) -> None:
        """Load models when they are first asked for."""
        self._models = LocalModels(
            settings.store, use_gpu=settings.encoder_gpus > 0, most=MOST_IN_POOL, observe=BatchMetrics().observe
        )

    async def encode(self, reference: str, queries: list[str]) -> Vectors:
        """Return unit vectors, as `Models.encode`."""
        return await self._models.encode(reference, queries)

    async def score(self, reference: str, pairs: list[tuple[str, str, str | None]]) -> list[float]:
        """Return probabilities of relevance, as `Models.score`."""
        return await self._models.score(reference, pairs)


@serve.ingress()
class Search:
    """The HTTP ingress. A replica takes requests once its bundle is loaded."""

    def __init__(self, settings: ServeSettings, versions: Versions, encoders: Any = None) -> None:
        """Load the artifacts at `versions`, or those of the newest bundle; `encoders` is the handle of `Encoders`."""
        metrics = Metrics()
        if settings.bundle:
            versions = newest_versions(Store(settings.store), settings.bundle)
        models = (
            RemoteModels(encoders)
            if encoders is not None
            else LocalModels(settings.store, use_gpu=settings.encoder_gpus > 0, observe=BatchMetrics().observe)
        )
        self._service = Service(settings, versions, models, metrics)
        self._probed = False
        self._failures = 0
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
        because a replica that is replaced in the middle of a peak makes it worse.
        """
        if not self._probed:
            await self._service.warm()
            self._probed = True
        self._failures = 0 if await self._service.is_ready() else self._failures + 1
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
    arguments: list[Any] = [settings, versions]
    if settings.encoders:
        arguments.append(
            _deployment(
                Encoders,
                cpus=settings.encoder_cpus,
                gpus=settings.encoder_gpus,
                max_ongoing_requests=MAX_BATCHES_PER_ENCODER,
                num_replicas=settings.encoders,
            ).bind(settings)
        )
    return _deployment(
        Search,
        cpus=settings.search_cpus + (0 if settings.encoders else settings.encoder_cpus),
        gpus=settings.search_gpus + (0 if settings.encoders else settings.encoder_gpus),
        max_ongoing_requests=2 * settings.max_in_flight,
        **_scaling(settings),
    ).bind(*arguments)


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


def _scaling(settings: ServeSettings) -> dict[str, Any]:
    if settings.most_replicas is None or settings.most_replicas == settings.replicas:
        return {"num_replicas": settings.replicas}
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=settings.replicas,
            max_replicas=settings.most_replicas,
            target_ongoing_requests=settings.max_in_flight / 8,
            upscale_delay_s=10,
            downscale_delay_s=120,
        )
    }


def _deployment(
    kind: type[Any], *, cpus: float, gpus: float, max_ongoing_requests: int, **options: Any
) -> serve.Deployment:
    return serve.deployment(
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        max_ongoing_requests=max_ongoing_requests,
        max_constructor_retry_count=LOAD_ATTEMPTS,
        graceful_shutdown_wait_loop_s=DRAIN_POLL_S,
        health_check_period_s=HEALTH_CHECK_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        logging_config=LOGGING,
        **options,
    )(kind)
