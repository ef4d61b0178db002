"""The processes of the server: how many of each kind there are, and what Ray reserves for each."""

from dataclasses import dataclass
from typing import Any

from ray.serve.config import AutoscalingConfig

from serve.settings import ServeSettings

MAX_BATCHES = 64
"""Batches that a process which replicas share holds at once; those that wait for a model to load must not keep others
out."""
BATCHES_AT_ONCE = 2.0
"""Batches in work or waiting in such a process, on average, from which there should be more of them."""


@dataclass(frozen=True)
class Processes:
    """The processes of one kind, whose least number is the setting `name`."""

    name: str
    least: int
    most: int | None
    cpus: float
    gpus: float
    max_ongoing_requests: int = MAX_BATCHES
    target_ongoing_requests: float = BATCHES_AT_ONCE

    def options(self) -> dict[str, Any]:
        """Return the options of their deployment."""
        return {
            "ray_actor_options": {"num_cpus": self.cpus, "num_gpus": self.gpus},
            "max_ongoing_requests": self.max_ongoing_requests,
            **self._number(),
        }

    def _number(self) -> dict[str, Any]:
        if self.most is None or self.most == self.least:
            return {"num_replicas": self.least}
        return {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=self.least,
                max_replicas=self.most,
                target_ongoing_requests=self.target_ongoing_requests,
                upscale_delay_s=10,
                downscale_delay_s=120,
            )
        }


def replicas(settings: ServeSettings) -> Processes:
    """Return the processes that answer. They encode, and hold the index, where no others do."""
    encodes, holds = not settings.encoders, not settings.shard_processes
    return Processes(
        "replicas",
        settings.replicas,
        settings.most_replicas,
        cpus=settings.search_cpus + encodes * settings.encoder_cpus,
        gpus=holds * settings.search_gpus + encodes * settings.encoder_gpus,
        max_ongoing_requests=2 * settings.max_in_flight,
        target_ongoing_requests=settings.max_in_flight / 8,
    )


def encoders(settings: ServeSettings) -> Processes:
    """Return the pool of encoders and scorers."""
    return Processes(
        "encoders", settings.encoders, settings.most_encoders, settings.encoder_cpus, settings.encoder_gpus
    )


def shard_copies(settings: ServeSettings) -> Processes:
    """Return the copies of one process that holds shards."""
    return Processes(
        "shard_replicas",
        settings.shard_replicas,
        settings.most_shard_replicas,
        settings.search_cpus,
        settings.search_gpus,
    )
