"""Exact search on FAISS's flat indexes, with an order among equals that does not depend on how rows are parted."""

from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from raylevance.index.ranking import Rows, Scores, by_score

WIDER = 4
"""How many times as many rows are looked at, as long as the last of them equals the one at the end of the best."""


def build_exact(vectors: npt.NDArray[np.float32]) -> Any:
    """A flat index of `vectors`, float32 [n, d]."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def search_exactly(
    store: Any, queries: npt.NDArray[np.float32], k: int, parameters: Any | None = None
) -> tuple[Scores, Rows]:
    """The `k` best rows of the flat index `store`, [m, k], the lower row first among equals; -inf and -1 beyond.

    FAISS keeps any of those that are equal at the end of the k best: where the next one equals the last, more are
    looked at, and the lower rows kept. Products with the same text have the same vector.
    """
    scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    left, width = np.arange(len(queries)), k + 1
    while len(left):
        found, places = by_score(*store.search(queries[left], width, params=parameters))
        scores[left], rows[left] = found[:, :k], places[:, :k]
        left = left[(places[:, -1] >= 0) & (found[:, -1] == found[:, k - 1])]
        width *= WIDER
    return scores, rows
