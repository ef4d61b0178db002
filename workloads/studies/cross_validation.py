"""Mine and Refine in k-fold cross-validation: every judged query is ranked by an encoder that never saw its judgements.

    raylevance run cross-validation [--set folds=5]

Forty test queries give wide intervals; this study ranks all queries. The folds share one warm-up, which reads product
titles and no query. Each fold picks its best step on queries held out of its own training part, so no choice depends on
the test fold. A fitted judge and synthetic queries are refused, because they know queries of other folds.
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
from raylevance.inference.embeddings import embed_items
from raylevance.inference.encoder import backbone_digest
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
from workloads.steps.retrieval_report import (
    LAST,
    RetrievalOutcome,
    describe,
    measure_encoder,
    measure_margins,
    write_runs,
)
from workloads.steps.systems import rank_baselines, rank_hybrid
from workloads.steps.tables import load_tables


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
    if settings.mining.unjudged == "judge" and learned_from_judgements(store, settings.mining.judge):
        raise UsageError(
            f"mining.judge={settings.mining.judge}: it learned from queries that a fold tests on; "
            "set mining.judge=zero-shot or mining.unjudged=skip"
        )
    if settings.synthetic.tables:
        raise UsageError(
            f"synthetic.tables={settings.synthetic.tables}: made with queries that a fold tests on known; unset it"
        )


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
        for test, (stage1, stage2) in zip(tests, encoders, strict=True):
            last = load_encoder(run.store, stage2.ref)
            first = {"stage 1": load_encoder(run.store, stage1.ref)} if settings.stage1.enabled else {}
            for name, encoder in (shared | first | {LAST: last}).items():
                found, scores = measure_encoder(run.store, test, encoder)
                ranked.setdefault(name, {}).update(found)
                cosines.setdefault(name, []).append(scores)
            vectors = embed_items(run.store, last, last.item_texts(test.products))
            ranked.setdefault("hybrid", {}).update(rank_hybrid(test, last, vectors)["hybrid"])
        runs: dict[str, RankedRun] = {**rank_baselines(judged, None, settings.seed), **ranked}
        write_runs(draft.path, runs)
        draft.metrics |= describe(tables, judged, runs, settings.seed) | {"folds": len(folds)}
        whole = replace(judged, judgements=pa.concat_tables(test.judgements for test in tests))
        joined = {name: np.concatenate(parts) for name, parts in cosines.items()}
        draft.metrics["margins"] = measure_margins(whole, joined, settings.seed)

    compared = {"backbone": backbone_digest(settings.encoder.backbone), "metrics": METRICS}
    inputs = [tables, warmup, *(encoder for pair in encoders for encoder in pair)]
    return run.step("report/cross-validation", build, settings=compared, inputs=inputs, seed=settings.seed)
