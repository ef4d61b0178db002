"""Synthetic queries of Mine and Refine (arXiv 2602.17654), each pair graded by the judge.

    raylevance run synthetic-queries [--set model.backend=endpoint ...]

A language model writes queries for products without a relevant query, or for any product; each query is paired with its
own product and with others, and a judge grades all pairs. Publishes `tables/synthetic` (`tables/synthetic-for-any` for
any product): the products, the queries, and judgements whose source is the judge.
"""

import shutil

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylevance.artifacts import Artifact, Draft
from raylevance.config import Settings
from raylevance.data.judged_tables import TRAIN, JudgedTables
from raylevance.data.schema import TABLES
from raylevance.data.text import ProductText
from raylevance.inference.judge import JudgeReference
from raylevance.inference.judge import load as load_judge
from raylevance.llm.backends import LanguageModelSettings, open_language_model, open_ledger
from raylevance.llm.cached_answers import answer_prompts
from raylevance.llm.synthetic import (
    SYNTHETIC_REQUEST,
    SyntheticSettings,
    choose_products,
    read_synthetic_queries,
    synthetic_pairs,
    synthetic_prompts,
    synthetic_query_limit,
)
from raylevance.progress import status
from workloads.run import Run
from workloads.steps.labelling import judge_pairs
from workloads.steps.tables import DataSettings, load_tables
from workloads.steps.tables_outcome import TablesOutcome

SYNTHETIC, SYNTHETIC_FOR_ANY = "tables/synthetic", "tables/synthetic-for-any"


class SyntheticQueriesSettings(Settings):
    """The language model that writes queries, and the judge that grades them."""

    data: DataSettings = DataSettings()
    model: LanguageModelSettings = LanguageModelSettings()
    judge: JudgeReference = "judge/relevance"
    """judge/NAME[@VERSION], or a YAML file that describes a judge."""
    text: ProductText = ProductText()
    synthetic: SyntheticSettings = SyntheticSettings()


def recipe(settings: SyntheticQueriesSettings, run: Run) -> TablesOutcome:
    """Ask for queries, pair them with products and grade the pairs, all in one step."""
    tables = load_tables(settings.data, run)
    judge = load_judge(run.store, settings.judge)
    model, version = open_language_model(settings.model)

    def build(draft: Draft) -> None:
        judged = JudgedTables.open(run.store.path(tables.ref))
        known = judged.split(TRAIN).judgements  # which products a test query finds is not to be known
        if not settings.synthetic.only_unfound:
            known = known.slice(0, 0)
        chosen = choose_products(judged.products, known, judged.queries, settings.synthetic)
        asked = synthetic_prompts(chosen, known, version)
        with open_ledger(run.store) as ledger:
            answers = answer_prompts(
                asked, model, SYNTHETIC_REQUEST, ledger, run.store.work_folder(f"synthetic-{tables.version}-{version}")
            )
        written = read_synthetic_queries(answers, judged.products, known, judged.queries, version, settings.synthetic)
        short = synthetic_query_limit(judged.queries, settings.synthetic) - written.num_rows
        if short > 0 and chosen.num_rows < judged.products.num_rows:
            status(
                f"synthetic queries: {short} fewer than the share allows; a larger synthetic.asked_per_query asks more"
            )
        found = synthetic_pairs(written, settings.synthetic)
        made = JudgedTables(judged.products, written.drop_columns(["product_id"]), found)
        grades = judge_pairs(run, judge, made, found, settings.text)
        shutil.copytree(run.store.path(tables.ref) / "products", draft.path / "products")
        for name, table in {"queries": made.queries, "judgements": judgements(found, grades)}.items():
            (draft.path / name).mkdir()
            pq.write_table(table.cast(TABLES[name]), draft.path / name / "part-0.parquet")
        counts = pc.value_counts(grades["grade"].drop_null()).to_pylist()
        draft.metrics |= {
            "prompts": asked.num_rows,
            "failed": sum(bool(error) for error in answers["error"].to_pylist()),
            "queries": written.num_rows,
            "pairs": found.num_rows,
            "grades": {str(row["values"]): row["counts"] for row in counts},
        }

    described = {
        "synthetic": settings.synthetic,
        "model": version,
        "judge": judge.labels_version,
        "text": settings.text,
    }
    name = SYNTHETIC if settings.synthetic.only_unfound else SYNTHETIC_FOR_ANY
    artifact: Artifact = run.step(name, build, settings=described, inputs=[tables], seed=settings.synthetic.seed)
    return TablesOutcome(run, artifact)


def judgements(found: pa.Table, grades: pa.Table) -> pa.Table:
    """Return a training judgement for each pair that the judge graded; pairs it abstained from have none."""
    columns = {name: found[name] for name in ("query_id", "product_id")} | {
        name: grades[name] for name in grades.column_names
    }
    table = pa.table(columns).filter(grades["grade"].is_valid())
    table = table.append_column("label", table["grade"].cast(pa.string()))
    table = table.append_column("split", pa.array([TRAIN] * table.num_rows, pa.string()))
    return table.select(TABLES["judgements"].names)
