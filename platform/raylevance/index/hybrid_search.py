"""The hybrid search of an index: by vectors and by BM25, fused, and once more with the best products as feedback."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raylevance.index.fusion import FusionSettings, Ranking, fuse
from raylevance.index.grades import GradeBands
from raylevance.index.ranking import Rows
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
    depth: int | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
    bands: GradeBands | None = None,
) -> HybridRanking:
    """Search for the `k` best rows for each of m queries by vectors and by words together.

    `depth` rows are taken from each side, by default `settings.depth` or `k`, if that is more. With
    `settings.feedback`, the best products of this fusion move the query's vector towards them, as in `move_queries`,
    and the second search by vectors is fused with the same lexical ranking.

    `query_vectors` float32 [m, d] have unit norm. `allowed` bool [n] limits the search to some rows. The method graded
    needs `bands`. Returns rankings [m, k] and [m, depth].
    """
    depth = depth or max(k, settings.depth)
    by_words = lexical.search(query_texts, depth, allowed)
    by_vectors = vectors.search(query_vectors, depth, allowed)
    if settings.method == "standardised" and settings.feedback and settings.feedback_weight and settings.dense_weight:
        first = fuse(by_vectors, by_words, settings.feedback, settings)
        moved = move_queries(query_vectors, vectors, first[1], settings.feedback_weight)
        by_vectors = vectors.search(moved, depth, allowed)
    return HybridRanking(fuse(by_vectors, by_words, k, settings, bands), by_words)


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
