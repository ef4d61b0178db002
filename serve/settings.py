"""The settings of the server."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from raylevance.config import Settings

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def _absolute(path: str) -> str:
    """Make a path absolute, because a replica's working directory is another one."""
    return path if "://" in path else str(Path(path).absolute())


def _bundle(name: str) -> str:
    """Add the kind to the name of a bundle, as `raylevance bundle` takes it."""
    return name if "/" in name else f"bundle/{name}"


class PageSettings(Settings):
    """How `POST /v1/query` ranks; `serve/search_page.py` has the formula."""

    candidates: PositiveInt = 100
    """The hits of the hybrid search that are ranked again."""
    category_weight: NonNegativeFloat = 0.2
    """How much the probability of a product's category counts; the hybrid score counts 1."""
    trigger_weight: NonNegativeFloat = 0.2
    """How much it counts that the user's triggers recommend a product."""
    relevance_weight: NonNegativeFloat = 0.5
    """How much the scorer's probability counts."""
    judged: PositiveInt = 20
    """The best candidates that the scorer judges."""


class AnswerSettings(Settings):
    """How requests are batched, bounded and cached in a replica."""

    max_k: PositiveInt = 100
    """The largest number of hits that a request may ask for."""
    batch_tokens: PositiveInt = 512
    """The largest batch of queries to encode, in tokens with padding. A batch is what arrived during the one before."""
    batch_wait_ms: NonNegativeFloat = 0
    """The time that a query waits for others when the encoder is free, in milliseconds."""
    search_batch: PositiveInt = 32
    """The most searches that are handed to the search thread together."""
    cached_vectors: NonNegativeInt = 10_000
    """The query vectors that a replica keeps; 1.5 kB each at 384 dimensions."""
    cached_answers: NonNegativeInt = 1_000
    """The answers that a replica keeps. They are of one bundle, and dropped with it."""
    page: PageSettings = PageSettings()


class LimitSettings(Settings):
    """Limits of a request."""

    max_body_bytes: PositiveInt = 256 << 10
    """The longest body; longer ones are refused with status 413 while they arrive."""
    timeout_s: PositiveFloat = 10
    """The longest time for an answer; status 504 after it, or 408 where the body has not arrived."""
    max_in_flight: PositiveInt = 256
    """The most requests that a replica holds; more are refused with status 429 and Retry-After."""


class ServeSettings(AnswerSettings, LimitSettings):
    """The artifacts to serve, the address to listen on, and the share of the machine to use."""

    store: Annotated[str, AfterValidator(_absolute)] = "./store"
    """The folder or URI of the artifact store."""
    bundle: Annotated[str, AfterValidator(_bundle)] | None = None
    """The bundle to serve, as bundle/NAME: its newest version, also while the server runs. bundle/NAME@VERSION stays.
    Null serves the artifacts below at their newest versions at the start."""
    index: str = "index/stage2"
    """The index to search, as index/NAME[@VERSION]."""
    classifier: str | None = None
    """The classifier of queries, as classifier/NAME[@VERSION]; null for none."""
    scorer: str | None = None
    """The scorer of relevance, as scorer/NAME[@VERSION]; null for none. It reads the products of the index's tables."""
    items: str | None = None
    """The table of items to recommend from, as table/NAME[@VERSION]; null for none."""
    refresh_s: PositiveFloat = 5
    """How often a replica looks for a newer version of its bundle."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 listens on all addresses of the machine, and needs `tokens`."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The port to listen on; 0 takes any free port."""
    tokens: Annotated[str, AfterValidator(_absolute)] | None = None
    """The file with the hashes of the tokens that clients send (`raylevance token`); null asks for none. It is read
    again when it changes."""
    events: bool = False
    """Keep the events of `POST /v1/events` and the queries that they are about, in the store's folder `feedback`."""
    log_queries: bool = False
    """Write the texts of queries to the log."""
    tls_cert: Annotated[str, AfterValidator(_absolute)] | None = None
    """The file with the certificate chain (PEM) to answer over https with; needs `tls_key`."""
    tls_key: Annotated[str, AfterValidator(_absolute)] | None = None
    """The file with the private key (PEM) of `tls_cert`."""
    replicas: PositiveInt = 1
    """The number of replicas at the start, which is also the least."""
    most_replicas: PositiveInt | None = None
    """The most replicas that load may start; null keeps `replicas`."""
    encoders: NonNegativeInt = 0
    """The number of encoder processes that all replicas share; with 0 every replica encodes in its own process,
    which saves a hop."""
    most_encoders: PositiveInt | None = None
    """The most encoder processes that load may start; null keeps `encoders`."""
    shard_processes: NonNegativeInt = 0
    """The number of processes that hold the index's shards (`index build --set shards=N`) for all replicas, each its
    share of them; with 0 every replica holds the whole index."""
    shard_replicas: PositiveInt = 1
    """The number of copies of each of these processes at the start, which is also the least."""
    most_shard_replicas: PositiveInt | None = None
    """The most copies of each of these processes that load may start; null keeps `shard_replicas`."""
    encoder_cpus: PositiveFloat = 0.5
    """The number of CPUs that Ray reserves for each encoder."""
    search_cpus: PositiveFloat = 0.5
    """The number of CPUs that Ray reserves for each replica, and for each process that holds shards."""
    encoder_gpus: float = Field(default=0, ge=0, le=1)
    """The share of a GPU that Ray reserves for each encoder, which then encodes there; 0 encodes on the CPU."""
    search_gpus: float = Field(default=0, ge=0, le=1)
    """The share of a GPU that Ray reserves for each process that holds vectors, which then searches there, but for
    filtered searches. It needs faiss-gpu and an index of kind exact; 0 searches on the CPU."""

    @model_validator(mode="after")
    def _closed_unless_guarded(self) -> Self:
        if self.host not in LOOPBACK and self.tokens is None:
            raise ValueError(
                f"host={self.host} opens the server to other machines, which needs tokens: "
                "make one with `raylevance token add NAME --file tokens.json`, and give --tokens tokens.json"
            )
        others = self.model_fields_set & {"index", "classifier", "scorer", "items"}
        if self.bundle is not None and others:
            raise ValueError(f"{min(others)}: the bundle says what is served; set either it or bundle")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key: set both or neither")
        for name in ("replicas", "encoders", "shard_replicas"):
            least, most = getattr(self, name), getattr(self, f"most_{name}")
            if most is not None and most < least:
                raise ValueError(f"most_{name}={most} is less than {name}={least}")
        if not self.encoders and self.most_encoders is not None:
            raise ValueError("most_encoders: has no effect without encoders; set encoders to 1 or more")
        if not self.shard_processes and (self.shard_replicas > 1 or self.most_shard_replicas is not None):
            name = "shard_replicas" if self.shard_replicas > 1 else "most_shard_replicas"
            raise ValueError(f"{name}: has no effect without shard_processes; set shard_processes to 1 or more")
        return self
