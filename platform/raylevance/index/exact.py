"""Exact search on FAISS's flat indexes. The order of equal scores does not depend on how rows are split into shards."""

from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from raylevance.index.ranking import Rows, Scores, sort_by_score

WIDENING_FACTOR = 4
"""How many times as many rows are fetched in each further round, while equal scores may have been cut off."""


def build_exact(vectors: npt.NDArray[np.float32]) -> Any:
    """Build a flat index of `vectors`, float32 [n, d]."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def search_exact(
    index: Any, queries: npt.NDArray[np.float32], k: int, parameters: Any | None = None
) -> tuple[Scores, Rows]:
    """Search the flat `index` for the `k` best rows of each of `queries`, float32 [m, d].

    Returns scores and rows, both [m, k], the lower row first among equals. If there are fewer than `k` rows, the rest
    is filled with -inf and -1.
    """
    # Of rows with equal scores at the end of the best k, such as products with the same text, FAISS returns any. So one
    # more is fetched, and if it equals the last, more again, to keep the lower rows.
    scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    unsettled, width = np.arange(len(queries)), k + 1
    while len(unsettled):
        wide_scores, wide_rows = sort_by_score(*index.search(queries[unsettled], width, params=parameters))
        scores[unsettled], rows[unsettled] = wide_scores[:, :k], wide_rows[:, :k]
        unsettled = unsettled[(wide_rows[:, -1] >= 0) & (wide_scores[:, -1] == wide_scores[:, k - 1])]
        width *= WIDENING_FACTOR
    return scores, rows
