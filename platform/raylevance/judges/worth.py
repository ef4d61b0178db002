"""The worth of a judge: how much better the best results of a search are ranked with its grades than without them.

Agreement over all judged pairs says little about the pairs that mining asks about: telling a lamp from a hose is easy,
telling two lamps apart is not. The measure is our choice.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.evaluation.intervals import bootstrap_mean, paired_difference
from raylevance.evaluation.ranking_metrics import RankedRun, evaluate_run
from raylevance.judges.grade_decisions import tempered

Floats = npt.NDArray[np.float64]

BEST = 20
"""The number of best results of a search that a judge ranks again."""
SHARE = 0.5
"""The weight of the judge's grade beside the score of the search; each is scaled to 0..1 over the results of a query.
Equal weights need no tuning."""
METRIC = "ndcg@10"
RELEVANT = 2


def expected_grades(log_probabilities: npt.NDArray[Any], temperature: float = 1.0) -> Floats:
    """Return the expected grade of log-probabilities [n, 3] of the grades 0, 1, 2, float64 [n]; NaN stays NaN."""
    expected: Floats = tempered(log_probabilities, temperature) @ np.arange(3)
    return expected


def best_results(run: RankedRun) -> dict[str, dict[str, float]]:
    """Return the `BEST` products of each query with their scores, the first in the run among equals."""
    return {query: dict(sorted(found.items(), key=lambda item: -item[1])[:BEST]) for query, found in run.items()}


def rank_again(run: RankedRun, grades: Mapping[str, Mapping[str, float]], share: float = SHARE) -> RankedRun:
    """Return `run` with scores of `share` parts the expected grade and 1 - `share` parts its own.

    Both are scaled to 0..1 over the products of the query. A product without a grade counts as the mean of the query's.
    """
    again: dict[str, dict[str, float]] = {}
    for query, found in run.items():
        graded = np.array([grades.get(query, {}).get(product, np.nan) for product in found])
        known = graded[~np.isnan(graded)]
        graded = np.where(np.isnan(graded), known.mean() if len(known) else 0.0, graded)
        mixed = share * _scaled(graded) + (1 - share) * _scaled(np.array(list(found.values()), np.float64))
        again[query] = dict(zip(found, mixed.tolist(), strict=True))
    return again


def measure_worth(
    run: RankedRun, grades: Mapping[str, Mapping[str, float]], judgements: pa.Table, seed: int = 0
) -> dict[str, Any]:
    """Measure what a judge adds to the best results of a search.

    `run` holds the results by query, best `BEST` of each (`best_results`), `grades` the judge's expected grade of
    these pairs, and `judgements` the human ones (query_id, product_id, label, grade); a pair without a judgement counts
    as irrelevant in nDCG and is left out of the AUC.

    Returns `queries`, `pairs`, the metric `before` and `after`, their paired difference `gain` [mean, low, high], and
    `auc`: how often the judge grades a relevant result higher than another of the same query, mean over the queries
    that have both; None where no query has. Intervals are 95% bootstrap intervals over queries.
    """
    judgements = judgements.filter(pa.array([query in run for query in judgements["query_id"].to_pylist()], pa.bool_()))
    before = evaluate_run(run, judgements, [METRIC])[METRIC]
    after = evaluate_run(rank_again(run, grades), judgements, [METRIC])[METRIC]
    rows = zip(*(judgements[name].to_pylist() for name in ("query_id", "product_id", "grade")), strict=True)
    human = {(query, product): grade for query, product, grade in rows}
    areas = [area for query, found in grades.items() if (area := _area(query, found, human)) is not None]
    return {
        "queries": len(before),
        "pairs": sum(map(len, run.values())),
        "before": float(before.mean()),
        "after": float(after.mean()),
        "gain": list(paired_difference(after, before, seed)),
        "auc": bootstrap_mean(np.array(areas), seed).mean if areas else None,
    }


def _area(query: str, graded: Mapping[str, float], human: Mapping[tuple[str, str], int]) -> float | None:
    """Return the area under the ROC curve of the judge's grades of a query's judged results."""
    pairs = [(value, human[query, product]) for product, value in graded.items() if (query, product) in human]
    high = np.array([value for value, grade in pairs if grade >= RELEVANT])
    low = np.array([value for value, grade in pairs if grade < RELEVANT])
    if not len(high) or not len(low):
        return None
    return float((high[:, None] > low).mean() + (high[:, None] == low).mean() / 2)


def _scaled(values: Floats) -> Floats:
    spread = np.ptp(values) if len(values) else 0.0
    return (values - values.min()) / spread if spread > 0 else np.zeros(len(values))


def why_worthless(worth: Mapping[str, Any], minimum_gain: float, *, certain: bool) -> str | None:
    """Return why a judge adds too little, in one line; None where its gain is above `minimum_gain`.

    With `certain`, the lower end of the interval of the gain must be: so for labels to be trained on, because wrong
    labels cost more than missing ones.
    """
    mean, low, high = worth["gain"]
    if (low if certain else mean) > minimum_gain:
        return None
    return (
        f"ranking the {BEST} best results of {worth['queries']} queries again by its grades changes nDCG@10 by "
        f"{mean:+.3f} [{low:.3f}, {high:.3f}], and the "
        f"{'interval' if certain else 'gain'} must be above {minimum_gain:g}"
    )
