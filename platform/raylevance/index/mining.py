"""Mining of hard pairs: products that an encoder ranks in the wrong half of its best results.

An encoder ranks all products for every training query. Among the best k, a product of grade 0 in the upper half is a
hard negative, and one of grade 1 or 2 in the lower half is a hard positive. Grades come from people if they judged the
pair, and from a judge otherwise. A product is never taken to be irrelevant only because nobody judged it.

Source: Mine and Refine (arXiv 2602.17654).
"""

from typing import Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from raylevance.config import Settings
from raylevance.data.hashing import hash_unit, pair_ids
from raylevance.data.schema import MODEL_PREFIX
from raylevance.index.ranking import Rows, Scores

CANDIDATE_SCHEMA = pa.schema(
    [("query_id", pa.string()), ("product_id", pa.string()), ("rank", pa.int32()), ("score", pa.float32())]
)
"""Schema of the products found for a query. `rank` begins at 1, and `score` is the cosine."""

MINED_SCHEMA = pa.schema(
    [
        *CANDIDATE_SCHEMA,
        ("grade", pa.int8()),
        ("source", pa.string()),
        ("confidence", pa.float32()),
        ("role", pa.string()),
    ]
)
"""Schema of mined pairs: candidates with their grade, its source, and its confidence where that is known. `role` is
hard_negative, hard_positive, or null for neither."""


class MiningSettings(Settings):
    """Which of an encoder's best results are mined as hard pairs."""

    k: PositiveInt = 100
    """Number of products ranked for each query. The paper uses 100 to 200."""
    cut: float = Field(0.5, gt=0, lt=1)
    """Rank that separates the upper from the lower half, as a share of k."""
    skip_top: NonNegativeInt = 0
    """Number of top ranks that give no hard negatives. The paper skips none, and finds that the ten hardest negatives
    help slightly."""
    positives_from: Literal[1, 2] = 1
    """Lowest grade of a hard positive."""

    @model_validator(mode="after")
    def _some_ranks_give_negatives(self) -> Self:
        last = int(self.k * self.cut)
        if self.skip_top >= max(last, 1):
            raise ValueError(
                f"skip_top={self.skip_top} leaves no rank for hard negatives, which are up to rank {last} (k * cut): "
                "lower it"
            )
        return self


def candidate_table(query_ids: pa.Array, product_ids: pa.Array, scores: Scores, rows: Rows) -> pa.Table:
    """Turn a ranking into a table of `CANDIDATE_SCHEMA`.

    `scores` and `rows` are [m, k], with a row of -1 if a query has no more. The ids are those of the m queries and of
    the product at each row.
    """
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
    ).cast(CANDIDATE_SCHEMA)


def unjudged_pairs(pairs: pa.Table, judgements: pa.Table) -> pa.Table:
    """Return the rows of `pairs` whose query and product are not in `judgements`, in their order.

    Both tables have the columns query_id and product_id.
    """
    return pairs.filter(pc.invert(pc.is_in(pair_ids(pairs), pc.unique(pair_ids(judgements)))))


def choose_pairs_to_label(unjudged: pa.Table, limit: int | None, settings: MiningSettings, seed: int) -> pa.Table:
    """Choose at most `limit` of the `unjudged` candidates for a judge to grade; None chooses all.

    They are taken from the upper and the lower half in turn, each half in the order of a hash. A judge that grades few
    pairs thus finds hard positives as well as hard negatives, and those of the upper half are a fair sample for
    `count_false_negatives`. Candidates at the ranks of `skip_top` are left out, as they cannot become hard pairs.
    """
    rank = unjudged["rank"].to_numpy()
    in_lower_half = rank > settings.k * settings.cut
    order = np.argsort(hash_unit(pair_ids(unjudged), seed, "label"), kind="stable")
    order = order[rank[order] > settings.skip_top]
    lower = in_lower_half[order]
    turn = np.where(lower, np.cumsum(lower), np.cumsum(~lower))
    order = order[np.lexsort((lower, turn))]
    return unjudged.take(pa.array(order if limit is None else order[:limit]))


def mine_hard_pairs(candidates: pa.Table, grades: pa.Table, settings: MiningSettings) -> pa.Table:
    """Return the `candidates` that have a grade in `grades`, with their role, as rows of `MINED_SCHEMA`.

    `grades` has the columns query_id, product_id, grade, source and confidence.
    """
    grade_row = pc.index_in(pair_ids(candidates), pair_ids(grades))
    graded = candidates.filter(grade_row.is_valid())
    grades = grades.take(grade_row.drop_null())
    rank, grade = graded["rank"].to_numpy(), grades["grade"].to_numpy()
    in_upper_half = rank <= settings.k * settings.cut
    negative = (grade == 0) & in_upper_half & (rank > settings.skip_top)
    positive = (grade >= settings.positives_from) & ~in_upper_half
    role = np.where(negative, "hard_negative", np.where(positive, "hard_positive", ""))
    columns = {name: graded[name] for name in CANDIDATE_SCHEMA.names}
    columns |= {name: grades[name] for name in ("grade", "source", "confidence")}
    roles = pa.array(role, pa.string(), mask=role == "")
    return pa.table({**columns, "role": roles}).cast(MINED_SCHEMA)


def count_false_negatives(mined: pa.Table, settings: MiningSettings) -> tuple[int, int]:
    """Count the pairs in the upper half that a judge called relevant (grade 1 or 2), and all that it graded there.

    `mined` must hold only pairs that were unjudged before. Mining that takes unjudged pairs for irrelevant would train
    on the first number of pairs as false negatives.
    """
    by_judge = pc.starts_with(mined["source"], MODEL_PREFIX)
    upper = mined.filter(pc.and_(by_judge, pc.less_equal(mined["rank"], int(settings.k * settings.cut))))
    return int(pc.sum(pc.greater(upper["grade"], 0)).as_py() or 0), upper.num_rows
