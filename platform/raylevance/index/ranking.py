"""Rankings as arrays of scores and rows: best score first, the lower row first among equals, -1 for no row."""

from typing import Literal

import numpy as np
import numpy.typing as npt

Mode = Literal["dense", "lexical", "hybrid"]
"""How a search finds products: by vectors, by BM25, or by both."""

MODES = ["dense", "lexical", "hybrid"]

Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def sort_by_score(scores: Scores, rows: Rows) -> tuple[Scores, Rows]:
    """Sort each ranking of `scores` and `rows`, both [m, k]. Entries with row -1 get the score -inf and come last."""
    scores = np.where(rows < 0, -np.inf, scores).astype(np.float32)
    order = np.lexsort((rows, -scores), axis=1)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def top_k(scores: Scores, rows: Rows, k: int) -> tuple[Scores, Rows]:
    """Return the `k` best of one query's `scores` and `rows`, both [n], as two arrays [k].

    If there are fewer than `k`, the rest is filled with -inf and -1.
    """
    if len(rows) > k:
        cut = np.partition(scores, -k)[-k]
        at_least_cut = scores >= cut
        scores, rows = scores[at_least_cut], rows[at_least_cut]
    order = np.lexsort((rows, -scores))[:k]
    missing = k - len(order)
    padded_scores = np.pad(scores[order].astype(np.float32), (0, missing), constant_values=-np.inf)
    return padded_scores, np.pad(rows[order].astype(np.int64), (0, missing), constant_values=-1)
