"""Mine and Refine in k-fold cross-validation: every judged query is ranked by an encoder that never saw its judgements.

    raylevance run cross-validation [--set folds=5]

Forty test queries give wide intervals; this study ranks all queries. The folds share one warm-up, which reads product
titles and no query. Each fold picks its best step on queries held out of its own training part, so no choice depends on
the test fold. The row `hybrid` has the default settings; `hybrid, tuned` has the fusion that is best for the warm-up on
the queries of the other folds. A fitted judge and synthetic queries are refused: they know queries of other folds.
Publishes `encoder/warmup-folds`, `encoder/stage1-fold<n>`, `encoder/stage2-fold<n>` and `report/cross-validation`.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
from pydantic import Field

from raylevance.artifacts import Artifact, Draft, Store
from raylevance.data.judged_tables import TEST, JudgedTables
from raylevance.errors import UsageError
from raylevance.evaluation.ranking_metrics import METRICS, RankedRun
from raylevance.index.lexical_fields import LexicalSettings
from raylevance.index.vectors import IndexSettings, VectorIndex
from raylevance.inference.embeddings import embed_items
from raylevance.inference.encoder import NamedEncoder, backbone_digest
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.judge import learned_from_judgements
from raylevance.models.encoder import Vectors
from workloads.recipes.mine_and_refine import (
    EncoderRecipe,
    check_settings,
    refine,
    split_queries,
    train_stage1,
    warm_up,
)
from workloads.run import Run
from workloads.steps.mining_judge import BEST
from workloads.steps.retrieval_report import (
    LAST,
    RetrievalOutcome,
    describe,
    measure_encoder,
    measure_margins,
    write_runs,
)
from workloads.steps.systems import as_run, choose, rank_baselines, rank_hybrid
from workloads.steps.tables import load_tables
from workloads.studies.hybrid_variants import Variant, VariantRanker, choose_family, families


class CrossValidationSettings(EncoderRecipe):
    """The settings of mine-and-refine that decide the encoders, and the number of folds."""

    folds: int = Field(5, ge=2)


def recipe(settings: CrossValidationSettings, run: Run) -> RetrievalOutcome:
    """Train one warm-up, then stage 1 and stage 2 for each fold, and report on all queries."""
    check_apart(settings, run.store)
    run.check = partial(check_settings, settings, run.store)
    tables = load_tables(settings.data, run)
    judged = JudgedTables.open(run.store.path(tables.ref)).without_unjudged_queries()
    folds = judged.cross_validation_folds(settings.folds, settings.seed)
    # Without the log, the warm-up reads products alone: it is the same for every fold.
    warmup = warm_up(settings, split_queries(settings, run, tables, folds[0]), "-folds", read_log=False)
    encoders = []
    for number, fold in enumerate(folds):
        data, suffix = split_queries(settings, run, tables, fold), f"-fold{number}"
        stage1 = train_stage1(settings, data, warmup, suffix)
        encoders.append((stage1, refine(settings, data, stage1, suffix)))
    return RetrievalOutcome(run, report_step(settings, run, tables, judged, warmup, folds, encoders))


def check_apart(settings: CrossValidationSettings, store: Store) -> None:
    """Raise `UsageError` for a judge or synthetic queries that may know the queries that a fold tests on."""
    named = settings.mining.judge != BEST
    if settings.mining.unjudged == "judge" and named and learned_from_judgements(store, settings.mining.judge):
        raise UsageError(
            f"mining.judge={settings.mining.judge}: it learned from queries that a fold tests on; "
            "set mining.judge=best, mining.judge=zero-shot or mining.unjudged=skip"
        )
    for name, tables in {
        "synthetic.tables": settings.synthetic.tables,
        "warmup.synthetic": settings.warmup.synthetic,
    }.items():
        if tables:
            raise UsageError(f"{name}={tables}: made with queries that a fold tests on known; unset it")


def report_step(
    settings: CrossValidationSettings,
    run: Run,
    tables: Artifact,
    judged: JudgedTables,
    warmup: Artifact,
    folds: list[JudgedTables],
    encoders: list[tuple[Artifact, Artifact]],
) -> Artifact:
    """Return `report/cross-validation`: every query is ranked by the encoders of the fold that tests on it."""

    def build(draft: Draft) -> None:
        shared = {"zero_shot": load_encoder(run.store, settings.encoder.backbone)}
        shared |= {"warm-up": load_encoder(run.store, warmup.ref)}
        ranked: dict[str, dict[str, Mapping[str, float]]] = {}
        cosines: dict[str, list[Vectors]] = {}
        tests = [fold.split(TEST) for fold in folds]
        ranker = VariantRanker(judged.products)
        chosen = tuned_variants(run.store, judged, tests, shared["warm-up"], ranker)
        for test, (stage1, stage2), variant in zip(tests, encoders, chosen, strict=True):
            last = load_encoder(run.store, stage2.ref)
            first = {"stage 1": load_encoder(run.store, stage1.ref)} if settings.stage1.enabled else {}
            for name, encoder in (shared | first | {LAST: last}).items():
                found, scores = measure_encoder(run.store, test, encoder)
                ranked.setdefault(name, {}).update(found)
                cosines.setdefault(name, []).append(scores)
            vectors = embed_items(run.store, last, last.item_texts(test.products))
            ranked.setdefault("hybrid", {}).update(rank_hybrid(test, last, vectors)["hybrid"])
            index = VectorIndex.build(vectors, IndexSettings(kind="exact"))
            tuned = ranker.rank(test, index, last.encode_queries(test.queries["query"].to_pylist()), variant)
            ranked.setdefault("hybrid, tuned", {}).update(as_run(test, *tuned))
        runs: dict[str, RankedRun] = {**rank_baselines(judged, settings.seed), **ranked}
        write_runs(draft.path, runs)
        draft.metrics |= describe(tables, judged, runs, settings.seed) | {"folds": len(folds)}
        draft.metrics["tuned"] = [variant.fusion.model_dump(mode="json") for variant in chosen]
        whole = replace(judged, judgements=pa.concat_tables(test.judgements for test in tests))
        joined = {name: np.concatenate(parts) for name, parts in cosines.items()}
        draft.metrics["margins"] = measure_margins(whole, joined, settings.seed)

    hybrids = families(LexicalSettings())
    compared = {"backbone": backbone_digest(settings.encoder.backbone), "metrics": METRICS, "hybrids": hybrids}
    inputs = [tables, warmup, *(encoder for pair in encoders for encoder in pair)]
    return run.step("report/cross-validation", build, settings=compared, inputs=inputs, seed=settings.seed)


def tuned_variants(
    store: Store, judged: JudgedTables, tests: list[JudgedTables], encoder: NamedEncoder, ranker: VariantRanker
) -> list[Variant]:
    """Return for each fold the variant of a hybrid search that is best on the queries of the other folds.

    `encoder` has learned from no judgement, or it would be better on these queries than on others.
    """
    tried = families(LexicalSettings())
    vectors = embed_items(store, encoder, encoder.item_texts(judged.products))
    index = VectorIndex.build(vectors, IndexSettings(kind="exact"))
    queries = encoder.encode_queries(judged.queries["query"].to_pylist())
    measured = {name: ranker.measure(judged, index, queries, variants) for name, variants in tried.items()}
    ids = list(dict.fromkeys(judged.judgements["query_id"].to_pylist()))
    chosen = []
    for test in tests:
        others = ~np.isin(ids, test.queries["query_id"].to_pylist())
        family = choose_family(measured, others)
        chosen.append(tried[family][choose(measured[family], others)])
    return chosen
