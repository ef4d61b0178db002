"""What the server can be told."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from raylevance.config import Settings


def _absolute(store: str) -> str:
    """Replicas have a working directory of their own, so a relative folder would be another one there."""
    return store if "://" in store else str(Path(store).absolute())


class ServeSettings(Settings):
    """Where the artifacts are, where to listen, and how much of the machine to take.

    `port` 0 takes any free one. `replicas` counts both the encoders and the searchers; each takes the given share
    of processors. A batch of queries is encoded when it is full, or `batch_wait_ms` after its first query came.
    """

    store: Annotated[str, AfterValidator(_absolute)] = "./store"
    index: str = "index/stage2"
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    replicas: PositiveInt = 1
    encoder_cpus: PositiveFloat = 0.5
    search_cpus: PositiveFloat = 0.5
    batch_size: PositiveInt = 32
    batch_wait_ms: NonNegativeFloat = 2.0
    max_k: PositiveInt = 100
