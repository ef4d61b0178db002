"""Changes of fused scores by what products say: words that a query excludes, and categories that agree."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.data.negation import excluded_stems, exclusions
from raylevance.index.fusion import Ranking
from raylevance.index.ranking import Rows, top_k

BEST_PRODUCTS = 10
"""How many best products of a query say which categories it means (our choice, docs/decisions/0018-hybrid.md)."""

Path = Sequence[str]
"""A category path, from the root."""


class ExcludedWords:
    """The words that the queries of a search exclude, and the `exclusions` of products, which are read once."""

    def __init__(self, queries: Sequence[str], titles: pa.ChunkedArray) -> None:
        """Read m queries. `titles` string [n] are those of all rows; one that is null says nothing."""
        self._titles = titles
        self.stems = {place: stems for place, query in enumerate(queries) if (stems := excluded_stems(query))}
        """The stems that a query excludes, by its place; a query that excludes none is left out."""
        self._shares: dict[int, dict[int, float]] = {place: {} for place in self.stems}

    def shares(self, place: int, rows: Rows) -> npt.NDArray[np.float64]:
        """Return the `exclusions` of `rows` [k] for the query at `place`, float64 [k]."""
        known = self._shares[place]
        new = [row for row in rows.tolist() if row not in known]
        titles = self._titles.take(pa.array(new, pa.int64())).fill_null("").to_pylist()
        known.update(zip(new, exclusions(self.stems[place], titles), strict=True))
        return np.array([known[row] for row in rows.tolist()])


def demote_excluded(ranking: Ranking, excluded: ExcludedWords, weight: float) -> Ranking:
    """Take `weight` * `exclusions` from the score of each row, and rank anew.

    `ranking` has scores and rows [m, k], -1 for no row. Queries that exclude nothing keep their ranking. Returns scores
    and rows [m, k], the lower row first among equals. Source: our choice.
    """
    scores, rows = ranking[0].copy(), ranking[1].copy()
    for query in excluded.stems:
        _rank_anew(scores[query], rows[query], -weight * excluded.shares(query, _present(rows[query])))
    return scores, rows


def promote_categories(ranking: Ranking, categories: pa.ChunkedArray, weight: float) -> Ranking:
    """Add `weight` * `category_agreement` to the score of each row, with the query's best rows, and rank anew.

    `ranking` has scores and rows [m, k], -1 for no row. `categories` list of string [n] are the paths of all rows.
    Returns scores and rows [m, k], the lower row first among equals. Source: our choice, as feedback of the best
    products (Rocchio 1971) for categories in place of vectors.
    """
    scores, rows = ranking[0].copy(), ranking[1].copy()
    for query in range(len(rows)):
        paths = categories.take(pa.array(_present(rows[query]))).to_pylist()
        agreement = category_agreement([tuple(path or ()) for path in paths], BEST_PRODUCTS)
        _rank_anew(scores[query], rows[query], weight * agreement)
    return scores, rows


def category_agreement(paths: Sequence[Path], best: int) -> npt.NDArray[np.float64]:
    """Return for each of n products, best first, how far its category agrees with those of the `best` first, 0 to 1.

    This is the mean over these of

        levels that the two paths share from the root / levels of the longer path

    Of the first products, those without a category are left out of the mean. A product without one has the mean of the
    first that have one, so that among the best it neither gains nor loses. Without any category among the first, all
    are 0.
    """
    meant = [path for path in paths[:best] if path]
    if not meant:
        return np.zeros(len(paths))
    of_path = {path: sum(_similarity(path, other) for other in meant) / len(meant) for path in set(paths) if path}
    without_category = float(np.mean([of_path[path] for path in meant]))
    return np.array([of_path.get(path, without_category) for path in paths])


def _similarity(path: Path, other: Path) -> float:
    shared = 0
    for level, of_other in zip(path, other, strict=False):
        if level != of_other:
            break
        shared += 1
    return shared / max(len(path), len(other))


def _present(rows: Rows) -> Rows:
    return rows[rows >= 0]


def _rank_anew(scores: npt.NDArray[np.float32], rows: Rows, change: npt.NDArray[np.float64]) -> None:
    """Add `change` [found] to the scores [k] of one query, whose rows are found first, and sort both in place."""
    found = len(change)
    scores[:found], rows[:found] = top_k(scores[:found] + change.astype(np.float32), rows[:found], found)
