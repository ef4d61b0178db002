"""One ranking from several: by reciprocal rank, by weighted scores, or by scores on the scale of the grades' bands."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveFloat, PositiveInt

from raylevance.config import Settings
from raylevance.index.grades import GradeBands
from raylevance.index.ranking import Rows, Scores, best

Ranking = tuple[Scores, Rows]
"""Scores and rows, both [m, k], best first, -1 where a query has no more rows."""


class FusionSettings(Settings):
    """How dense and lexical rankings become one. Scores tell more than ranks, with equal weights and nothing tuned.

    weighted: each side's scores from 0 to 1 over its ranking of the query. graded: the same, but the dense side on the
    scale of the grades' bands, one for all queries, so that a query without a good product leaves the lead to BM25.
    """

    method: Literal["reciprocal_rank", "weighted", "graded"] = "weighted"
    constant: PositiveFloat = 60
    dense_weight: float = Field(default=0.5, ge=0, le=1)
    """Of the weighted and the graded method; the lexical weight is 1 minus it."""
    depth: PositiveInt = 100
    """Rows taken from each ranking, at least."""


def fuse(
    dense: Ranking, lexical: Ranking, k: int, settings: FusionSettings, bands: GradeBands | None = None
) -> Ranking:
    """The `k` best rows of both, as `settings` say; the graded method takes `bands`."""
    weights = settings.dense_weight, 1 - settings.dense_weight
    if settings.method == "weighted":
        return weighted([dense, lexical], weights, k)
    if settings.method == "graded":
        assert bands is not None
        return graded(dense, lexical, weights, bands, k)
    return reciprocal_rank([dense[1], lexical[1]], k, settings.constant)


def reciprocal_rank(rankings: Sequence[Rows], k: int, constant: float = 60) -> Ranking:
    """Scores `sum over rankings of 1 / (constant + rank)`, rank from 1; a row that a ranking lacks gets nothing of it.

    `rankings`: each int64 [m, k_i], best first, -1 for none. Returns scores and rows [m, k], the lower row first
    among equals. Source: Cormack, Clarke and Büttcher 2009, whose constant is 60.
    """
    points = [np.broadcast_to(1 / (constant + 1 + np.arange(rows.shape[1])), rows.shape) for rows in rankings]
    return _sum_by_row(points, rankings, k)


def weighted(rankings: Sequence[Ranking], weights: Sequence[float], k: int) -> Ranking:
    """Scores `sum over rankings of weight * (score - min) / (max - min)`, min and max of that query's ranking.

    A row that a ranking lacks gets nothing of it, as its last row does; a ranking of equal scores counts as 1.
    Returns scores and rows [m, k], the lower row first among equals. Source: Lee 1997 (min-max CombSUM).
    """
    points = [weight * _min_max(scores, rows >= 0) for weight, (scores, rows) in zip(weights, rankings, strict=True)]
    return _sum_by_row(points, [rows for _, rows in rankings], k)


def graded(dense: Ranking, lexical: Ranking, weights: tuple[float, float], bands: GradeBands, k: int) -> Ranking:
    """As `weighted`, but a cosine counts 1/2 where grade 1 begins and 1 where grade 2 does, in a line (our choice).

    It counts nothing from as far below grade 1 as grade 2 is above it; bands of no width are taken to be 1 apart.
    """
    width = 2 * (bands.relevant - bands.moderately) or 1
    points = np.maximum(0.5 + (dense[0] - bands.moderately) / width, 0, dtype=np.float64)
    lexical_points = _min_max(lexical[0], lexical[1] >= 0)
    return _sum_by_row([weights[0] * points, weights[1] * lexical_points], [dense[1], lexical[1]], k)


def _min_max(scores: Scores, present: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """`scores` [m, k] scaled to 0..1 for each query, over those `present`."""
    low = np.min(scores, axis=1, keepdims=True, where=present, initial=np.inf)
    high = np.max(scores, axis=1, keepdims=True, where=present, initial=-np.inf)
    spread = np.where(high > low, high - low, 1)
    return np.where(present, np.where(high > low, scores - low, 1) / spread, 0)


def _sum_by_row(points: Sequence[npt.NDArray[np.float64]], rankings: Sequence[Rows], k: int) -> Ranking:
    """The `k` rows of each query with the most points in all rankings together."""
    all_points, all_rows = np.concatenate(points, axis=1), np.concatenate(rankings, axis=1)
    fused = [_best_of_query(*query, k) for query in zip(all_points, all_rows, strict=True)]
    scores = np.array([scores for scores, _ in fused], np.float32).reshape(-1, k)
    return scores, np.array([rows for _, rows in fused], np.int64).reshape(-1, k)


def _best_of_query(points: npt.NDArray[np.float64], rows: Rows, k: int) -> Ranking:
    present = rows >= 0
    found, place = np.unique(rows[present], return_inverse=True)
    total = np.bincount(place, weights=points[present], minlength=len(found))
    return best(total.astype(np.float32), found, k)
