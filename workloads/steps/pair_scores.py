"""Score judged pairs by every kind of scorer: an encoder, a relevance model and its parts, BM25."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from raylevance.artifacts import Artifact
from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.text import baseline_text
from raylevance.evaluation.pair_metrics import best_threshold
from raylevance.index.lexical import LexicalIndex
from raylevance.inference.encoder import NamedEncoder
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.encoding import pair_cosines
from raylevance.inference.scorer import Scorer, gather_evidence
from raylevance.models.hybrid import Hybrid, HybridParts
from raylevance.models.relevance import RelevanceModel
from workloads.run import Run
from workloads.steps.relevance_pairs import LabelledPairs

Scores = npt.NDArray[np.floating[Any]]

QUERIES_AT_ONCE = 64

TASKS = {"grade 2 against 0": (2, (2, 0)), "grades 2 and 1 against 0": (1, (2, 1, 0))}
"""The lowest grade that counts as relevant, and the grades of the pairs that the task includes."""
PARTS: dict[str, HybridParts] = {"head alone": "fine_tuned", "transfer alone": "transfer", "hybrid": "hybrid"}


def by_task(pairs: GradedPairs) -> Iterator[tuple[str, npt.NDArray[np.intp], npt.NDArray[np.int8], list[str]]]:
    """Yield the name of each of `TASKS`, the rows of `pairs` that it includes, and their labels and query ids."""
    grades = np.asarray(pairs.grades)
    for task, (relevant, taken) in TASKS.items():
        kept = np.flatnonzero(np.isin(grades, taken))
        yield task, kept, (grades[kept] >= relevant).astype(np.int8), [pairs.query_ids[row] for row in kept]


def thresholds(scores: Scores, pairs: GradedPairs) -> dict[str, float]:
    """Return the threshold with the best F1 of each of `TASKS` on `pairs`, those of validation queries."""
    return {task: best_threshold(scores[kept], labels) for task, kept, labels, _ in by_task(pairs)}


def scores_of(run: Run, artifact: Artifact, pairs: GradedPairs) -> Scores:
    """Return the score of each pair by the cosine of an encoder, or by the relevance model of a baseline."""
    if artifact.name.startswith("encoder/"):
        return cosines(load_encoder(run.store, artifact.ref), pairs)
    return RelevanceModel.load(run.store.path(artifact.ref) / "model").score(pairs.queries, pairs.texts)


def scorer_parts(scorer: Scorer, pairs: GradedPairs, validation: LabelledPairs) -> dict[str, Scores]:
    """Return the scores of each part of a scorer and of the whole, each calibrated on the validation pairs."""
    fitted_on, evidence = (
        gather_evidence(scorer.model, scorer.products, part.queries, part.texts, part.product_ids)
        for part in (validation, pairs)
    )
    return {name: Hybrid.fit(fitted_on, validation.labels, parts)(evidence) for name, parts in PARTS.items()}


def cosines(encoder: NamedEncoder, pairs: GradedPairs) -> Scores:
    """Return the cosine of each pair by the encoder, float32 [n]."""
    return pair_cosines(encoder.path, pairs.queries, pairs.texts)


def lexical_scores(judged: JudgedTables, pairs: GradedPairs) -> Scores:
    """Return BM25 of each pair over title, brand and colour of the whole catalogue; 0 where they share no word.

    Memory is bounded by the scores of `QUERIES_AT_ONCE` queries for all products.
    """
    index = LexicalIndex.build(baseline_text(judged.products))
    row_of = dict(zip(judged.products["product_id"].to_pylist(), range(len(index)), strict=True))
    pairs_of = defaultdict[str, list[int]](list)
    for place, query in enumerate(pairs.queries):
        pairs_of[query].append(place)
    scores = np.zeros(len(pairs.queries))
    distinct = list(pairs_of)
    for start in range(0, len(distinct), QUERIES_AT_ONCE):
        queries = distinct[start : start + QUERIES_AT_ONCE]
        for query, values, rows in zip(queries, *index.search(queries, len(index)), strict=True):
            of_products = np.zeros(len(index))
            of_products[rows[rows >= 0]] = values[rows >= 0]
            scores[pairs_of[query]] = of_products[[row_of[pairs.product_ids[place]] for place in pairs_of[query]]]
    return scores


def plain_texts(judged: JudgedTables, pairs: GradedPairs) -> list[str]:
    """Return title, brand and colour of the product of each pair."""
    texts = dict(zip(judged.products["product_id"].to_pylist(), baseline_text(judged.products), strict=True))
    return [texts[product] for product in pairs.product_ids]
