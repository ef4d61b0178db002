"""Mine and Refine in k-fold cross-validation: every judged query is ranked by an encoder that never saw its judgements.

    raylevance run cross-validation [--set folds=5]

Forty test queries give wide intervals; this ranks them all. The folds share one warm-up, which reads product titles and
no query. Each fold picks its best step on queries held out of its own training part, so no setting sees the test fold.
A judge or synthetic queries of the store are refused: they know other folds' queries.
Publishes `encoder/warmup-folds`, `encoder/stage1-fold<n>`, `encoder/stage2-fold<n>` and `report/cross-validation`.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
from pydantic import Field

from raylevance.artifacts import Artifact, Draft, Store
from raylevance.data.judged import TEST, Judged
from raylevance.errors import UsageError
from raylevance.evaluation.ranking import Run as Ranked
from raylevance.inference.embeddings import embed_items
from raylevance.inference.encoding import Vectors, backbone_digest, find_encoder
from raylevance.inference.judge import learned_from_judgements
from workloads.recipes.mine_and_refine import EncoderRecipe, check_settings, mine_and_refine, train_stage1, train_warmup
from workloads.run import Run
from workloads.steps.retrieval_report import (
    LAST,
    Outcome,
    describe,
    measure_encoder,
    measure_margins,
    write_runs,
)
from workloads.steps.systems import rank_baselines, rank_hybrid
from workloads.steps.tables import load_tables


class RecipeSettings(EncoderRecipe):
    """Those that decide the encoders of mine-and-refine, and how often the stages are repeated."""

    folds: int = Field(5, ge=2)


def recipe(settings: RecipeSettings, run: Run) -> Outcome:
    """One warm-up, a stage 1 and a stage 2 a fold, and a report on all queries."""
    check_apart(settings, run.store)
    run.check = partial(check_settings, settings, run.store)
    tables = load_tables(settings.data, run)
    judged = Judged.open(run.store.path(tables.ref)).without_unjudged_queries()
    warmup = train_warmup(settings, run, tables, None, "-folds")
    folds = judged.folds(settings.folds, settings.seed)
    encoders = []
    for number, fold in enumerate(folds):
        stage1 = train_stage1(settings, run, tables, warmup, fold, name=f"encoder/stage1-fold{number}")
        encoders.append((stage1, mine_and_refine(settings, run, tables, stage1, fold, suffix=f"-fold{number}")))
    return Outcome(run, report_step(settings, run, tables, judged, warmup, folds, encoders))


def check_apart(settings: RecipeSettings, store: Store) -> None:
    """Raise `UsageError` for what may have learned from the queries that a fold tests on."""
    if settings.mining.unjudged == "judge" and learned_from_judgements(settings.mining.judge, store):
        raise UsageError(
            f"mining.judge={settings.mining.judge}: it learned from queries that a fold tests on; "
            "set mining.judge=zero-shot or mining.unjudged=skip"
        )
    if settings.synthetic.tables:
        raise UsageError(
            f"synthetic.tables={settings.synthetic.tables}: made with queries that a fold tests on known; unset it"
        )


def report_step(
    settings: RecipeSettings,
    run: Run,
    tables: Artifact,
    judged: Judged,
    warmup: Artifact,
    folds: list[Judged],
    encoders: list[tuple[Artifact, Artifact]],
) -> Artifact:
    """`report/cross-validation`: each system's run over all queries, a fold's queries by that fold's encoders."""

    def build(draft: Draft) -> None:
        shared = {"zero_shot": find_encoder(settings.encoder.backbone, run.store)}
        shared |= {"warm-up": find_encoder(warmup.ref, run.store)}
        ranked: dict[str, dict[str, Mapping[str, float]]] = {}
        cosines: dict[str, list[Vectors]] = {}
        tests = [fold.of(TEST) for fold in folds]
        for test, (stage1, stage2) in zip(tests, encoders, strict=True):
            last = find_encoder(stage2.ref, run.store)
            first = {"stage 1": find_encoder(stage1.ref, run.store)} if settings.stage1.enabled else {}
            for name, encoder in (shared | first | {LAST: last}).items():
                found, scores = measure_encoder(run.store, test, encoder)
                ranked.setdefault(name, {}).update(found)
                cosines.setdefault(name, []).append(scores)
            vectors = embed_items(run.store, last, last.item_texts(test.products))
            ranked.setdefault("hybrid", {}).update(rank_hybrid(test, last, vectors)["hybrid"])
        runs: dict[str, Ranked] = {**rank_baselines(judged, None, settings.seed), **ranked}
        write_runs(draft.path, runs)
        draft.metrics |= describe(tables, judged, runs, settings.seed) | {"folds": len(folds)}
        whole = replace(judged, judgements=pa.concat_tables(test.judgements for test in tests))
        joined = {name: np.concatenate(parts) for name, parts in cosines.items()}
        draft.metrics["margins"] = measure_margins(whole, joined, settings.seed)

    made_from = {"backbone": backbone_digest(settings.encoder.backbone)}
    inputs = [tables, warmup, *(encoder for pair in encoders for encoder in pair)]
    return run.step("report/cross-validation", build, settings=made_from, inputs=inputs, seed=settings.seed)
