"""Fusion of a dense and a lexical ranking into one: by rank, by scaled or standardised scores, or by grade bands."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from raylevance.config import Settings
from raylevance.index.grades import GradeBands
from raylevance.index.ranking import Rows, Scores, top_k

Ranking = tuple[Scores, Rows]
"""Scores and rows, both [m, k], best first. A row is -1 if a query has no more rows."""


class FusionSettings(Settings):
    """How a dense and a lexical ranking are fused (docs/decisions/0018-hybrid.md).

    `raylevance tune hybrid` fits these settings to judged queries.
    """

    method: Literal["standardised", "weighted", "graded", "reciprocal_rank"] = "standardised"
    """standardised adds up the scores of each side in standard deviations from the mean of its best ones. weighted
    scales the scores of each side to 0..1 over its ranking of the query and adds them up. graded does the same, but
    scales the cosines by the grade bands, in the same way for all queries, so that BM25 decides if no product is a good
    match for a query. reciprocal_rank adds up reciprocal ranks."""
    constant: PositiveFloat = 60
    """Constant added to a rank. Used by reciprocal_rank only."""
    dense_weight: float = Field(default=0.5, ge=0, le=1)
    """Weight of the dense side, and 1 - dense_weight that of the lexical side. reciprocal_rank weighs them equally."""
    depth: PositiveInt = 100
    """Number of rows taken from each ranking, or the number of results asked for if that is larger."""
    standard_depth: PositiveInt = 30
    """Number of best scores of each side that give its mean and standard deviation. Used by standardised only."""
    feedback: NonNegativeInt = 3
    """Number of best products whose mean vector is added to the query's vector for a second search, whose results are
    fused anew; 0 searches once. Used by standardised only."""
    feedback_weight: NonNegativeFloat = 1
    """Weight of that mean vector beside the query's vector, which has the weight 1. Used by standardised only."""
    excluded_weight: NonNegativeFloat = 1.5
    """What the fused score of a product loses if its title has all words that a query excludes ("lamp without cord"),
    and gains if its title excludes them too ("cordless lamp"); for some of the words in proportion. Any query and title
    is read as English. Used by standardised only."""
    category_weight: NonNegativeFloat = 2
    """What the fused score of a product gains if its category is that of all of the best products; in proportion if its
    path agrees with theirs for some levels, or with some of them. Used by standardised only."""


def fuse(
    dense: Ranking, lexical: Ranking, k: int, settings: FusionSettings, bands: GradeBands | None = None
) -> Ranking:
    """Fuse two rankings by the method in `settings` and return the `k` best rows. The graded method needs `bands`."""
    weights = settings.dense_weight, 1 - settings.dense_weight
    if settings.method == "standardised":
        return fuse_standardised([dense, lexical], weights, k, settings.standard_depth)
    if settings.method == "weighted":
        return fuse_weighted([dense, lexical], weights, k)
    if settings.method == "graded":
        assert bands is not None
        return fuse_graded(dense, lexical, weights, bands, k)
    return fuse_reciprocal_rank([dense[1], lexical[1]], k, settings.constant)


def fuse_reciprocal_rank(rankings: Sequence[Rows], k: int, constant: float = 60) -> Ranking:
    """Fuse rankings by the score

        sum over rankings of 1 / (constant + rank)

    where ranks begin at 1 and a ranking that lacks a row adds nothing to it.

    `rankings` are int64 [m, k_i] each, best first, -1 for no row. Returns scores and rows [m, k], the lower row first
    among equals. Source: Cormack, Clarke and Büttcher 2009, whose constant is 60.
    """
    points = [np.broadcast_to(1 / (constant + 1 + np.arange(rows.shape[1])), rows.shape) for rows in rankings]
    return _sum_by_row(points, rankings, k)


def fuse_weighted(rankings: Sequence[Ranking], weights: Sequence[float], k: int) -> Ranking:
    """Fuse rankings by the score

        sum over rankings of weight * (score - min) / (max - min)

    with min and max of the ranking of the query. A ranking that lacks a row adds nothing to it, as for its last row. If
    all scores of a ranking are equal, each counts as 1.

    Returns scores and rows [m, k], the lower row first among equals. Source: Lee 1997 (min-max CombSUM).
    """
    points = [weight * _min_max(scores, rows >= 0) for weight, (scores, rows) in zip(weights, rankings, strict=True)]
    return _sum_by_row(points, [rows for _, rows in rankings], k)


def fuse_standardised(rankings: Sequence[Ranking], weights: Sequence[float], k: int, depth: int = 30) -> Ranking:
    """Fuse rankings by the score

        sum over rankings of weight * (score - last) / deviation

    with the standard deviation of the best `depth` scores of the ranking of the query. `last` is the lowest score of a
    full ranking, and 0 in one that has a place free, such as BM25 for a rare word. A row that a ranking lacks counts as
    `last`, also in the deviation, as far as another ranking has more rows. A ranking whose best scores are all equal
    adds nothing.

    Returns scores and rows [m, k], the lower row first among equals. Source: the z-scores of Wu, Crestani and Bi 2006
    (Evaluating score normalization methods in data fusion), whose mean is the same for all rows of a query and so left
    out. That few scores give the deviation is our choice.
    """
    longest = np.max([np.sum(rows >= 0, axis=1) for _, rows in rankings], axis=0)
    points = [
        weight * _deviations(scores, rows >= 0, np.minimum(longest, depth))
        for weight, (scores, rows) in zip(weights, rankings, strict=True)
    ]
    return _sum_by_row(points, [rows for _, rows in rankings], k)


def fuse_graded(dense: Ranking, lexical: Ranking, weights: tuple[float, float], bands: GradeBands, k: int) -> Ranking:
    """Fuse like `fuse_weighted`, but scale the cosines of the dense ranking by `bands` (our choice).

    A cosine counts 1/2 where grade 1 begins and 1 where grade 2 begins, and linearly between and beyond, down to 0. If
    both grades begin at the same cosine, the scale is as if grade 2 began 0.5 higher.
    """
    width = 2 * (bands.relevant - bands.moderately) or 1
    points = np.maximum(0.5 + (dense[0] - bands.moderately) / width, 0, dtype=np.float64)
    lexical_points = _min_max(lexical[0], lexical[1] >= 0)
    return _sum_by_row([weights[0] * points, weights[1] * lexical_points], [dense[1], lexical[1]], k)


def _min_max(scores: Scores, present: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Scale `scores` [m, k] to 0..1 for each query, over those that are `present`."""
    low = np.min(scores, axis=1, keepdims=True, where=present, initial=np.inf)
    high = np.max(scores, axis=1, keepdims=True, where=present, initial=-np.inf)
    spread = np.where(high > low, high - low, 1)
    return np.where(present, np.where(high > low, scores - low, 1) / spread, 0)


def _deviations(
    scores: Scores, present: npt.NDArray[np.bool_], depth: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return how many deviations of the best `depth` [m] scores each score [m, k] of a query is above the last one."""
    values = np.where(present, scores, 0).astype(np.float64)
    counted = np.arange(values.shape[1]) < depth[:, None]
    missing = np.maximum(depth - values.shape[1], 0)
    count = np.maximum(depth, 1)
    mean = np.sum(values, axis=1, where=counted) / count
    squares = np.sum((values - mean[:, None]) ** 2, axis=1, where=counted) + missing * mean**2
    deviation = np.sqrt(squares / count)[:, None]
    # Equal scores have no deviation; the rounding of their mean would give them one.
    differ = deviation > 1e-9 * np.maximum(np.abs(mean), 1)[:, None]
    above = values - np.min(values, axis=1, keepdims=True)
    return np.where(present & differ, above / np.where(differ, deviation, 1), 0)


def _sum_by_row(points: Sequence[npt.NDArray[np.float64]], rankings: Sequence[Rows], k: int) -> Ranking:
    """Return the `k` rows of each query with the most points over all rankings."""
    all_points, all_rows = np.concatenate(points, axis=1), np.concatenate(rankings, axis=1)
    fused = [_fuse_query(*query, k) for query in zip(all_points, all_rows, strict=True)]
    scores = np.array([scores for scores, _ in fused], np.float32).reshape(-1, k)
    return scores, np.array([rows for _, rows in fused], np.int64).reshape(-1, k)


def _fuse_query(points: npt.NDArray[np.float64], rows: Rows, k: int) -> Ranking:
    present = rows >= 0
    distinct, position = np.unique(rows[present], return_inverse=True)
    total = np.bincount(position, weights=points[present], minlength=len(distinct))
    return top_k(total.astype(np.float32), distinct, k)
