"""Rank the whole catalogue for every query by each system under comparison, as a run of its 100 best products.

Where the catalogue has several locales, a query ranks the products of its own locale.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.artifacts import Store
from raylevance.data.groups import Allowed, Ints
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.text import baseline_text, field_texts
from raylevance.evaluation.intervals import bootstrap_means
from raylevance.evaluation.ranking_metrics import RankedRun, evaluate_run
from raylevance.index.fusion import FusionSettings, Ranking
from raylevance.index.grades import GradeBands
from raylevance.index.group_search import search_groups
from raylevance.index.hybrid_search import search_hybrid
from raylevance.index.lexical import LexicalIndex
from raylevance.index.lexical_fields import LexicalSettings
from raylevance.index.sharded_search import search_shards
from raylevance.index.shards import LexicalSearch, VectorSearch
from raylevance.index.vectors import IndexSettings, VectorIndex
from raylevance.inference.embeddings import embed_products
from raylevance.inference.encoder import NamedEncoder
from raylevance.models.encoder import Vectors

DEPTH = 100
REPORTED = ("ndcg@10", "ndcg@10_official", "recall@100")
"""The metrics in tables for the terminal; JSON and HTML have all metrics of `evaluate_run`."""


def rank_baselines(judged: JudgedTables, seed: int) -> dict[str, RankedRun]:
    """Rank by chance, and by BM25 on title, brand and colour."""
    texts = baseline_text(judged.products)
    return {
        "random": as_run(judged, *rank(judged, partial(_by_chance, seed, len(texts)))),
        "bm25": as_run(judged, *rank_lexical(judged, texts)),
    }


def rank_by_encoder(judged: JudgedTables, encoder: NamedEncoder) -> RankedRun:
    """Rank by the cosines of the encoder's vectors."""
    products = VectorIndex.build(encoder.encode_products(judged.products), IndexSettings(kind="exact"))
    queries = encoder.encode_queries(judged.queries["query"].to_pylist())
    return as_run(judged, *rank_dense(judged, queries, products))


def rank_hybrid(judged: JudgedTables, encoder: NamedEncoder, vectors: Vectors | None = None) -> dict[str, RankedRun]:
    """Rank by the encoder (dense), and by the encoder and BM25F, fused as a search fuses them (hybrid).

    `vectors` are those of the products, where they are known already.
    """
    queries = judged.queries["query"].to_pylist()
    if vectors is None:
        vectors = encoder.encode_products(judged.products)
    index = VectorIndex.build(vectors, IndexSettings(kind="exact"))
    lexical = LexicalIndex.build_fields(field_texts(judged.products), LexicalSettings())
    query_vectors = encoder.encode_queries(queries)
    dense = rank_dense(judged, query_vectors, index)
    hybrid = rank_fused(judged, index, lexical, query_vectors, FusionSettings())
    return {"dense": as_run(judged, *dense), "hybrid": as_run(judged, *hybrid)}


def rank_fused(
    judged: JudgedTables,
    vectors: VectorSearch,
    lexical: LexicalSearch,
    queries: Vectors,
    fusion: FusionSettings,
    bands: GradeBands | None = None,
) -> Ranking:
    """Return the `DEPTH` best products by a hybrid search, [m, DEPTH], of each query of `judged`.

    `queries` [m, d] are the vectors of these queries. The method graded needs `bands`.
    """
    texts = judged.queries["query"].to_pylist()

    def search(places: Ints, allowed: Allowed | None) -> Ranking:
        asked = [texts[place] for place in places]
        return search_hybrid(
            vectors,
            lexical,
            asked,
            queries[places],
            DEPTH,
            fusion,
            products=judged.products,
            allowed=allowed,
            bands=bands,
        ).fused

    return rank(judged, search)


def rank_dense(judged: JudgedTables, queries: Vectors, products: VectorSearch) -> Ranking:
    """Return the `DEPTH` nearest products, [m, DEPTH], of each query, given the query vectors `queries` [m, d]."""
    return rank(judged, lambda places, allowed: products.search(queries[places], DEPTH, allowed))


def rank_by_shards(
    store: Store,
    judged: JudgedTables,
    products: Path,
    encoder: NamedEncoder,
    depth: int,
    index: IndexSettings,
    rows_per_shard: int,
) -> Ranking:
    """Return the `depth` nearest products, [m, depth], of each query, with the vectors of `rows_per_shard` in memory.

    `products` is the folder of the whole table. Its vectors are kept in the store.
    """
    shards = embed_products(store, encoder, products, rows_per_shard)
    queries = encoder.encode_queries(judged.queries["query"].to_pylist())
    return search_shards(shards, queries, depth, index, judged.locale_groups())


def rank_lexical(judged: JudgedTables, texts: Sequence[str]) -> Ranking:
    """Return the `DEPTH` best products by BM25, [m, DEPTH], of each query, over the `texts` of the products."""
    index, queries = LexicalIndex.build(texts), judged.queries["query"].to_pylist()
    return rank(judged, lambda places, allowed: index.search([queries[place] for place in places], DEPTH, allowed))


def rank(judged: JudgedTables, search: Callable[[Ints, Allowed | None], Ranking]) -> Ranking:
    """Run `search` for the queries of each locale among its products, or once where there is one locale."""
    groups = judged.locale_groups()
    if groups is None:
        return search(np.arange(judged.queries.num_rows), None)
    return search_groups(groups, search)


def _by_chance(seed: int, products: int, places: Ints, allowed: Allowed | None) -> Ranking:
    """Draw `DEPTH` rows for each query: scores of all rows would take catalogue size times queries of memory."""
    among = np.arange(products) if allowed is None else np.flatnonzero(allowed)
    count = min(DEPTH, len(among))
    rows = np.full((len(places), DEPTH), -1, np.int64)
    for row, place in zip(rows, places, strict=True):
        row[:count] = among[np.random.default_rng([seed, int(place)]).choice(len(among), count, replace=False)]
    points = np.linspace(1, 0, DEPTH, endpoint=False, dtype=np.float32)
    return np.where(rows < 0, -np.inf, points).astype(np.float32), rows


def as_run(judged: JudgedTables, scores: Any, rows: Any) -> RankedRun:
    """Return scores and rows [queries, k] as a run: product ids with scores by query. A row of -1 is left out."""
    products = judged.products["product_id"].to_pylist()
    return {
        query: {products[row]: float(score) for score, row in zip(found, places, strict=True) if row >= 0}
        for query, found, places in zip(_ids(judged), scores, rows, strict=True)
    }


def choose(values: npt.NDArray[np.float64], queries: npt.NDArray[np.bool_] | slice = slice(None)) -> int:
    """Return the row of `values` [systems, m], nDCG@10 of each query, to take by its mean over `queries`.

    The first, which is the default, is kept unless the best is above it by more than the standard error of their paired
    difference (one-standard-error rule; Breiman et al. 1984): a few dozen queries do not tell near systems apart.
    """
    kept = values[:, queries]
    best = int(np.argmax(kept.mean(axis=1).round(9)))
    above = kept[best] - kept[0]
    error = above.std(ddof=1) / np.sqrt(len(above)) if len(above) > 1 else 0.0
    return best if above.mean() > error else 0


def summarise(runs: Mapping[str, RankedRun], judgements: pa.Table, seed: int = 0) -> dict[str, Any]:
    """Return the mean of each metric of `evaluate_run` by system, and under `ci95` its 95% interval over queries."""
    summary: dict[str, Any] = {}
    for system, run in runs.items():
        estimates = bootstrap_means(evaluate_run(run, judgements), seed)
        summary[system] = {metric: estimate.mean for metric, estimate in estimates.items()}
        summary[system]["ci95"] = {metric: [estimate.low, estimate.high] for metric, estimate in estimates.items()}
    return summary


def _ids(judged: JudgedTables) -> list[str]:
    ids: list[str] = judged.queries["query_id"].to_pylist()
    return ids
