"""Mine hard pairs (Mine and Refine, arXiv 2602.17654): the nearest products of each training query, graded."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, PositiveInt

from raylevance.artifacts import Artifact, Draft, fingerprint
from raylevance.data.graded_pairs import pair_texts
from raylevance.data.hashing import hash_strings, hash_unit, pair_ids
from raylevance.data.judged_tables import TRAIN, JudgedTables
from raylevance.data.schema import JUDGEMENTS
from raylevance.index.fusion import FusionSettings
from raylevance.index.mining import (
    MINED_SCHEMA,
    MiningSettings,
    candidate_table,
    choose_pairs_to_label,
    count_false_negatives,
    mine_hard_pairs,
    unjudged_pairs,
)
from raylevance.index.vectors import IndexSettings
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.judge import JudgeReference, judge_version
from raylevance.inference.judge import load as load_judge
from raylevance.judges.gate import require_answers
from raylevance.judges.labelling import label_table
from raylevance.progress import status
from workloads.run import Run
from workloads.steps.mining_judge import BEST, Thresholds, check_judge
from workloads.steps.retrieval_data import RetrievalData
from workloads.steps.systems import rank_by_shards

MINED = "mined.parquet"
ASSUMED = "assumed"
"""The source of grade 0 where nobody gave a grade (`unjudged=irrelevant`)."""
GRADE_COLUMNS = ["query_id", "product_id", "grade", "source", "confidence"]
GRADED = pa.schema([(name, MINED_SCHEMA.field(name).type) for name in GRADE_COLUMNS])


class MineSettings(MiningSettings):
    """How hard pairs are mined, and how mined pairs get a grade."""

    unjudged: Literal["judge", "skip", "irrelevant"] = "judge"
    """How to treat mined pairs that nobody has judged: ask `judge`, skip them, or take them for grade 0, as plain
    hard-negative mining does."""
    judge: JudgeReference = BEST
    """judge/NAME[@VERSION], a YAML file that describes a judge, zero-shot (a language model with the guideline), or
    best: zero-shot where RAYLEVANCE_LLM names a model, else a regression that is fitted to the training queries."""
    most_labelled: PositiveInt | None = 64
    """The largest number of pairs that the judge grades, drawn by hash in equal parts from both halves of the ranking;
    null for all."""
    check_pairs: PositiveInt = 64
    """Human judgements of training queries that the judge also grades, to check it: mined pairs first."""
    minimum_kappa: float = Field(0.2, ge=-1, le=1)
    """Below this quadratic kappa on the checked pairs, the judge grades nothing."""
    minimum_gain: float = Field(0.0, ge=-1, le=1)
    """The interval of the gain in nDCG@10 must be above this, when the judge ranks the best results of a hybrid search
    again, or it grades nothing. -1 asks for no gain, and does not measure it."""
    with_originals: bool = True
    """Train on all judgements as well as on mined pairs; false trains only on mined pairs, for comparison."""
    index: IndexSettings = IndexSettings(kind="exact")
    rows_per_shard: PositiveInt = 50_000
    """Products whose vectors are searched at once, which bounds memory."""


def mining_step(
    data: RetrievalData, name: str, encoder: Artifact, settings: MineSettings, earlier: Sequence[Artifact] = ()
) -> Artifact:
    """Return the artifact `name`: hard pairs for the training queries, found by `encoder` and graded.

    The artifact holds rows of `raylevance.index.mining.MINED_SCHEMA` in `mined.parquet`; its metrics say how far the
    judge is to be trusted. `earlier` are the previous rounds of mining, whose grades are known.
    """
    run, seed = data.run, data.trainer.seed

    def build(draft: Draft) -> None:
        neighbours = nearest_products(data, encoder, settings)
        before = [read_mined(run, artifact).select(GRADE_COLUMNS) for artifact in earlier]
        graded = pa.concat_tables([data.train.judgements.select(GRADE_COLUMNS).cast(GRADED), *before])
        new_grades, report = grade_new_pairs(data, neighbours, graded, settings, encoder)
        wrong, of = count_false_negatives(mine_hard_pairs(neighbours, new_grades, settings), settings)
        mined = mine_hard_pairs(neighbours, pa.concat_tables([graded, new_grades]), settings)
        pq.write_table(mined, draft.path / MINED)
        draft.metrics |= report | {
            "candidates": neighbours.num_rows,
            "relevant_in_upper_half": wrong,
            "labelled_in_upper_half": of,
            "roles": _counts(mined["role"]),
        }
        status(summary(draft.metrics))

    described = {
        **{field: value for field, value in settings if field not in ("with_originals", "judge")},
        "judge": _judge_version(run, settings),
        "columns": MINED_SCHEMA.names,
        "text": data.text,
        "queries": fingerprint(data.train.queries["query_id"].to_pylist()),
        # Not a setting: pairs of a judge that was checked on whole products are mined anew.
        **({"checked": "a sample of pairs", "search": FusionSettings()} if settings.unjudged == "judge" else {}),
    }
    inputs = [data.tables, encoder, *data.synthetic, *earlier]
    return run.step(name, build, settings=described, inputs=inputs, seed=seed)


def read_mined(run: Run, artifact: Artifact) -> pa.Table:
    """Read the pairs that a mining step wrote, rows of `raylevance.index.mining.MINED_SCHEMA`."""
    return pq.read_table(run.store.path(artifact.ref) / MINED)


def nearest_products(data: RetrievalData, encoder: Artifact, settings: MineSettings) -> pa.Table:
    """Return the k nearest products of each training query, within its locale, as rows of `CANDIDATE_SCHEMA`."""
    store, train = data.run.store, data.train
    named = load_encoder(store, encoder.ref)
    folder = store.path(data.tables.ref) / "products"
    scores, rows = rank_by_shards(store, train, folder, named, settings.k, settings.index, settings.rows_per_shard)
    products = train.products["product_id"].combine_chunks()
    return candidate_table(train.queries["query_id"].combine_chunks(), products, scores, rows)


def grade_new_pairs(
    data: RetrievalData, neighbours: pa.Table, graded: pa.Table, settings: MineSettings, encoder: Artifact
) -> tuple[pa.Table, dict[str, Any]]:
    """Grade the pairs of `neighbours` that are not in `graded`, found by `encoder`, and report on the judge.

    A judge that fails its check grades nothing. Returns rows of `GRADED` and the report. Raises
    `RaylevanceError` when the judge fails with most of the pairs.
    """
    new = unjudged_pairs(neighbours, graded)
    if settings.unjudged == "skip" or not new.num_rows:
        return GRADED.empty_table(), {"trusted": True}
    if settings.unjudged == "irrelevant":
        return assumed_irrelevant(new), {"trusted": True}
    store, seed, pair = data.run.store, data.trainer.seed, GRADE_COLUMNS[:2]
    found = int(pc.sum(pc.greater(new["rank"], settings.skip_top)).as_py() or 0)
    new = choose_pairs_to_label(new, settings.most_labelled, settings, seed)
    not_asked = {"not_asked": found - new.num_rows}
    if settings.judge == BEST:
        refused = f"mining.judge={BEST}: too few queries are judged to fit a judge"
        unlabelled = {"judge": BEST, "agreement": None, "worth": None, "trusted": False, "refused": refused}
        return GRADED.empty_table(), unlabelled | not_asked | {"labelled": 0, "not_labelled": new.num_rows}
    named = load_judge(store, settings.judge)
    human = data.train.without_model_grades().judgements
    check = pairs_to_check(human, neighbours, settings.check_pairs, seed)
    thresholds = Thresholds(settings.minimum_kappa, settings.minimum_gain)
    report = check_judge(data, named, check, encoder, thresholds) | {"judge": named.labelling.version} | not_asked
    if not report["trusted"]:
        return GRADED.empty_table(), report | {"labelled": 0, "not_labelled": new.num_rows}
    answers = label_table(pair_texts(data.train, new, named.text or data.text), named.labelling, store)
    require_answers(answers, named.labelling)
    grades = {**{name: new[name] for name in pair}, **{name: answers[name] for name in GRADE_COLUMNS[2:]}}
    new_grades = pa.table(grades).filter(answers["grade"].is_valid()).cast(GRADED)
    return new_grades, report | {
        "labelled": new_grades.num_rows,
        "not_labelled": new.num_rows - new_grades.num_rows,
    }


def pairs_to_check(human: pa.Table, neighbours: pa.Table, count: int, seed: int) -> pa.Table:
    """Choose at most `count` rows of the judgements `human` to check a judge on, in an order given by a hash.

    Pairs that are also in `neighbours` come first. These are the kind of pairs that the judge will grade, and a judge
    that agrees with people on arbitrary pairs may still fail on them.
    """
    elsewhere = pc.invert(pc.is_in(pair_ids(human), pair_ids(neighbours))).to_numpy()
    order = np.lexsort((hash_unit(pair_ids(human), seed, "check"), elsewhere))
    return human.take(pa.array(order[:count]))


def assumed_irrelevant(new: pa.Table) -> pa.Table:
    """Give grade 0 to every pair, as mining without a judge does."""
    grades, source = np.zeros(new.num_rows, np.int8), pa.array([ASSUMED] * new.num_rows, pa.string())
    columns = {"grade": grades, "source": source, "confidence": pa.nulls(new.num_rows, pa.float32())}
    return pa.table({**{name: new[name] for name in GRADE_COLUMNS[:2]}, **columns}).cast(GRADED)


def add_mined_pairs(train: JudgedTables, mined: pa.Table, *, with_originals: bool = True) -> JudgedTables:
    """Add the mined hard pairs that `train` lacks to its judgements.

    With `with_originals=False` only those judgements stay that were mined as well. When several rounds mined the same
    pair, the first counts.
    """
    hard = mined.filter(mined["role"].is_valid())
    hard = hard.take(pa.array(np.sort(np.unique(hash_strings(pair_ids(hard)), return_index=True)[1])))
    if not with_originals:
        kept = pc.is_in(pair_ids(train.judgements), pc.unique(pair_ids(hard)))
        train = replace(train, judgements=train.judgements.filter(kept))
    new = unjudged_pairs(hard, train.judgements)
    columns = {name: new[name] for name in GRADE_COLUMNS} | {
        "label": new["grade"].cast(pa.string()),
        "split": pa.array([TRAIN] * new.num_rows, pa.string()),
    }
    added = pa.table(columns).select(JUDGEMENTS.names).cast(JUDGEMENTS)
    # The judgements of an audit have further columns.
    return replace(train, judgements=pa.concat_tables([train.judgements, added], promote_options="permissive"))


def why_nothing_is_added(metrics: Mapping[str, Any]) -> str | None:
    """Return why a mining step with these metrics adds no pair: its judge failed the gate. None where it did not."""
    if metrics["trusted"]:
        return None
    agreed = metrics["agreement"]
    kappa = f"quadratic kappa {agreed['quadratic_kappa']:.2f}" if agreed else "no grade"
    reason = metrics.get("refused") or kappa
    return f"judge {metrics['judge']} failed its gate ({reason}): mining adds no pair to those that are judged"


def summary(metrics: dict[str, Any]) -> str:
    """Return one line about a mining step: how many pairs that plain mining calls negative the judge calls relevant."""
    wrong, of = metrics["relevant_in_upper_half"], metrics["labelled_in_upper_half"]
    if metrics.get("refused"):
        return f"mining: {metrics['roles']}; judge {metrics['judge']} is not asked for labels: {metrics['refused']}"
    if not of:
        return f"mining: {metrics['roles']}; no judge graded a new neighbour"
    line = f"mining: {wrong} of {of} new neighbours ({wrong / of:.0%}) are relevant to the judge"
    line += ": false negatives of plain hard-negative mining"
    if metrics["not_labelled"]:
        line += f"; {metrics['not_labelled']} pairs got no grade"
    if metrics.get("not_asked"):
        line += f"; {metrics['not_asked']} more have no judgement and were not asked about (mining.most_labelled)"
    return line


def _judge_version(run: Run, settings: MineSettings) -> str | None:
    if settings.unjudged != "judge":
        return None
    return BEST if settings.judge == BEST else judge_version(run.store, settings.judge)


def _counts(roles: pa.ChunkedArray) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in pc.value_counts(roles.drop_null()).to_pylist()}
