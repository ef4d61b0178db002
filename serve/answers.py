"""Answers to requests from one bundle: encode, search, classify, score and recommend."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from raylevance.client.messages import (
    Answer,
    Classification,
    ClassifyRequest,
    Explanation,
    Hit,
    Label,
    Recommendations,
    RecommendedItem,
    RecommendRequest,
    Relevance,
    RelevanceRequest,
    Relevances,
    SearchRequest,
    Trigger,
)
from raylevance.errors import RaylevanceError, UsageError
from raylevance.inference.item_table import TriggerLists
from raylevance.inference.query_classifier import query_text
from raylevance.inference.search import (
    ProductHit,
    ProductSearch,
    excluded_words_found,
    needs_vector,
    words_found,
)
from serve.batching import Batcher
from serve.bundle import Bundle, Vectors
from serve.cache import Cache
from serve.metrics import Metrics
from serve.models import Models, estimated_tokens
from serve.problems import Unavailable
from serve.request_id import new_id
from serve.settings import AnswerSettings

T = TypeVar("T")
H = TypeVar("H", bound=Hit)
Search = tuple[SearchRequest, Vectors | None]
"""A request, and the vector of its query if it needs one."""
PROBE = "ready"
LEVELS = " > "
"""Joins the levels of a category path."""


class Answers:
    """Answers requests from one bundle. Vectors of its queries come from its own encoders and go to its own index.

    Queries that arrive while others are encoded are encoded together, and searches that arrive while others run are run
    together, on a thread, so that the event loop is free.
    """

    def __init__(self, bundle: Bundle, models: Models, settings: AnswerSettings, metrics: Metrics) -> None:
        """Answer from `bundle`, with vectors and probabilities from `models`."""
        self.bundle = bundle
        self.settings = settings
        self.metrics = metrics
        self._models = models
        self._thread = ThreadPoolExecutor(1, "search")
        # A search may wait for a shard that is down, and what needs no shard does not.
        self._other_thread = ThreadPoolExecutor(1, "answer")
        # No part refers back to this object, so that all of it goes with the last request that holds it.
        self._searches: Batcher[Search, list[ProductHit] | Exception] = Batcher(
            partial(search_all, bundle, self._thread, metrics), settings.search_batch
        )
        wait_s = settings.batch_wait_ms / 1000
        self._encoders = {
            reference: Batcher(
                partial(encode_rows, models, metrics, reference), settings.batch_tokens, estimated_tokens, wait_s
            )
            for reference in (bundle.versions.encoder, bundle.versions.classifier)
            if reference
        }
        self._vectors: Cache[tuple[str, str], Vectors] = Cache(settings.cached_vectors)
        self._hits: Cache[bytes, list[Hit]] = Cache(settings.cached_answers)
        self.searched_at = 0.0
        """When the last search found its hits, in seconds of `time.monotonic`."""

    async def search(self, request: SearchRequest) -> Answer:
        """Encode the query if need be, and search for it. Raises `UsageError` for more hits than the limit."""
        started = time.perf_counter()
        self.check_k(request.k)
        self.check_grade(request.minimum_grade)
        # Of a fixed size: the filters of a request may hold long lists.
        key = hashlib.sha256(request.model_dump_json().encode()).digest()
        hits = self._hits.get(key)
        self.metrics.cached("answer", hits is not None)
        if hits is None:
            hits = await self.find(request)
            if request.explain:
                hits = await self.explained(request.query, hits)
            self._hits.put(key, hits)
        self.metrics.found(len(hits))
        return Answer(query=request.query, mode=request.mode, hits=hits, **self.reply(started))

    async def classify(self, request: ClassifyRequest) -> Classification:
        """Classify the query. Raises `NotServed` without a classifier, `UsageError` for a task that it has not."""
        started = time.perf_counter()
        classifier = self.bundle.need_classifier()
        tasks = list(classifier.by_task) if request.task is None else [request.task]
        found = {task: await self.labels(request.query, task, request.k, request.minimum) for task in tasks}
        return Classification(query=request.query, tasks=found, **self.reply(started))

    async def relevance(self, request: RelevanceRequest) -> Relevances:
        """Score pairs. Raises `NotServed` without a scorer."""
        started = time.perf_counter()
        scorer = self.bundle.need_scorer()
        ids = [pair.product_id for pair in request.products]
        found = iter(scorer.texts.find([product_id for product_id in ids if product_id is not None]))
        texts = [pair.text if pair.product_id is None else next(found) for pair in request.products]
        probabilities = await self.score(request.query, ids, texts)
        products = [
            Relevance(product_id=product_id, probability=probability, relevant=scorer.is_relevant(probability))
            for product_id, probability in zip(ids, probabilities, strict=True)
        ]
        unknown = [str(pair.product_id) for pair in products if pair.probability is None]
        return Relevances(query=request.query, products=products, unknown=unknown, **self.reply(started))

    async def recommend(self, request: RecommendRequest) -> Recommendations:
        """Recommend items. Raises `NotServed` without a table, `UsageError` for an unknown category or a large k."""
        started = time.perf_counter()
        self.check_k(request.k)
        self.bundle.need_items()
        with self.metrics.stage("recommend"):
            items, unknown = await self.run(self._recommended, request)
        return Recommendations(items=items, unknown=unknown, **self.reply(started))

    async def find(self, request: SearchRequest) -> list[Hit]:
        """Return the hits of `request`, best first, without explanations."""
        vector = None
        if needs_vector(request.mode, request.minimum_grade):
            vector = await self._vector(self.bundle.versions.encoder, request.query)
        found = await self._searches((request, vector))
        if isinstance(found, Exception):
            raise found
        self.searched_at = time.monotonic()
        return [Hit.model_validate(hit, from_attributes=True) for hit in found]

    async def labels(self, query: str, task: str, k: int, minimum: float | None = None) -> list[Label]:
        """Return up to `k` labels of a task, the most probable first, as `LoadedClassifier.classify` does."""
        classifier = self.bundle.need_classifier()
        classifier.thresholds(task)  # refuses an unknown task before the query is encoded
        vector = await self._vector(str(self.bundle.versions.classifier), query_text(query))
        [best] = classifier.best_labels(classifier.probabilities_of(vector[None, :], task), task, k, minimum)
        return [Label(label=label, probability=probability, path=path) for label, probability, path in best]

    async def score(self, query: str, ids: Sequence[str | None], texts: Sequence[str | None]) -> list[float | None]:
        """Return the scorer's probability of each product by its id and its text; None where it has no text."""
        pairs = [(query, text, product_id) for product_id, text in zip(ids, texts, strict=True) if text is not None]
        with self.metrics.stage("score"):
            scores = iter(await self._models.score(str(self.bundle.versions.scorer), pairs) if pairs else [])
        return [None if text is None else next(scores) for text in texts]

    async def probe(self) -> None:
        """Answer a request of each kind that the bundle serves, without the caches. Raises what fails."""
        versions, bundle = self.bundle.versions, self.bundle
        vectors = {reference: await encode(PROBE) for reference, encode in self._encoders.items()}
        for reference, vector in vectors.items():
            if not np.isclose(np.linalg.norm(vector), 1.0, atol=1e-2):
                raise RaylevanceError(f"{reference}: its vectors do not have length 1")
        hits = await self._searches((SearchRequest(query=PROBE, k=1), vectors[versions.encoder]))
        if isinstance(hits, Exception):
            raise hits
        if len(bundle.products.index) and not hits:
            raise RaylevanceError(f"{versions.index}: a search finds no product")
        if bundle.classifier and versions.classifier:
            for task in bundle.classifier.by_task:
                bundle.classifier.probabilities_of(vectors[versions.classifier][None, :], task)
        if bundle.scorer:
            await self.score(PROBE, [None], ["a product"])
        if bundle.items and len(bundle.items.table):
            [item] = bundle.items.product_ids(np.zeros(1, np.int64)).to_pylist()
            await self.recommend(RecommendRequest(triggers=[Trigger(product_id=item)], k=1))

    def reply(self, started: float) -> dict[str, Any]:
        """Return what every answer has, for one that was begun at `started` of `time.perf_counter`."""
        took_ms = round(1000 * (time.perf_counter() - started), 1)
        return {"query_id": new_id(), "took_ms": took_ms, "versions": self.bundle.versions}

    def check_k(self, k: int) -> None:
        """Raise `UsageError` for more hits than the server's limit."""
        if k > self.settings.max_k:
            raise UsageError(f"k: at most {self.settings.max_k} hits, got {k}")

    def check_grade(self, minimum: int) -> None:
        """Raise `UsageError` for a minimum grade where the index has no grade bands."""
        if minimum and self.bundle.products.index.bands is None:
            raise UsageError(
                "minimum_grade needs grade bands, and this index has none: its tables had no judgements of two grades "
                "for its encoder; add some, and build it again"
            )

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call `function` on the thread for everything but searches."""
        return await asyncio.get_running_loop().run_in_executor(self._other_thread, function, *arguments)

    async def _vector(self, reference: str, query: str) -> Vectors:
        vector = self._vectors.get((reference, query))
        self.metrics.cached("vector", vector is not None)
        if vector is None:
            vector = (await self._encoders[reference](query)).copy()  # of its own, not a row of the whole batch
            self._vectors.put((reference, query), vector)
        return vector

    async def explained(self, query: str, hits: list[H]) -> list[H]:
        """Return `hits` with the words that they share with the query and, with a scorer, their relevance."""
        ids = [hit.product_id for hit in hits]
        scores: list[float | None] = [None] * len(hits)
        if self.bundle.scorer:
            scores = await self.score(query, ids, self.bundle.scorer.texts.find(ids))
        texts = [" ".join([hit.title, hit.brand or "", *(hit.category or [])]) for hit in hits]
        words = await self.run(words_found, query, texts)
        excluded = await self.run(excluded_words_found, query, [hit.title for hit in hits])
        return [
            hit.model_copy(update={"explanation": Explanation(words=found, excluded=unwanted, relevance=score)})
            for hit, found, unwanted, score in zip(hits, words, excluded, scores, strict=True)
        ]

    def _recommended(self, request: RecommendRequest) -> tuple[list[RecommendedItem], list[str]]:
        """Return the items of a request, and its triggers that the table does not have."""
        recommender = self.bundle.need_items()
        category = LEVELS.join(request.category) if request.category else None
        if recommender.unknown_categories([category]):
            raise UsageError(f"category: no item is in {category!r} or below it")
        triggers = [trigger.product_id for trigger in request.triggers]
        rows = recommender.lookup(pa.array(triggers))
        weights = np.array([trigger.weight for trigger in request.triggers])
        lists = TriggerLists.of([(rows[rows >= 0].tolist(), weights[rows >= 0].tolist())])
        found = recommender.recommend(
            lists,
            request.k,
            [category],
            self._allowed(request.exclude),
            request.most_per_category,
        )
        known = found.items[0] >= 0
        ids = recommender.product_ids(found.items[0][known]).to_pylist()
        brought = recommender.product_ids(found.triggers[0][known]).to_pylist()
        scores = found.scores[0][known].tolist()
        items = [
            RecommendedItem(product_id=product_id, score=score, trigger=trigger, **shown)
            for product_id, score, trigger, shown in zip(ids, scores, brought, self.bundle.shown(ids), strict=True)
        ]
        return items, [trigger for trigger, row in zip(triggers, rows, strict=True) if row < 0]

    def _allowed(self, excluded: Sequence[str]) -> Any:
        """Return which items of the table may be recommended, bool [items]; None for all."""
        if not excluded:
            return None
        recommender = self.bundle.need_items()
        allowed = np.ones(len(recommender.table), np.bool_)
        rows = recommender.lookup(pa.array(excluded))
        allowed[rows[rows >= 0]] = False
        return allowed


async def encode_rows(models: Models, metrics: Metrics, reference: str, queries: list[str]) -> list[Vectors]:
    """Return the vector of each of `queries` by the encoder of `reference`."""
    with metrics.stage("encode"):
        return list(await models.encode(reference, queries))


async def search_all(
    bundle: Bundle, thread: ThreadPoolExecutor, metrics: Metrics, searches: list[Search]
) -> list[list[ProductHit] | Exception]:
    """Return the hits of each search, or what it raised, so that one that can't be answered fails alone."""
    with metrics.stage("search"):
        return await asyncio.get_running_loop().run_in_executor(thread, search_alike, bundle.products, searches)


def search_alike(products: ProductSearch, searches: list[Search]) -> list[list[ProductHit] | Exception]:
    """Search together for the queries of requests that are alike in all else."""
    alike: dict[str, list[int]] = {}
    for place, (request, _) in enumerate(searches):
        alike.setdefault(request.model_dump_json(exclude={"query", "explain"}), []).append(place)
    found: list[list[ProductHit] | Exception] = [[] for _ in searches]
    answers: Sequence[list[ProductHit] | Exception] = []
    for places in alike.values():
        if answers and isinstance(answers[0], Unavailable):  # all need the same shards; each would wait as long again
            answers = [answers[0]] * len(places)
        else:
            answers = _found(products, [searches[place] for place in places])
        for place, answer in zip(places, answers, strict=True):
            found[place] = answer
    return found


def _found(products: ProductSearch, searches: list[Search]) -> Sequence[list[ProductHit] | Exception]:
    request, vector = searches[0]
    queries = [request.query for request, _ in searches]
    vectors = None if vector is None else np.stack([vector for _, vector in searches if vector is not None])
    try:
        return products.search_all(queries, vectors, request.k, request.mode, request.filters, request.minimum_grade)
    except Unavailable as error:
        return [error] * len(searches)
    except Exception as error:
        return [error] if len(searches) == 1 else [_found(products, [search])[0] for search in searches]
