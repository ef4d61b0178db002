"""Bootstrap intervals of a mean over queries, and of the difference between two systems on the same queries."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

RESAMPLES = 5000
CONFIDENCE = 0.95
DRAWN_AT_ONCE = 4_000_000
"""How many resampled values are in memory at once: 64 MB together with their indices."""


class Estimate(NamedTuple):
    """A mean with the ends of its interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: Values, seed: int = 0) -> Estimate:
    """Return the mean of `values` [queries] with its 95% percentile interval over resampled queries."""
    return bootstrap_means({"mean": values}, seed)["mean"]


def bootstrap_means(values: Mapping[str, Values], seed: int = 0) -> dict[str, Estimate]:
    """Return `bootstrap_mean` of each of `values`, all [queries] in the same order, from one set of draws."""
    stacked = np.stack(list(values.values()))
    means, queries = stacked.mean(axis=1), stacked.shape[1]
    drawn_means = [times @ stacked.T / queries for times in resampled_counts(queries, RESAMPLES, seed)]
    tail = (1 - CONFIDENCE) / 2
    # Equal values have no spread; the rounding of their sums would give them one.
    spread = np.ptp(stacked, axis=1) > 0
    lows, highs = np.where(spread, np.quantile(np.concatenate(drawn_means), [tail, 1 - tail], axis=0), means)
    estimates = map(Estimate, means.tolist(), lows.tolist(), highs.tolist())
    return dict(zip(values, estimates, strict=True))


def resampled_counts(
    queries: int, resamples: int, seed: int = 0, width: int | None = None
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield how often each query is in each resample, [some resamples, queries], until there were `resamples`.

    A part has at most `DRAWN_AT_ONCE` values if a resample has `width` of them: the number of queries, unless more
    values than that are computed for each resample. The counts do not depend on it.
    """
    rng, batch = np.random.default_rng(seed), max(1, DRAWN_AT_ONCE // (width or queries))
    for start in range(0, resamples, batch):
        rows = min(batch, resamples - start)
        drawn = rng.integers(0, queries, (rows, queries)) + np.arange(rows)[:, None] * queries
        yield np.bincount(drawn.ravel(), minlength=rows * queries).reshape(rows, queries)


def paired_difference(values: Values, baseline: Values, seed: int = 0) -> Estimate:
    """Return the mean of `values` - `baseline`, both [queries] in the same order, with its 95% interval."""
    return bootstrap_mean(values - baseline, seed)
