"""Ranked rows: best score first, the lower row first among equals, -1 where there is none."""

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def by_score(scores: Scores, rows: Rows) -> tuple[Scores, Rows]:
    """Both [m, k], sorted; scores where `rows` is -1 become -inf and come last."""
    scores = np.where(rows < 0, -np.inf, scores).astype(np.float32)
    order = np.lexsort((rows, -scores), axis=1)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def best(scores: Scores, rows: Rows, k: int) -> tuple[Scores, Rows]:
    """The `k` best of one query's `scores` and `rows`, both [n], as [k]; -inf and -1 where there are fewer."""
    if len(rows) > k:
        cut = np.partition(scores, -k)[-k]
        kept = scores >= cut
        scores, rows = scores[kept], rows[kept]
    order = np.lexsort((rows, -scores))[:k]
    short = k - len(order)
    padded_scores = np.pad(scores[order].astype(np.float32), (0, short), constant_values=-np.inf)
    return padded_scores, np.pad(rows[order].astype(np.int64), (0, short), constant_values=-1)
