"""Ask a judge about the best results of a hybrid search, and measure what its grades add to their ranking."""

import math
import time
from typing import Any

import pyarrow as pa

from raylevance.data.graded_pairs import pair_texts
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.text import ProductText
from raylevance.evaluation.ranking_metrics import RankedRun
from raylevance.inference.encoder import NamedEncoder
from raylevance.inference.judge import LoadedJudge
from raylevance.judges.gate import require_answers
from raylevance.judges.labelling import label_table, stored_log_probabilities
from raylevance.judges.worth import BEST, expected_grades, measure_worth
from raylevance.progress import status
from workloads.run import Run
from workloads.steps.match_judge import hybrid_results


def judge_worth(
    run: Run,
    judge: LoadedJudge,
    judged: JudgedTables,
    encoder: NamedEncoder,
    text: ProductText,
    seed: int,
    besides: pa.Table | None = None,
) -> dict[str, Any]:
    """Return the worth (`raylevance.judges.worth.measure_worth`) of a judge on the queries of `judged`, and `seconds`.

    The judge must not have learned from these queries. Pairs `besides` (query, product_text) are asked in the same
    labelling, because an engine takes longer to start than to read a few hundred pairs.

    Raises `RaylevanceError` when the judge fails with most of the pairs.
    """
    results = hybrid_results(run.store, judged, encoder)
    pairs = result_pairs(results)
    status(f"judge: {pairs.num_rows} pairs, the {BEST} best results of {len(results)} queries, to measure its worth")
    started = time.monotonic()
    texts = pair_texts(judged, pairs, judge.text or text)
    asked = texts if besides is None else pa.concat_tables([texts, besides.cast(texts.schema)])
    require_answers(label_table(asked, judge.labelling, run.store), judge.labelling)
    answers = stored_log_probabilities(texts, judge.labelling, run.store)
    seconds = time.monotonic() - started
    expected: dict[str, dict[str, float]] = {}
    rows = zip(pairs["query_id"].to_pylist(), pairs["product_id"].to_pylist(), strict=True)
    for (query, product), grade in zip(rows, expected_grades(answers, judge.labelling.temperature), strict=True):
        if not math.isnan(grade):
            expected.setdefault(query, {})[product] = float(grade)
    return measure_worth(results, expected, judged.judgements, seed) | {"seconds": round(seconds, 1)}


def result_pairs(results: RankedRun) -> pa.Table:
    """Return the columns query_id and product_id of all results."""
    pairs = [(query, product) for query, found in results.items() for product in found]
    columns = zip(*pairs, strict=True) if pairs else ((), ())
    return pa.table([pa.array(column, pa.string()) for column in columns], names=["query_id", "product_id"])
