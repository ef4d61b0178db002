"""Synthetic queries of Mine and Refine (arXiv 2602.17654), each pair graded by the judge.

    raylevance run synthetic-queries [--set model.backend=endpoint ...]

A language model writes queries of several kinds for products without a relevant query, or for any product. A query is
kept if a search finds its product. Each query is paired with its own product and with others, and a judge grades
all pairs. Publishes `tables/synthetic` (`tables/synthetic-for-any` for any product): the products, the queries, and
judgements whose source is the judge.

Where no judge passes its gate (`judge=null`), a query's own product is its positive, for the warm-up alone
(`warmup.synthetic`): `tables/synthetic-unjudged`.
"""

import shutil
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylevance.artifacts import Artifact, Draft
from raylevance.config import Settings
from raylevance.data.judged_tables import TRAIN, JudgedTables
from raylevance.data.pseudo_queries import POSITIVE
from raylevance.data.schema import JUDGEMENTS, TABLES
from raylevance.data.text import ProductText
from raylevance.index.fusion import FusionSettings
from raylevance.inference.encoder import NamedEncoder, backbone_digest
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.judge import JudgeReference, LoadedJudge
from raylevance.inference.judge import load as load_judge
from raylevance.llm.backends import LanguageModelSettings, open_language_model, open_ledger
from raylevance.llm.cached_answers import answer_prompts
from raylevance.llm.synthetic import (
    SyntheticSettings,
    WrittenQueries,
    choose_products,
    read_synthetic_queries,
    synthetic_pairs,
    synthetic_prompts,
    synthetic_query_limit,
    synthetic_request,
)
from raylevance.progress import status
from workloads.run import Run
from workloads.steps.encoder_training import precision_settings
from workloads.steps.labelling import judge_pairs
from workloads.steps.systems import rank_hybrid
from workloads.steps.tables import DataSettings, load_tables
from workloads.steps.tables_outcome import TablesOutcome

SYNTHETIC, SYNTHETIC_FOR_ANY = "tables/synthetic", "tables/synthetic-for-any"
UNJUDGED = "tables/synthetic-unjudged"
OWN_PRODUCT = "synthetic:own-product"
"""The source of a judgement that nobody made: the query was written for this product."""


class SyntheticQueriesSettings(Settings):
    """The language model that writes queries, and the judge that grades them."""

    data: DataSettings = DataSettings()
    model: LanguageModelSettings = LanguageModelSettings()
    judge: JudgeReference | None = "judge/relevance"
    """judge/NAME[@VERSION], or a YAML file that describes a judge; null for none: then a query's own product is its
    only positive, and the queries are for the warm-up alone."""
    encoder: str = "minilm"
    """The encoder of the search that has to find a query's product: encoder/NAME[@VERSION], a path, or `minilm`."""
    text: ProductText = ProductText()
    synthetic: SyntheticSettings = SyntheticSettings()


def recipe(settings: SyntheticQueriesSettings, run: Run) -> TablesOutcome:
    """Ask for queries, keep those that find their product, and grade pairs, all in one step."""
    tables = load_tables(settings.data, run)
    judge = load_judge(run.store, settings.judge) if settings.judge else None
    encoder = load_encoder(run.store, settings.encoder) if settings.synthetic.found_within else None
    model, version = open_language_model(settings.model)

    def build(draft: Draft) -> None:
        if encoder:
            encoder.encode_queries(["red shoes"])  # one that can't be read fails here, before the model is asked
        judged = JudgedTables.open(run.store.path(tables.ref))
        known = judged.split(TRAIN).judgements  # which products a test query finds is not to be known
        if not settings.synthetic.only_unfound:
            known = known.slice(0, 0)
        chosen = choose_products(judged.products, known, judged.queries, settings.synthetic)
        asked = synthetic_prompts(chosen, known, version, settings.synthetic)
        with open_ledger(run.store) as ledger, run.work_folder() as work:
            answers = answer_prompts(asked, model, synthetic_request(settings.synthetic), ledger, work / "prompts")
        titles = judged.products["title"]
        usable = read_synthetic_queries(answers, chosen, known, judged.queries, version, settings.synthetic, titles)
        written, dropped = kept_queries(usable, judged, encoder, settings.synthetic)
        limit = synthetic_query_limit(judged.queries, settings.synthetic)
        if written.num_rows < limit and chosen.num_rows < judged.products.num_rows:
            status(
                f"synthetic queries: {limit - written.num_rows} fewer than the share allows; "
                "a larger synthetic.asked_per_query asks more"
            )
        graded, metrics = grade_pairs(run, judge, judged.products, written, settings)
        shutil.copytree(run.store.path(tables.ref) / "products", draft.path / "products")
        queries = written.drop_columns(["product_id", "kind"])
        for name, table in {"queries": queries, "judgements": graded}.items():
            (draft.path / name).mkdir()
            pq.write_table(table.cast(TABLES[name]), draft.path / name / "part-0.parquet")
        draft.metrics |= {
            "prompts": asked.num_rows,
            "failed": sum(bool(error) for error in answers["error"].to_pylist()),
            "queries": written.num_rows,
            "kinds": {kind: written["kind"].to_pylist().count(kind) for kind in settings.synthetic.kinds},
            "dropped": {reason: count for reason, count in dropped.items() if count},
            **metrics,
        }

    described = {
        "synthetic": settings.synthetic,
        "model": version,
        "judge": judge.labels_version if judge else None,
        "text": settings.text,
        **(_encoder_settings(settings.encoder, encoder) | {"search": FusionSettings()} if encoder else {}),
    }
    name = SYNTHETIC if settings.synthetic.only_unfound else SYNTHETIC_FOR_ANY
    inputs = [tables, *([encoder.artifact] if encoder and encoder.artifact else [])]
    made: Artifact = run.step(
        name if judge else UNJUDGED, build, settings=described, inputs=inputs, seed=settings.synthetic.seed
    )
    return TablesOutcome(run, made)


def _encoder_settings(reference: str, encoder: NamedEncoder) -> dict[str, Any]:
    """Return what decides the round trip besides an encoder of the store, which is an input of the step."""
    digest = {} if encoder.artifact else {"encoder": backbone_digest(reference)}
    return {**digest, **precision_settings()}


def kept_queries(
    found: WrittenQueries, judged: JudgedTables, encoder: NamedEncoder | None, settings: SyntheticSettings
) -> WrittenQueries:
    """Return the queries that find their product (with `encoder`), up to the share of all, and how many were dropped.

    The counts of `found` are among the latter.
    """
    usable, dropped = found
    if encoder and settings.found_within:
        finds = finds_its_product(usable, judged.products, encoder, settings.found_within)
        dropped = dropped | {"its product is not found": int((~finds).sum())}
        usable = usable.filter(pa.array(finds))
    written = usable.slice(0, synthetic_query_limit(judged.queries, settings))
    return WrittenQueries(written, dropped | {"beyond synthetic.share": usable.num_rows - written.num_rows})


def finds_its_product(
    written: pa.Table, products: pa.Table, encoder: NamedEncoder, within: int
) -> npt.NDArray[np.bool_]:
    """Return whether a hybrid search has the product of each query among its `within` best, bool [n].

    `written` holds rows of `SYNTHETIC_QUERIES`. All vectors of the `products` are held in memory.
    """
    if not written.num_rows:
        return np.zeros(0, np.bool_)
    ranked = rank_hybrid(JudgedTables(products, written, JUDGEMENTS.empty_table()), encoder)["hybrid"]
    own = zip(written["query_id"].to_pylist(), written["product_id"].to_pylist(), strict=True)
    return np.array([product in list(ranked[query])[:within] for query, product in own])


def grade_pairs(
    run: Run, judge: LoadedJudge | None, products: pa.Table, written: pa.Table, settings: SyntheticQueriesSettings
) -> tuple[pa.Table, dict[str, Any]]:
    """Return rows of `JUDGEMENTS` of the queries `written`, and what to report of them.

    The judge grades each query's own product and others. Without one, the own product is relevant.
    """
    if judge is None:
        return own_products(written), {"pairs": written.num_rows, "judge": None}
    found = synthetic_pairs(written, settings.synthetic)
    made = JudgedTables(products, written.drop_columns(["product_id", "kind"]), found)
    grades = judge_pairs(run, judge, made, found, settings.text)
    counts = pc.value_counts(grades["grade"].drop_null()).to_pylist()
    by_grade = {str(row["values"]): row["counts"] for row in counts}
    return judgements(found, grades), {"pairs": found.num_rows, "judge": judge.labels_version, "grades": by_grade}


def own_products(written: pa.Table) -> pa.Table:
    """Return a training judgement for each query of `written`: its own product is relevant."""
    count = written.num_rows
    columns = {
        "query_id": written["query_id"],
        "product_id": written["product_id"],
        "label": pa.array([str(POSITIVE)] * count, pa.string()),
        "grade": pa.array([POSITIVE] * count, pa.int8()),
        "source": pa.array([OWN_PRODUCT] * count, pa.string()),
        "confidence": pa.nulls(count, pa.float32()),
        "split": pa.array([TRAIN] * count, pa.string()),
    }
    return pa.table(columns, schema=JUDGEMENTS)


def judgements(found: pa.Table, grades: pa.Table) -> pa.Table:
    """Return a training judgement for each pair that the judge graded; pairs it abstained from have none."""
    columns = {name: found[name] for name in ("query_id", "product_id")} | {
        name: grades[name] for name in grades.column_names
    }
    table = pa.table(columns).filter(grades["grade"].is_valid())
    table = table.append_column("label", table["grade"].cast(pa.string()))
    table = table.append_column("split", pa.array([TRAIN] * table.num_rows, pa.string()))
    return table.select(TABLES["judgements"].names)
