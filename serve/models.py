"""The transformers of the server: encoders of queries, and scorers of pairs, loaded by reference when first used."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from raylevance.artifacts import Store
from raylevance.inference import query_classifier, scorer
from raylevance.inference.scorer import Scorer
from raylevance.inference.search import load_query_encoder, read_query_encoder
from serve.bundle import Vectors

MOST_LOADED = 6
"""References whose models are kept: those of a bundle that leaves, and of the one that comes, three each."""


class Models(Protocol):
    """What encodes and scores: `LocalModels`, or the handle of a deployment of them."""

    async def encode(self, reference: str, queries: list[str]) -> Vectors:
        """Return unit vectors float32 [n, d] of queries by the encoder of `encoder/...` or `classifier/...`."""

    async def score(self, reference: str, pairs: list[tuple[str, str, str | None]]) -> list[float]:
        """Return the probability of relevance by `scorer/...` of pairs (query, item text, product_id)."""


class LocalModels:
    """Encoders and scorers of this process. A model is loaded, and its files checked, when it is first asked for.

    Calls of one kind run one at a time on a thread; loading has a thread of its own, so that the models in service go
    on answering while another is loaded.
    """

    def __init__(self, store: str, *, use_gpu: bool = False, observe: Callable[[int], object] = int) -> None:
        """Load from `store`; `observe` is told the number of queries of each batch."""
        self._store = Store(store)
        self._use_gpu = use_gpu
        self._observe = observe
        self._loaded: OrderedDict[str, asyncio.Task[Any]] = OrderedDict()
        self._work = {kind: ThreadPoolExecutor(1, kind) for kind in ("encode", "score", "load")}

    async def encode(self, reference: str, queries: list[str]) -> Vectors:
        """Return unit vectors float32 [n, d] of `queries`, as `Models.encode`."""
        encoder = await self._model(reference)
        self._observe(len(queries))
        vectors: Vectors = await self._run("encode", encoder.encode_queries, queries)
        return vectors

    async def score(self, reference: str, pairs: list[tuple[str, str, str | None]]) -> list[float]:
        """Return probabilities of relevance, as `Models.score`."""
        model: Scorer = await self._model(reference)
        queries, texts, ids = zip(*pairs, strict=True)
        scores: Any = await self._run("score", model.score, queries, texts, ids)
        return [float(score) for score in scores]

    async def _run(self, kind: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._work[kind], function, *arguments)

    async def _model(self, reference: str) -> Any:
        task = self._loaded.get(reference)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._loaded[reference] = asyncio.create_task(self._run("load", self._load, reference))
        self._loaded.move_to_end(reference)
        if len(self._loaded) > MOST_LOADED:
            self._loaded.popitem(last=False)
        # A request that is given up must not cancel the loading that others wait for.
        return await asyncio.shield(task)

    def _load(self, reference: str) -> Any:
        if reference.startswith("scorer/"):
            return scorer.load(self._store, reference)
        if reference.startswith("classifier/"):
            folder = self._store.path(reference) / query_classifier.ENCODER
            encoder = read_query_encoder(folder, use_gpu=self._use_gpu)
        else:
            encoder = load_query_encoder(self._store, reference, use_gpu=self._use_gpu)
        encoder.encode_queries(["warm"])  # the first forward pass is slow
        return encoder


class RemoteModels:
    """The models of a deployment, by its handle."""

    def __init__(self, handle: Any) -> None:
        """Ask the replicas behind `handle`, a deployment of `LocalModels`."""
        self._handle = handle

    async def encode(self, reference: str, queries: list[str]) -> Vectors:
        """Return unit vectors, as `Models.encode`."""
        vectors: Vectors = await self._handle.encode.remote(reference, queries)
        return vectors

    async def score(self, reference: str, pairs: list[tuple[str, str, str | None]]) -> list[float]:
        """Return probabilities of relevance, as `Models.score`."""
        scores: list[float] = await self._handle.score.remote(reference, pairs)
        return scores


def padded_tokens(text: str) -> int:
    """Estimate how many tokens `text` has, from its characters: a batch must be closed before it is tokenized."""
    return 2 + len(text) // 3
