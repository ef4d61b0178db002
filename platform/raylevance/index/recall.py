"""Recall of an approximate index against exact search, and the search effort that reaches a target recall."""

import logging
from typing import Any

import numpy as np
import numpy.typing as npt

from raylevance.config import Settings
from raylevance.index.approximate import IndexKind, max_effort, search_parameters

logger = logging.getLogger(__name__)

SAMPLED_QUERIES = 200
DEPTH = 100
FIRST_EFFORT = {"exact": 1, "hnsw": 16, "ivfpq": 1}


class Tuning(Settings):
    """The search effort of an approximate index, and the recall that was measured with it."""

    effort: int
    """Effort of a search: nodes visited by HNSW, lists read by IVF-PQ."""
    recall: float
    """Share of the nearest rows that a search with this effort finds."""
    recall_target: float
    """Share that was asked for."""
    depth: int
    """Number of nearest rows that were compared for each query."""
    queries: int
    """Number of stored vectors that were used as queries."""
    warning: str | None = None
    """A message if the target was missed, else null."""


def tune_effort(index: Any, kind: IndexKind, flat: Any, target: float, seed: int) -> Tuning:
    """Double the search effort of `index` until its recall reaches `target` or it searches everything.

    Recall is measured against exact search in the flat index `flat`, with stored vectors drawn at random as queries. A
    row does not count as its own neighbour.
    """
    rows = np.random.default_rng(seed).permutation(index.ntotal)[:SAMPLED_QUERIES]
    depth = max(1, min(DEPTH, index.ntotal - 1))
    queries = flat.reconstruct_batch(rows)
    nearest = _without_own_row(flat.search(queries, depth + 1)[1], rows, depth)
    effort, limit = FIRST_EFFORT[kind], max_effort(index, kind)
    while True:
        parameters = search_parameters(kind, effort, depth + 1)
        found = _without_own_row(index.search(queries, depth + 1, params=parameters)[1], rows, depth)
        recall = mean_overlap(found, nearest)
        if recall >= target or effort >= limit:
            break
        effort = min(2 * effort, limit)
    warning = None
    if recall < target:
        warning = f"recall@{depth} of {recall:.3f} misses the target of {target:g} at the highest effort"
        logger.warning("%s index: %s", kind, warning)
    return Tuning(effort=effort, recall=recall, recall_target=target, depth=depth, queries=len(rows), warning=warning)


def mean_overlap(found: npt.NDArray[np.int64], expected: npt.NDArray[np.int64]) -> float:
    """Return the mean share of each row of `expected` [m, k] that is also in that row of `found` [m, k]."""
    shares = [np.isin(wanted, rows).mean() for wanted, rows in zip(expected, found, strict=True)]
    return float(np.mean(shares))


def _without_own_row(rows: npt.NDArray[np.int64], own: npt.NDArray[np.int64], depth: int) -> npt.NDArray[np.int64]:
    """Return the first `depth` of each of `rows` [m, depth + 1] that are not the query's `own` row [m]."""
    order = np.argsort(rows == own[:, None], axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1)[:, :depth]
