"""What a judgement of a pair is worth: two rankings, how unsure grades are, and what a budget buys."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.artifacts import Store
from raylevance.data.graded_pairs import pair_texts
from raylevance.data.judged_tables import TRAIN, JudgedTables
from raylevance.data.text import ProductText, field_texts
from raylevance.demo.judgements import GRADES, grade_pairs
from raylevance.demo.settings import DemoSettings
from raylevance.demo.shop import open_shop
from raylevance.errors import UsageError
from raylevance.index.fusion import Ranking
from raylevance.index.lexical import LexicalIndex
from raylevance.index.lexical_fields import LexicalSettings
from raylevance.inference.judge import LoadedJudge
from raylevance.judges.gate import require_answers
from raylevance.judges.judgement_value import (
    UNKNOWN_VARIANCE,
    Floats,
    discount_differences,
    estimate_error,
    grade_variances,
)
from raylevance.judges.labelling import label_table, stored_log_probabilities
from raylevance.progress import status
from workloads.steps.systems import rank

PARTS = 10
"""The parts of a budget that a report says the worth of."""
DRAWS = 20
"""The orders of equal pairs over which an error is averaged."""
Queries = Literal["train", "held-out", "all"]


def ask_queries(judged: JudgedTables, which: Queries) -> JudgedTables:
    """Return the tables with the queries to ask about.

    train: those of the training split (`JudgedTables.query_splits`); held-out: the others. Raises `UsageError` where
    there is none.
    """
    queries = judged.queries
    if which != "all":
        learned = pc.equal(judged.query_splits(), TRAIN)
        queries = queries.filter(learned if which == "train" else pc.invert(learned))
    if not queries.num_rows:
        raise UsageError(f"queries={which}: the tables have no such query")
    return replace(judged, queries=queries)


def splits_of_pairs(judged: JudgedTables, pairs: pa.Table) -> pa.Array:
    """Return the split that a judgement of each pair must have, string [n].

    It is null where the next import draws the splits: where the judgements have none, and where there are none.
    """
    if judged.splits_drawn or not judged.judgements.num_rows:
        return pa.nulls(pairs.num_rows, pa.string())
    return judged.query_splits().take(pc.index_in(pairs["query_id"], judged.queries["query_id"].combine_chunks()))


def rank_by_words(asked: JudgedTables, settings: LexicalSettings, depth: int) -> Ranking:
    """Return the `depth` best products by BM25F of each query, [m, depth]."""
    index, texts = LexicalIndex.build_fields(field_texts(asked.products), settings), asked.queries["query"].to_pylist()
    return rank(asked, lambda places, allowed: index.search([texts[place] for place in places], depth, allowed))


def grade_doubts(
    store: Store, judged: JudgedTables, pairs: pa.Table, judge: LoadedJudge | None, text: ProductText
) -> Floats:
    """Return the variance of the grade of each pair by the probabilities of `judge`, float64 [n].

    Without a judge each has `UNKNOWN_VARIANCE`. Raises `RaylevanceError` when the judge fails with most of the pairs.
    """
    if judge is None:
        return np.full(pairs.num_rows, UNKNOWN_VARIANCE)
    status(f"judge: {pairs.num_rows} pairs, to know how unsure their grades are")
    texts = pair_texts(judged, pairs, judge.text or text)
    require_answers(label_table(texts, judge.labelling, store), judge.labelling)
    return grade_variances(stored_log_probabilities(texts, judge.labelling, store), judge.labelling.temperature)


def what_is_bought(values: Floats, chosen: int, queries: int, price: float | None) -> list[dict[str, Any]]:
    """Return what is known after each of `PARTS` parts of the first `chosen` of all `values`, most valuable first.

    Each row has `pairs`; `cost`, with a price; `share`, of the variance of the difference of both rankings that these
    pairs take away; and `deviation`, the standard deviation that is left of the difference in the mean DCG of
    `queries`.
    """
    sums = np.concatenate([[0.0], np.cumsum(values)])
    rows = []
    for pairs in np.unique(np.linspace(0, chosen, PARTS + 1).round().astype(int))[1:].tolist():
        row: dict[str, Any] = {"pairs": pairs} | ({} if price is None else {"cost": pairs * price})
        left = max(0.0, float(sums[-1] - sums[pairs]))
        rows.append(row | {"share": float(sums[pairs] / sums[-1]), "deviation": left**0.5 / queries})
    return rows


def rule_grades(shop: DemoSettings, pairs: pa.Table) -> npt.NDArray[np.int8]:
    """Return the grades that the rule of the demo shop gives to `pairs` (query_id, product_id), int8 [n]."""
    labels = grade_pairs(open_shop(shop), *(pairs[name].combine_chunks() for name in ("query_id", "product_id")))
    grades: npt.NDArray[np.int8] = GRADES.to_numpy()[labels]
    return grades


def add_errors(
    bought: Sequence[dict[str, Any]],
    grades: npt.NDArray[np.int8],
    pairs: pa.Table,
    values: Floats,
    queries: int,
    seed: int,
) -> None:
    """Add to each row of `bought` the `error` of the difference of mean DCG that is estimated from its pairs alone.

    `pairs` are rows of `FOUND_PAIRS` with these `grades` and `values`. `error_by_rank` is the error of as many pairs of
    the best ranks in either ranking, which is pooling, and `error_at_random` that of pairs at random. Each is the mean
    of `DRAWS` orders of pairs that are equal.
    """
    ranks = np.stack([pairs[name].fill_null(len(grades)).to_numpy() for name in ("rank_1", "rank_2")]).min(axis=0)
    differences = discount_differences(pairs)
    draws = [np.random.default_rng([seed, draw]).permutation(len(grades)) for draw in range(DRAWS)]
    keys = {"error": -values, "error_by_rank": ranks, "error_at_random": np.zeros(len(grades))}
    orders = {name: [draw[np.argsort(key[draw], kind="stable")] for draw in draws] for name, key in keys.items()}
    for row in bought:
        for name, each in orders.items():
            errors = [estimate_error(differences, grades, order[: row["pairs"]]) for order in each]
            row[name] = float(np.mean(errors)) / queries
