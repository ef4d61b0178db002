"""A search page in one call: the query's categories, and products ranked by all parts that the bundle has.

The candidates are the best hits of a hybrid search, after the cut at the grade that is asked for. Their score is

    score(d) = h(d) + w_c P(c_d | q) + w_t t(d) + w_r r(q, d)

- h(d): the score of the hybrid search, from 0 for the last candidate to 1 for the first;
- P(c_d | q): the classifier's probability of the product's category, or of the deepest label above it;
- t(d): the score of the product in the lists of the user's triggers, from 0 to 1; 0 where no list has it;
- r(q, d): the scorer's probability of relevance, of the `judged` best candidates by the other parts.

A part that the bundle does not have counts 0. Our choice; the weights are settings.
"""

import asyncio
import time

from raylevance.client.messages import (
    Hit,
    Label,
    Page,
    PageHit,
    QueryRequest,
    RecommendedItem,
    RecommendRequest,
    SearchRequest,
)
from serve.answers import LEVELS, Answers
from serve.settings import PageSettings

TASK = "category"
SHOWN = 3
"""The most categories of a query that a page names."""
PRIOR = 100
"""The most labels whose probability counts for the products below them."""


async def search_page(answers: Answers, request: QueryRequest) -> Page:
    """Answer `request` from the bundle of `answers`. Raises `UsageError` for more hits than the limit."""
    started = time.perf_counter()
    answers.check_k(request.k)
    answers.check_grade(request.minimum_grade)
    settings = answers.settings.page
    wide = SearchRequest(query=request.query, k=max(settings.candidates, request.k), filters=request.filters)
    hits, (shown, prior), (brought, unknown) = await asyncio.gather(
        answers.find(wide), _categories(answers, request.query), _brought(answers, request)
    )
    kept = [hit for hit in hits if not request.minimum_grade or (hit.grade or 0) >= request.minimum_grade]
    ranked = ranked_hits(kept, prior, brought, settings)
    if answers.bundle.scorer:
        ranked = await _with_relevance(answers, request.query, ranked, settings)
    ranked = ranked[: request.k]
    if request.explain:
        ranked = await answers.explained(request.query, ranked)
    answers.metrics.found(len(ranked))
    return Page(
        query=request.query,
        categories=shown,
        hits=ranked,
        cut=len(hits) - len(kept),
        unknown=unknown,
        **answers.reply(started),
    )


def ranked_hits(
    hits: list[Hit], prior: dict[str, float] | None, brought: dict[str, RecommendedItem], settings: PageSettings
) -> list[PageHit]:
    """Return `hits` by the formula of this module without its last part, best first; of equals, the first hit first.

    `prior` has the probability of each label of the classifier, None without one. `brought` has the items that the
    triggers recommend, by id.
    """
    base = _unit_range([hit.score for hit in hits])
    tables = _unit_range([item.score for item in brought.values()])
    recommended = dict(zip(brought, tables, strict=True))
    ranked = []
    for hit, score in zip(hits, base, strict=True):
        probability = None if prior is None else _deepest(prior, hit.category)
        score += settings.category_weight * (probability or 0.0)
        score += settings.trigger_weight * recommended.get(hit.product_id, 0.0)
        item = brought.get(hit.product_id)
        ranked.append(
            PageHit(
                **hit.model_dump(exclude={"score"}),
                score=score,
                category_probability=probability,
                trigger=item.trigger if item else None,
                relevance=None,
            )
        )
    return sorted(ranked, key=lambda hit: -hit.score)


async def _with_relevance(answers: Answers, query: str, ranked: list[PageHit], settings: PageSettings) -> list[PageHit]:
    """Add the scorer's part to the best hits, and sort these; the rest keep their places after them."""
    best, rest = ranked[: settings.judged], ranked[settings.judged :]
    ids = [hit.product_id for hit in best]
    scores = await answers.score(query, ids, answers.bundle.need_scorer().texts.find(ids))
    judged = [
        hit.model_copy(update={"relevance": score, "score": hit.score + settings.relevance_weight * (score or 0.0)})
        for hit, score in zip(best, scores, strict=True)
    ]
    return [*sorted(judged, key=lambda hit: -hit.score), *rest]


async def _categories(answers: Answers, query: str) -> tuple[list[Label], dict[str, float] | None]:
    """Return the labels to name, and the probability of every label that has one; none without a category task."""
    classifier = answers.bundle.classifier
    if classifier is None or TASK not in classifier.by_task:
        return [], None
    shown = await answers.labels(query, TASK, SHOWN)
    prior = await answers.labels(query, TASK, PRIOR, minimum=0.0)
    return shown, {label.label: label.probability for label in prior}


async def _brought(answers: Answers, request: QueryRequest) -> tuple[dict[str, RecommendedItem], list[str]]:
    """Return the items that the triggers recommend, by id, and the triggers that the table does not have.

    Without a table these are all triggers: a page should not fail for what only improves its order.
    """
    if answers.bundle.items is None:
        return {}, list(dict.fromkeys(trigger.product_id for trigger in request.triggers))
    if not request.triggers:
        return {}, []
    wanted = RecommendRequest(triggers=request.triggers, k=answers.settings.max_k)
    found = await answers.recommend(wanted)
    return {item.product_id: item for item in found.items}, found.unknown


def _deepest(prior: dict[str, float], category: list[str] | None) -> float:
    """Return the probability of the deepest label that is the category of a product or above it; 0 if none is."""
    for levels in range(len(category or []), 0, -1):
        probability = prior.get(LEVELS.join((category or [])[:levels]))
        if probability is not None:
            return probability
    return 0.0


def _unit_range(scores: list[float]) -> list[float]:
    """Scale scores to the range from 0 to 1; equal ones are 1."""
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return [(score - low) / (high - low) if high > low else 1.0 for score in scores]
