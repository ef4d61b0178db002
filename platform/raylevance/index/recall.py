"""Recall of an approximate index against exact search, and the search effort that reaches a target."""

import logging
from typing import Any

import numpy as np
import numpy.typing as npt

from raylevance.config import Settings
from raylevance.index.approximate import Kind, most_effort, search_parameters

logger = logging.getLogger(__name__)

SAMPLE = 200
DEPTH = 100
FIRST_EFFORT = {"exact": 1, "hnsw": 16, "ivfpq": 1}


class Tuning(Settings):
    """What was measured on `queries` sampled vectors: the share of the `depth` nearest rows that `effort` finds."""

    effort: int
    recall: float
    recall_target: float
    depth: int
    queries: int
    warning: str | None = None
    """Set where the target was missed."""


def tune(index: Any, kind: Kind, store: Any, target: float, seed: int) -> Tuning:
    """Double the effort until `target` is reached or there is no more to search.

    Measured against exact search in `store` on sampled vectors, a row never counting as its own neighbour.
    """
    rows = np.random.default_rng(seed).permutation(index.ntotal)[:SAMPLE]
    depth = max(1, min(DEPTH, index.ntotal - 1))
    queries = store.reconstruct_batch(rows)
    truth = _neighbours(store.search(queries, depth + 1)[1], rows, depth)
    effort, limit = FIRST_EFFORT[kind], most_effort(index, kind)
    while True:
        parameters = search_parameters(kind, effort, depth + 1)
        found = _neighbours(index.search(queries, depth + 1, params=parameters)[1], rows, depth)
        recall = mean_overlap(found, truth)
        if recall >= target or effort >= limit:
            break
        effort = min(2 * effort, limit)
    warning = None
    if recall < target:
        warning = f"recall@{depth} of {recall:.3f} misses the target of {target:g} at the highest effort"
        logger.warning("%s index: %s", kind, warning)
    return Tuning(effort=effort, recall=recall, recall_target=target, depth=depth, queries=len(rows), warning=warning)


def mean_overlap(found: npt.NDArray[np.int64], truth: npt.NDArray[np.int64]) -> float:
    """Mean share of each row of `truth` [m, k] that is in the same row of `found` [m, k]."""
    shares = [np.isin(expected, rows).mean() for expected, rows in zip(truth, found, strict=True)]
    return float(np.mean(shares))


def _neighbours(rows: npt.NDArray[np.int64], own: npt.NDArray[np.int64], depth: int) -> npt.NDArray[np.int64]:
    """The first `depth` of each `rows` [m, depth + 1] that are not the query's `own` [m]."""
    order = np.argsort(rows == own[:, None], axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1)[:, :depth]
