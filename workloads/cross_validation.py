"""Mine and Refine in k-fold cross-validation: every judged query is ranked by an encoder that never saw its judgements.

    raylevance run cross-validation [--set folds=5]

Forty test queries give wide intervals; this ranks them all. The folds share one warm-up, which reads product titles and
no query. Each fold picks its best step on queries held out of its own training part, so no setting sees the test fold.
Publishes `encoder/stage1-fold<n>` and `report/cross-validation`.
"""

from collections.abc import Mapping
from functools import partial

from pydantic import Field

from raylevance.artifacts import Artifact, Draft
from raylevance.evaluation.ranking import Run as Ranked
from workloads.encode import backbone_digest, find_encoder
from workloads.judged import TEST, Judged
from workloads.mine_and_refine import EncoderRecipe, check_settings, train_stage1, train_warmup
from workloads.reports import Outcome, describe, write_runs
from workloads.sources import load_tables
from workloads.steps import Run
from workloads.systems import rank_baselines, rank_encoder, rank_hybrid


class RecipeSettings(EncoderRecipe):
    """Those that decide the encoders of mine-and-refine, and how often stage 1 is repeated."""

    folds: int = Field(5, ge=2)


def recipe(settings: RecipeSettings, run: Run) -> Outcome:
    """One warm-up, a stage 1 a fold, and a report on all queries."""
    run.check = partial(check_settings, settings)
    tables = load_tables(settings.data, run)
    judged = Judged.open(run.store.path(tables.ref))
    warmup = train_warmup(settings, run, tables)
    folds = judged.folds(settings.folds, settings.seed)
    encoders = [
        train_stage1(settings, run, tables, warmup, fold, name=f"encoder/stage1-fold{number}")
        for number, fold in enumerate(folds)
    ]
    return Outcome(run, report_step(settings, run, tables, judged, warmup, folds, encoders))


def report_step(
    settings: RecipeSettings,
    run: Run,
    tables: Artifact,
    judged: Judged,
    warmup: Artifact,
    folds: list[Judged],
    encoders: list[Artifact],
) -> Artifact:
    """`report/cross-validation`: each system's run over all queries, a fold's queries by that fold's encoder."""

    def build(draft: Draft) -> None:
        runs: dict[str, Ranked] = {**rank_baselines(judged, settings.encoder.backbone, settings.seed)}
        runs["warm-up"] = rank_encoder(judged, find_encoder(warmup.ref, run.store))
        stage1: dict[str, dict[str, Mapping[str, float]]] = {"dense": {}, "hybrid": {}}
        for fold, encoder in zip(folds, encoders, strict=True):
            for mode, ranked in rank_hybrid(fold.of(TEST), find_encoder(encoder.ref, run.store)).items():
                stage1[mode] |= ranked
        runs |= {"stage 1": stage1["dense"], "hybrid": stage1["hybrid"]}
        write_runs(draft.path, runs)
        draft.metrics |= describe(tables, judged, runs, settings.seed) | {"folds": len(folds)}

    made_from = {"backbone": backbone_digest(settings.encoder.backbone)}
    inputs = [tables, warmup, *encoders]
    return run.step("report/cross-validation", build, settings=made_from, inputs=inputs, seed=settings.seed)
