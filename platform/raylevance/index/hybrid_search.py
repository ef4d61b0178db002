"""The hybrid search of an index: vectors and BM25, fused, searched again near the best products, and rescored."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.index.fusion import FusionSettings, Ranking, fuse
from raylevance.index.grades import GradeBands
from raylevance.index.ranking import Rows
from raylevance.index.rescoring import ExcludedWords, demote_excluded, promote_categories
from raylevance.index.shards import LexicalSearch, VectorSearch, vectors_of
from raylevance.index.vectors import Vectors


class HybridRanking(NamedTuple):
    """The fused ranking of a hybrid search, and the lexical ranking that is a part of it."""

    fused: Ranking
    lexical: Ranking


def search_hybrid(
    vectors: VectorSearch,
    lexical: LexicalSearch,
    query_texts: Sequence[str],
    query_vectors: Vectors,
    k: int,
    settings: FusionSettings,
    *,
    products: pa.Table,
    depth: int | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
    bands: GradeBands | None = None,
) -> HybridRanking:
    """Search for the `k` best rows for each of m queries by vectors and by words together.

    `depth` rows are taken from each side, by default `settings.depth` or `k`, if that is more. The method standardised
    goes on from there:

    1. `demote_excluded` ranks products lower whose title has what the query excludes (`settings.excluded_weight`).
    2. The best products move the query's vector towards them, as in `move_queries`, and the second search by vectors is
       fused with the same lexical ranking and 1. again (`settings.feedback`).
    3. `promote_categories` ranks products higher whose category is that of the best ones (`settings.category_weight`).

    `query_vectors` float32 [m, d] have unit norm. `products` has the columns title and category of all rows. `allowed`
    bool [n] limits the search to some rows. The method graded needs `bands`. Returns rankings [m, k] and [m, depth].
    """
    depth = depth or max(k, settings.depth)
    by_words = lexical.search(query_texts, depth, allowed)
    by_vectors = vectors.search(query_vectors, depth, allowed)
    if settings.method != "standardised":
        return HybridRanking(fuse(by_vectors, by_words, k, settings, bands), by_words)
    excluded = ExcludedWords(query_texts, products["title"])

    def fused() -> Ranking:
        candidates = fuse(by_vectors, by_words, max(k, 2 * depth), settings)
        return (
            demote_excluded(candidates, excluded, settings.excluded_weight) if settings.excluded_weight else candidates
        )

    if settings.feedback and settings.feedback_weight and settings.dense_weight:
        best = fused()[1][:, : settings.feedback]
        by_vectors = vectors.search(
            move_queries(query_vectors, vectors, best, settings.feedback_weight), depth, allowed
        )
    scores, rows = fused()
    if settings.category_weight:
        scores, rows = promote_categories((scores, rows), products["category"], settings.category_weight)
    return HybridRanking((scores[:, :k], rows[:, :k]), by_words)


def move_queries(query_vectors: Vectors, vectors: VectorSearch, best: Rows, weight: float) -> Vectors:
    """Return the unit vectors of `query` + `weight` * (mean of the vectors of its `best` rows), float32 [m, d].

    `best` is int64 [m, f], -1 for no row; a query without a row keeps its vector. Source: Rocchio 1971 (relevance
    feedback in information retrieval), with the best rows taken for relevant.
    """
    moved = query_vectors.astype(np.float64)
    for query, found in enumerate(vectors_of(vectors, best)):
        if len(found):
            moved[query] += weight * found.mean(axis=0)
    norms = np.linalg.norm(moved, axis=1, keepdims=True)
    # Opposite vectors could cancel out.
    return np.where(norms > 0, moved / np.where(norms > 0, norms, 1), query_vectors).astype(np.float32)
