"""The hybrid search of an index: by vectors and by BM25, fused, and once more with the best products as feedback.

Products whose title has words that the query excludes ("lamp without cord") are ranked lower.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.data.negation import excluded_stems, exclusions
from raylevance.index.fusion import FusionSettings, Ranking, fuse
from raylevance.index.grades import GradeBands
from raylevance.index.ranking import Rows, top_k
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
    titles: pa.ChunkedArray,
    depth: int | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
    bands: GradeBands | None = None,
) -> HybridRanking:
    """Search for the `k` best rows for each of m queries by vectors and by words together.

    `depth` rows are taken from each side, by default `settings.depth` or `k`, if that is more. With
    `settings.feedback`, the best products of this fusion move the query's vector towards them, as in `move_queries`,
    and the second search by vectors is fused with the same lexical ranking. With `settings.excluded_weight`, both
    fusions rank products lower whose title has what the query excludes, as `demote_excluded` does. The other methods of
    fusion read neither setting.

    `query_vectors` float32 [m, d] have unit norm. `titles` string [n] are those of all rows. `allowed` bool [n] limits
    the search to some rows. The method graded needs `bands`. Returns rankings [m, k] and [m, depth].
    """
    depth = depth or max(k, settings.depth)
    by_words = lexical.search(query_texts, depth, allowed)
    by_vectors = vectors.search(query_vectors, depth, allowed)
    if settings.method != "standardised":
        return HybridRanking(fuse(by_vectors, by_words, k, settings, bands), by_words)
    excluded = {}
    if settings.excluded_weight:
        excluded = {query: stems for query, text in enumerate(query_texts) if (stems := excluded_stems(text))}

    def fused(k: int) -> Ranking:
        if not excluded:
            return fuse(by_vectors, by_words, k, settings)
        candidates = fuse(by_vectors, by_words, max(k, 2 * depth), settings)
        return demote_excluded(candidates, excluded, titles, settings.excluded_weight, k)

    if settings.feedback and settings.feedback_weight and settings.dense_weight:
        moved = move_queries(query_vectors, vectors, fused(settings.feedback)[1], settings.feedback_weight)
        by_vectors = vectors.search(moved, depth, allowed)
    return HybridRanking(fused(k), by_words)


def demote_excluded(
    ranking: Ranking, excluded: Mapping[int, frozenset[str]], titles: pa.ChunkedArray, weight: float, k: int
) -> Ranking:
    """Return the `k` best rows of each query, with `weight` * `exclusions` taken from the scores of its rows.

    `ranking` has scores and rows [m, c], -1 for no row. `excluded` has the stems that a query excludes, by its place.
    `titles` string [n] are those of all rows; one that is null excludes nothing. Returns scores and rows [m, k], the
    lower row first among equals.
    """
    scores, rows = ranking[0][:, :k].copy(), ranking[1][:, :k].copy()
    for query, stems in excluded.items():
        present = ranking[1][query] >= 0
        found = ranking[1][query][present]
        shares = exclusions(stems, titles.take(pa.array(found)).fill_null("").to_pylist())
        changed = ranking[0][query][present] - np.float32(weight) * np.array(shares, np.float32)
        scores[query], rows[query] = top_k(changed, found, k)
    return scores, rows


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
