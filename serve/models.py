"""The transformers of the server: encoders of queries, and scorers of pairs, loaded by reference when first used."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from raylevance.artifacts import Store
from raylevance.client.messages import Versions
from raylevance.inference import query_classifier, scorer
from raylevance.inference.scorer import Scorer
from raylevance.inference.search import load_query_encoder, read_query_encoder
from serve.arrays import Packed, pack, unpack
from serve.bundle import Vectors
from serve.handles import answer_of, by_value, replies, tell_all
from serve.loaded import Loaded

MOST_IN_POOL = 6
"""Models that a process of the pool keeps: those of a bundle that leaves and of the one that comes, three each."""


class Models(Protocol):
    """Encoders and scorers: `LocalModels`, or the handle of a deployment of them."""

    async def encode(self, reference: str, queries: list[str]) -> Vectors:
        """Return unit vectors float32 [n, d] of queries by the encoder of `encoder/...` or `classifier/...`."""

    async def score(self, reference: str, pairs: list[tuple[str, str, str | None]]) -> list[float]:
        """Return the probability of relevance by `scorer/...` of pairs (query, item text, product_id)."""

    async def load(self, references: Iterable[str]) -> None:
        """Load models, so that no request waits for them. Raises `RaylevanceError` when one is missing or damaged."""

    def drop(self, references: set[str]) -> None:
        """Drop models that are not needed any more; requests that use one keep it to their end."""


class LocalModels:
    """Encoders and scorers of this process. A model is loaded, and its files checked, when it is first asked for.

    Calls of one kind run one at a time on a thread.
    """

    def __init__(
        self, store: str, *, use_gpu: bool = False, most: int | None = None, observe: Callable[[int], object] = int
    ) -> None:
        """Load from `store`; `observe` is told the number of queries of each batch.

        With `most`, the model that was not used for the longest time goes when there are more; else `drop` decides.
        """
        self._store = Store(store)
        self._use_gpu = use_gpu
        self._observe = observe
        self._models: Loaded[str, Any] = Loaded(self._read, most)
        self._work = {kind: ThreadPoolExecutor(1, kind) for kind in ("encode", "score")}

    async def encode(self, reference: str, queries: list[str]) -> Vectors:
        """Return unit vectors float32 [n, d] of `queries`, as `Models.encode`."""
        encoder = await self._models.get(reference)
        self._observe(len(queries))
        vectors: Vectors = await self._run("encode", encoder.encode_queries, queries)
        return vectors

    async def score(self, reference: str, pairs: list[tuple[str, str, str | None]]) -> list[float]:
        """Return probabilities of relevance, as `Models.score`."""
        model: Scorer = await self._models.get(reference)
        queries, texts, ids = zip(*pairs, strict=True)
        scores: Any = await self._run("score", model.score, queries, texts, ids)
        return [float(score) for score in scores]

    async def load(self, references: Iterable[str]) -> None:
        """Load models, as `Models.load`."""
        for reference in references:
            await self._models.get(reference)

    def drop(self, references: set[str]) -> None:
        """Drop models, as `Models.drop`."""
        self._models.drop(references)

    async def _run(self, kind: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._work[kind], function, *arguments)

    def _read(self, reference: str) -> Any:
        if reference.startswith("scorer/"):
            return scorer.load(self._store, reference)
        if reference.startswith("classifier/"):
            folder = self._store.path(reference) / query_classifier.ENCODER
            encoder = read_query_encoder(folder, use_gpu=self._use_gpu)
        else:
            encoder = load_query_encoder(self._store, reference, use_gpu=self._use_gpu)
        encoder.encode_queries(["warm"])  # the first forward pass is slow
        return encoder


class PooledModels:
    """Models for other processes, which send and get MessagePack: what a process of the pool answers with."""

    def __init__(self, models: LocalModels) -> None:
        """Answer from `models`."""
        self._models = models

    @replies
    async def encode(self, reference: str, queries: list[str]) -> Packed:
        """Return unit vectors, as `Models.encode`."""
        return pack(await self._models.encode(reference, queries))

    @replies
    async def score(self, reference: str, pairs: list[tuple[str, str, str | None]]) -> list[float]:
        """Return probabilities of relevance, as `Models.score`."""
        return await self._models.score(reference, pairs)

    @replies
    async def load(self, references: list[str]) -> None:
        """Load models, as `Models.load`."""
        await self._models.load(references)


class RemoteModels:
    """The models of a pool of processes, by its handle."""

    def __init__(self, handle: Any) -> None:
        """Ask the replicas behind `handle`, a deployment of `PooledModels`."""
        self._handle = by_value(handle)

    async def encode(self, reference: str, queries: list[str]) -> Vectors:
        """Return unit vectors, as `Models.encode`."""
        return unpack(await answer_of(self._handle.encode.remote(reference, queries), "the encoders"))

    async def score(self, reference: str, pairs: list[tuple[str, str, str | None]]) -> list[float]:
        """Return probabilities of relevance, as `Models.score`."""
        scores: list[float] = await answer_of(self._handle.score.remote(reference, pairs), "the encoders")
        return scores

    async def load(self, references: Iterable[str]) -> None:
        """Load models in every process of the pool, as `Models.load`."""
        await tell_all(self._handle, "load", (list(references),), "the encoders")

    def drop(self, references: set[str]) -> None:
        """Leave it to the pool, which replicas with other bundles share."""


def models_of(versions: Versions) -> list[str]:
    """Return the references of the models that a bundle answers with."""
    return [reference for reference in (versions.encoder, versions.classifier, versions.scorer) if reference]


def estimated_tokens(text: str) -> int:
    """Estimate the tokens of `text`: a third of its ASCII characters, each other character, and the two at the ends.

    A batch is closed before it is tokenized, so its size can only be estimated.
    """
    ascii_characters = sum(map(str.isascii, text))
    return 2 + ascii_characters // 3 + len(text) - ascii_characters
