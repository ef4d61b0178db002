"""The settings of the server."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from raylevance.config import Settings


def _absolute(store: str) -> str:
    """Make a folder absolute, because a replica's working directory is another one."""
    return store if "://" in store else str(Path(store).absolute())


class ServeSettings(Settings):
    """Where the artifacts are, where to listen, and how much of the machine to use."""

    store: Annotated[str, AfterValidator(_absolute)] = "./store"
    """The folder or URI of the artifact store."""
    index: str = "index/stage2"
    """The index to search, as index/NAME[@VERSION]; without a version, the newest one at the start."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 listens on all addresses of the machine."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The port to listen on; 0 takes any free port."""
    replicas: PositiveInt = 1
    """The number of searchers, and also the number of encoders."""
    encoder_cpus: PositiveFloat = 0.5
    """The number of CPUs that Ray reserves for each encoder."""
    search_cpus: PositiveFloat = 0.5
    """The number of CPUs that Ray reserves for each searcher."""
    encoder_gpus: float = Field(default=0, ge=0, le=1)
    """The share of a GPU that Ray reserves for each encoder, which then encodes there; 0 encodes on the CPU."""
    search_gpus: float = Field(default=0, ge=0, le=1)
    """The share of a GPU that Ray reserves for each searcher, which then searches there, but for filtered searches. It
    needs faiss-gpu and an index of kind exact; 0 searches on the CPU."""
    batch_size: PositiveInt = 32
    """The largest number of queries that are encoded in one batch. A batch is what arrived during the one before."""
    batch_wait_ms: NonNegativeFloat = 0
    """The time that a query waits for others when the encoder is free, in milliseconds."""
    max_k: PositiveInt = 100
    """The largest number of hits that a request may ask for."""
