"""Which pairs are worth a judgement: those that leave it open which of two rankings is better.

The difference of two rankings in DCG is a sum over the pairs of a query q and a product d that either of them finds,

    D = sum_{q,d} ( w(r1) - w(r2) ) g(q, d),    w(r) = 1 / log2(1 + r), and 0 for a product that a ranking does not find

so a pair without a judgement adds (w(r1) - w(r2))^2 Var[g(q, d)] to the variance of D, where the variance of its grade
g is over the probabilities that a judge gives, and grades are taken to be independent. A pair that both rankings place
alike, or whose grade is certain, is worth nothing. D is a difference of DCG at the depth of the rankings, with the
grade as the gain.

Source: choosing by |w(r1) - w(r2)| is the algorithm of minimal test collections (Carterette, Allan and Sitaraman 2006,
DOI 10.1145/1148170.1148219), there for average precision. DCG and the variance of the judge are our choice.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.data.hashing import hash_unit, pair_ids
from raylevance.index.fusion import Ranking
from raylevance.judges.grade_decisions import tempered

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GRADES = np.arange(3)
UNKNOWN_VARIANCE = float(GRADES.var())
"""The variance of a grade of which nothing is known: 0, 1 and 2 are equally likely."""

FOUND_PAIRS = pa.schema(
    [("query_id", pa.string()), ("product_id", pa.string()), ("rank_1", pa.int32()), ("rank_2", pa.int32())]
)
"""The pairs that either of two rankings finds. A rank begins at 1, and is null where the ranking does not find the
product."""


def found_pairs(
    first: Ranking, second: Ranking, query_ids: pa.Array | pa.ChunkedArray, product_ids: pa.Array | pa.ChunkedArray
) -> pa.Table:
    """Return the pairs that either ranking finds as rows of `FOUND_PAIRS`, by query and then by row of the product.

    A ranking is scores and rows, [m, k] each, with a row of -1 where a query has no more; k may differ. The ids are
    those of the m queries and of the product at each row.
    """
    width = len(product_ids)
    codes = [np.arange(len(rows))[:, None] * width + rows for _, rows in (first, second)]
    present = [rows >= 0 for _, rows in (first, second)]
    pairs = np.unique(np.concatenate([code[known] for code, known in zip(codes, present, strict=True)]))
    ranks = []
    for code, known in zip(codes, present, strict=True):
        place = np.broadcast_to(np.arange(1, code.shape[1] + 1), code.shape)
        rank = np.zeros(len(pairs), np.int32)
        rank[np.searchsorted(pairs, code[known])] = place[known]
        ranks.append(pa.array(rank, mask=rank == 0))
    ids = query_ids.take(pa.array(pairs // width)), product_ids.take(pa.array(pairs % width))
    return pa.table([*ids, *ranks], names=FOUND_PAIRS.names).cast(FOUND_PAIRS)


def discount_differences(found: pa.Table) -> Floats:
    """Return w(r1) - w(r2) of each row of `FOUND_PAIRS`, float64 [n]: the DCG that a grade of 1 adds to D."""
    first, second = (_discounts(found[name]) for name in ("rank_1", "rank_2"))
    return first - second


def grade_variances(log_probabilities: npt.NDArray[np.floating], temperature: float = 1.0) -> Floats:
    """Return the variance of the grade of each pair, float64 [n], from a judge's log-probabilities [n, 3].

    A row of NaN, a pair without an answer, has `UNKNOWN_VARIANCE`.
    """
    shares = tempered(log_probabilities, temperature)
    variance: Floats = shares @ GRADES**2 - (shares @ GRADES) ** 2
    return np.where(np.isnan(variance), UNKNOWN_VARIANCE, variance.clip(min=0))


def most_valuable(pairs: pa.Table, values: Floats, seed: int = 0) -> Ints:
    """Return the rows of the pairs whose value is above 0, the most valuable first, int64 [at most n].

    Pairs (query_id, product_id) of equal value are in the order of a hash.
    """
    order = np.lexsort((hash_unit(pair_ids(pairs), seed, "value"), -values))
    chosen: Ints = order[values[order] > 0]
    return chosen


def estimate_error(differences: Floats, grades: npt.NDArray[np.number], judged: Ints) -> float:
    """Return the error of D, a DCG summed over queries, that is estimated from the grades of the pairs `judged` alone.

    `differences` and `grades` [n] are those of all pairs. A pair that is not judged counts with the mean grade of those
    that are.
    """
    known = np.zeros(len(grades), bool)
    known[judged] = True
    assumed = grades[known].mean() if known.any() else 0.0
    return float(abs(differences[~known] @ (assumed - grades[~known])))


def _discounts(ranks: pa.ChunkedArray) -> Floats:
    values: Floats = ranks.cast(pa.float64()).fill_null(np.inf).to_numpy()
    return 1 / np.log2(1 + values)
