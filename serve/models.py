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
from serve.problems import Unavailable

MOST_IN_POOL = 6
"""Models that a process of the pool keeps: those of a bundle that leaves and of the one that comes, three each."""


class Models(Protocol):
    """Encoders and scorers: `LocalModels`, or the handle of a deployment of them."""

    async def encode(self, reference: str, queries: list[str]) -> Vectors:
        """Return unit vectors float32 [n, d] of queries by the encoder of `encoder/...` or `classifier/...`."""

    async def score(self, reference: str, pairs: list[tuple[str, str, str | None]]) -> list[float]:
        """Return the probability of relevance by `scorer/...` of pairs (query, item text, product_id)."""

    def keep(self, references: set[str]) -> None:
        """Drop the models of all other references; requests that use one keep it to their end."""


class LocalModels:
    """Encoders and scorers of this process. A model is loaded, and its files checked, when it is first asked for.

    Calls of one kind run one at a time on a thread; loading has a thread of its own, so that the models in service go
    on answering while another is loaded.
    """

    def __init__(
        self, store: str, *, use_gpu: bool = False, most: int | None = None, observe: Callable[[int], object] = int
    ) -> None:
        """Load from `store`; `observe` is told the number of queries of each batch.

        With `most`, the model that was not used for the longest time goes when there are more; else `keep` decides.
        """
        self._store = Store(store)
        self._use_gpu = use_gpu
        self._observe = observe
        self._most = most
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

    def keep(self, references: set[str]) -> None:
        """Drop the models of all other references, as `Models.keep`."""
        for reference in self._loaded.keys() - references:
            del self._loaded[reference]

    async def _run(self, kind: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._work[kind], function, *arguments)

    async def _model(self, reference: str) -> Any:
        task = self._loaded.get(reference)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._loaded[reference] = asyncio.create_task(self._run("load", self._load, reference))
        self._loaded.move_to_end(reference)
        if self._most is not None and len(self._loaded) > self._most:
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
        vectors: Vectors = await self._answer(self._handle.encode.remote(reference, queries))
        return vectors

    async def score(self, reference: str, pairs: list[tuple[str, str, str | None]]) -> list[float]:
        """Return probabilities of relevance, as `Models.score`."""
        scores: list[float] = await self._answer(self._handle.score.remote(reference, pairs))
        return scores

    def keep(self, references: set[str]) -> None:
        """Leave it to the pool, which searchers with other bundles share."""

    async def _answer(self, response: Any) -> Any:
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import RayServeException

        try:
            return await response
        except (RayActorError, RayServeException) as error:
            raise Unavailable(f"the encoders do not answer ({type(error).__name__})") from error


def estimated_tokens(text: str) -> int:
    """Estimate the tokens of `text`: a third of its ASCII characters, each other character, and the two at the ends.

    A batch is closed before it is tokenized, so its size can only be estimated.
    """
    ascii_characters = sum(map(str.isascii, text))
    return 2 + ascii_characters // 3 + len(text) - ascii_characters
