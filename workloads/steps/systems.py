"""Systems under comparison: each ranks the whole catalogue for every query, as a run of its 100 best products.

Where the catalogue has several locales, that is the part of it in the query's own.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from raylevance.data.groups import Allowed, Ints
from raylevance.data.judged import Judged
from raylevance.data.text import baseline_text, full_text
from raylevance.evaluation.intervals import bootstrap_mean
from raylevance.evaluation.ranking import Run, evaluate_run
from raylevance.index.fusion import FusionSettings, Ranking, fuse
from raylevance.index.group_search import search_groups
from raylevance.index.lexical import LexicalIndex
from raylevance.index.vectors import IndexSettings, VectorIndex
from raylevance.inference.encoding import NamedEncoder, Vectors, backbone_path, encode_texts

DEPTH = 100
REPORTED = ("ndcg@10", "ndcg@10_official", "recall@100")


def rank_baselines(judged: Judged, backbone: str | None, seed: int) -> dict[str, Run]:
    """random, bm25, and zero_shot: the untrained `backbone` on title, brand and colour; None: no zero_shot."""
    texts = baseline_text(judged.products)
    queries = judged.queries["query"].to_pylist()
    runs = {
        "random": as_run(judged, *rank(judged, partial(_by_chance, seed, len(texts)))),
        "bm25": as_run(judged, *rank_lexical(judged, texts)),
    }
    if backbone is not None:
        path = backbone_path(backbone)
        products = VectorIndex.build(encode_texts(path, texts, "item"), IndexSettings(kind="exact"))
        runs["zero_shot"] = as_run(judged, *rank_dense(judged, encode_texts(path, queries, "query"), products))
    return runs


def rank_hybrid(judged: Judged, encoder: NamedEncoder, vectors: Vectors | None = None) -> dict[str, Run]:
    """dense, and hybrid: BM25 and the encoder fused as a search fuses them. `vectors`: of the products, where known."""
    queries = judged.queries["query"].to_pylist()
    if vectors is None:
        vectors = encode_texts(encoder.path, encoder.item_texts(judged.products), "item")
    index = VectorIndex.build(vectors, IndexSettings(kind="exact"))
    dense = rank_dense(judged, encode_texts(encoder.path, queries, "query"), index)
    lexical = rank_lexical(judged, full_text(judged.products))
    hybrid = fuse(dense, lexical, DEPTH, FusionSettings())
    return {"dense": as_run(judged, *dense), "hybrid": as_run(judged, *hybrid)}


def rank_dense(judged: Judged, queries: Vectors, products: VectorIndex) -> Ranking:
    """The `DEPTH` nearest of `products`, [m, DEPTH], for each query, whose vectors are `queries` [m, d]."""
    return rank(judged, lambda places, allowed: products.search(queries[places], DEPTH, allowed))


def rank_lexical(judged: Judged, texts: Sequence[str]) -> Ranking:
    """The `DEPTH` best by BM25 for each query, [m, DEPTH], over the `texts` of the products."""
    index, queries = LexicalIndex.build(texts), judged.queries["query"].to_pylist()
    return rank(judged, lambda places, allowed: index.search([queries[place] for place in places], DEPTH, allowed))


def rank(judged: Judged, search: Callable[[Ints, Allowed | None], Ranking]) -> Ranking:
    """`search` for the queries of each locale among its products; for all at once where there is one locale."""
    groups = judged.groups()
    if groups is None:
        return search(np.arange(judged.queries.num_rows), None)
    return search_groups(groups, search)


def _by_chance(seed: int, products: int, places: Ints, allowed: Allowed | None) -> Ranking:
    """`DEPTH` rows drawn for each query: a score for every row would be as large as the catalogue times the queries."""
    among = np.arange(products) if allowed is None else np.flatnonzero(allowed)
    count = min(DEPTH, len(among))
    rows = np.full((len(places), DEPTH), -1, np.int64)
    for row, place in zip(rows, places, strict=True):
        row[:count] = among[np.random.default_rng([seed, int(place)]).choice(len(among), count, replace=False)]
    points = np.linspace(1, 0, DEPTH, endpoint=False, dtype=np.float32)
    return np.where(rows < 0, -np.inf, points).astype(np.float32), rows


def as_run(judged: Judged, scores: Any, rows: Any) -> Run:
    """Scores and rows [queries, k] as product ids by query; a row of -1 is none."""
    products = judged.products["product_id"].to_pylist()
    return {
        query: {products[row]: float(score) for score, row in zip(found, places, strict=True) if row >= 0}
        for query, found, places in zip(_ids(judged), scores, rows, strict=True)
    }


def summarise(runs: Mapping[str, Run], judgements: pa.Table, seed: int = 0) -> dict[str, Any]:
    """For each system the mean of each reported metric, and under `ci95` its interval over queries."""
    summary: dict[str, Any] = {}
    for system, run in runs.items():
        values = evaluate_run(run, judgements)
        estimates = {metric: bootstrap_mean(values[metric], seed) for metric in REPORTED}
        summary[system] = {metric: estimate.mean for metric, estimate in estimates.items()}
        summary[system]["ci95"] = {metric: [estimate.low, estimate.high] for metric, estimate in estimates.items()}
    return summary


def _ids(judged: Judged) -> list[str]:
    ids: list[str] = judged.queries["query_id"].to_pylist()
    return ids
