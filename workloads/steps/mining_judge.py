"""The judge of mining: the best at hand, and its check on pairs that people graded before it grades any other."""

from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from raylevance.artifacts import Artifact
from raylevance.data.graded_pairs import pair_texts
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.text import normalised_query
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.judge import ZERO_SHOT, LoadedJudge, named_language_model
from raylevance.judges.gate import compare_with_people, require_answers
from raylevance.judges.labelling import label_table
from raylevance.judges.worth import why_worthless
from workloads.steps.judge_worth import judge_worth
from workloads.steps.match_judge import JUDGE_TEXT, RegressionSettings, joined_queries, match_judge_step
from workloads.steps.retrieval_data import RetrievalData

BEST = "best"
"""The judge at hand: `zero-shot` where RAYLEVANCE_LLM names a language model, else the regression, which is fitted to
the training queries."""
LEAST_QUERIES = 2
"""The fewest judged queries that a regression can be fitted to and measured on."""
WORTH_QUERIES = 25
"""The most queries that a judge is asked about to measure its worth: a few hundred pairs (our choice)."""


class Thresholds(NamedTuple):
    """The thresholds that a judge must reach before it labels."""

    kappa: float
    gain: float
    """-1 asks for no gain, and does not measure it."""


def best_judge(data: RetrievalData, backbone: str, suffix: str = "") -> str | None:
    """Return the reference of the judge that `BEST` stands for; None where too few queries are judged to fit one."""
    if named_language_model():
        return ZERO_SHOT
    judged = data.human_train.without_model_grades().without_unjudged_queries()
    if pc.count_distinct(normalised_query(judged.queries["query"])).as_py() < LEAST_QUERIES:
        return None
    settings = RegressionSettings(backbone=backbone)
    name = f"judge/fitted{suffix}"
    return match_judge_step(data.run, name, data.tables, judged, settings, JUDGE_TEXT, data.trainer.seed).ref


def check_judge(
    data: RetrievalData, judge: LoadedJudge, check: pa.Table, encoder: Artifact, thresholds: Thresholds
) -> dict[str, Any]:
    """Measure a judge before it labels: on the human judgements `check`, and by its worth on a few hundred pairs.

    What is published with the judge was measured on queries that it did not learn from. A judge that fails by that is
    asked nothing. Returns `agreement`, `worth`, `trusted`, and `refused`: why it is not trusted, or None.
    """
    known = judge.agreement
    refused = _below(known, thresholds.kappa) or (
        judge.worth and why_worthless(judge.worth, thresholds.gain, certain=True)
    )
    if refused:
        return {"agreement": known, "worth": judge.worth, "trusted": False, "refused": refused}
    texts = pair_texts(data.train, check, judge.text or data.text)
    worth = judge.worth
    if worth is None and thresholds.gain > -1:
        asked = worth_queries(data)
        named = load_encoder(data.run.store, encoder.ref)
        worth = judge_worth(data.run, judge, asked, named, data.text, data.trainer.seed, besides=texts)
    labels = label_table(texts, judge.labelling, data.run.store)
    require_answers(labels, judge.labelling)
    report = compare_with_people(labels, check, thresholds.kappa, known)
    refused = _below(report["agreement"], thresholds.kappa) if report["agreement"] else "it graded no checked pair"
    refused = refused or (worth and why_worthless(worth, thresholds.gain, certain=True))
    return report | {"worth": worth, "trusted": report["trusted"] and not refused, "refused": refused or None}


def worth_queries(data: RetrievalData) -> JudgedTables:
    """Return the queries that measure a judge's worth: those of validation, and training queries up to the limit."""
    validation = data.validation.without_model_grades()
    missing = WORTH_QUERIES - validation.queries.num_rows
    if missing <= 0:
        return validation.first_queries(WORTH_QUERIES, data.trainer.seed)
    train = data.human_train.without_model_grades().first_queries(missing, data.trainer.seed)
    return joined_queries(train, validation)


def _below(agreement: dict[str, Any] | None, minimum_kappa: float) -> str | None:
    if agreement is None or agreement["quadratic_kappa"] >= minimum_kappa:
        return None
    return f"it agrees too little with people (quadratic kappa {agreement['quadratic_kappa']:.2f})"
