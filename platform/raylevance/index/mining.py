"""Hard pairs of Mine and Refine (arXiv 2602.17654): what an encoder ranks in the wrong half of its best.

An encoder ranks every product for every training query. Among the k best, a product of grade 0 above rank k/2 is a hard
negative, one of grade 1 or 2 below it a hard positive. Grades come from people where they judged the pair, else from a
judge: a product is never taken to be irrelevant because nobody has said otherwise.
"""

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, NonNegativeInt, PositiveInt

from raylevance.config import Settings
from raylevance.data.hashing import hash_unit, pair_ids
from raylevance.data.schema import LANGUAGE_MODEL
from raylevance.index.ranking import Rows, Scores

CANDIDATES = pa.schema(
    [("query_id", pa.string()), ("product_id", pa.string()), ("rank", pa.int32()), ("score", pa.float32())]
)
"""Products found for a query; `rank` from 1, `score` the cosine."""

MINED = pa.schema([*CANDIDATES, ("grade", pa.int8()), ("source", pa.string()), ("role", pa.string())])
"""Candidates with their grade, who gave it, and `role`: hard_negative, hard_positive, or null for neither."""


class MiningSettings(Settings):
    """`k`: products a query (the paper: 100 to 200). `cut`: the rank that parts the halves, as a share of k.

    `skip_top`: ranks whose negatives are left out (the paper keeps all, and finds the ten hardest to help slightly).
    `positives_from`: the lowest grade of a hard positive.
    """

    k: PositiveInt = 100
    cut: float = Field(0.5, gt=0, lt=1)
    skip_top: NonNegativeInt = 0
    positives_from: Literal[1, 2] = 1


def candidates(query_ids: pa.Array, product_ids: pa.Array, scores: Scores, rows: Rows) -> pa.Table:
    """Rows of `CANDIDATES` from a ranking: `scores`, `rows` [m, k], -1 where a query has no more; ids by row."""
    present = rows >= 0
    rank = np.broadcast_to(np.arange(1, rows.shape[1] + 1, dtype=np.int32), rows.shape)
    query = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)
    return pa.table(
        {
            "query_id": query_ids.take(pa.array(query[present])),
            "product_id": product_ids.take(pa.array(rows[present])),
            "rank": rank[present],
            "score": scores[present],
        }
    ).cast(CANDIDATES)


def unjudged(found: pa.Table, judgements: pa.Table) -> pa.Table:
    """The candidates that `judgements` (query_id, product_id) do not have, in their order."""
    return found.filter(pc.invert(pc.is_in(pair_ids(found), pc.unique(pair_ids(judgements)))))


def to_label(new: pa.Table, most: int | None, settings: MiningSettings, seed: int) -> pa.Table:
    """At most `most` of the unjudged candidates that a grade would give a role: of each half in turn, by hash.

    A judge that reads few pairs finds hard positives as well as hard negatives, and those of the upper half are a fair
    sample of it, so that the share of `false_negatives` among them is that of all. Negatives within `skip_top` are
    left out anyway.
    """
    rank = new["rank"].to_numpy()
    below = rank > settings.k * settings.cut
    order = np.argsort(hash_unit(pair_ids(new), seed, "label"), kind="stable")
    order = order[rank[order] > settings.skip_top]
    halves = below[order]
    turn = np.where(halves, np.cumsum(halves), np.cumsum(~halves))
    order = order[np.lexsort((halves, turn))]
    return new.take(pa.array(order if most is None else order[:most]))


def mine(found: pa.Table, grades: pa.Table, settings: MiningSettings) -> pa.Table:
    """Rows of `MINED`: the candidates that `grades` (query_id, product_id, grade, source) grade, with their role."""
    place = pc.index_in(pair_ids(found), pair_ids(grades))
    known = found.filter(place.is_valid())
    chosen = grades.take(place.drop_null())
    rank, grade = known["rank"].to_numpy(), chosen["grade"].to_numpy()
    upper = rank <= settings.k * settings.cut
    negative = (grade == 0) & upper & (rank > settings.skip_top)
    positive = (grade >= settings.positives_from) & ~upper
    role = np.where(negative, "hard_negative", np.where(positive, "hard_positive", ""))
    columns = {name: known[name] for name in CANDIDATES.names}
    columns |= {"grade": chosen["grade"], "source": chosen["source"]}
    roles = pa.array(role, pa.string(), mask=role == "")
    return pa.table({**columns, "role": roles}).cast(MINED)


def false_negatives(mined: pa.Table, settings: MiningSettings) -> tuple[int, int]:
    """Of the `mined` pairs in the upper half that a judge graded: how many it called relevant (1 or 2), and all.

    `mined`: those that nothing was known of before. Mining that takes every unjudged neighbour for a negative trains
    on the first of these as negatives.
    """
    by_judge = pc.starts_with(mined["source"], LANGUAGE_MODEL)
    new = mined.filter(pc.and_(by_judge, pc.less_equal(mined["rank"], int(settings.k * settings.cut))))
    return int(pc.sum(pc.greater(new["grade"], 0)).as_py() or 0), new.num_rows
