"""How much training learns (Mine and Refine, arXiv 2602.17654): nDCG@10 and margin against steps and judged queries.

    raylevance run learning-curves --config workloads/studies/learning_curves.yaml [--set 'only=[stage 2 triplet]']

Each variant is trained in both stages with every number of steps on the most queries, and with the most steps on every
number of queries. On the demo shop, whose rule grades any pair, the rule grades the mined pairs of stage 2 and what is
ranked for nDCG@10, for the test queries and for those that pick a best step (`stage1.train.keep_best`). Steps that
points share are made once, and a killed run continues. Publishes `report/learning-curves` with `curves.svg`.
"""

import json
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

from pydantic import Field, PositiveInt
from rich.table import Table

from raylevance.artifacts import Artifact, Draft
from raylevance.config import with_changes
from raylevance.data.judged_tables import TEST, TRAIN, JudgedTables
from raylevance.demo.settings import DemoSettings
from raylevance.errors import UsageError
from raylevance.losses.temperature import INITIAL_TEMPERATURE
from raylevance.progress import status
from workloads.readable import with_interval
from workloads.recipes.mine_and_refine import (
    EncoderRecipe,
    check_judges,
    refine,
    split_queries,
    train_stage1,
    train_stage2,
    warm_up,
)
from workloads.run import Run
from workloads.steps.retrieval_data import RetrievalData
from workloads.steps.tables import load_tables
from workloads.studies.ablations import check_variants
from workloads.studies.annotators import Annotator, mining_step, require_one_round
from workloads.studies.curve_plots import CURVES, save_curves
from workloads.studies.grid import FULL, GridOutcome, GridSettings
from workloads.studies.measured_encoders import JUDGED, METRIC, Measured, measuring_step, shop_of

SUFFIX = "-curve"
STAGE1, STAGE2, WARMUP = "stage 1", "stage 2", "warm-up"

VARIANTS: dict[str, dict[str, Any]] = {
    FULL: {},
    "stage 1 InfoNCE": {"stage1.train.loss": "infonce", "stage1.train.temperature": INITIAL_TEMPERATURE},
    "stage 1 triplet": {"stage1.train.loss": "triplet"},
    "stage 2 triplet": {"stage2.train.loss": "triplet"},
    "no warm-up": {"warmup.enabled": False},
    "no stage 1": {"stage1.enabled": False},
}
"""The settings that each variant changes. `full` is SupCon in stage 1 and circle in stage 2, after a warm-up."""


class Budget(NamedTuple):
    """The steps of each stage, and the judged queries that they learn from."""

    steps: int
    queries: int


class LearningCurveSettings(GridSettings, EncoderRecipe):
    """The settings of mine-and-refine, the grid, and the budgets."""

    variants = VARIANTS

    steps: tuple[PositiveInt, ...] = Field((12, 50, 200, 800), min_length=1)
    """Steps of each stage."""
    queries: tuple[PositiveInt, ...] = Field((64, 256, 1000, 4000), min_length=1)
    """Judged training queries."""

    def budgets(self) -> list[Budget]:
        """Return every number of steps with the most queries, and every number of queries with the most steps."""
        most = Budget(max(self.steps), max(self.queries))
        every = map(Budget._make, product(self.steps, self.queries))
        return sorted({each for each in every if most.steps == each.steps or most.queries == each.queries})

    def at(self, name: str, budget: Budget, seed: int) -> EncoderRecipe:
        """Return the settings of a variant at a budget. A stage repeats its queries until its steps are done."""
        train = {"max_steps": budget.steps, "epochs": budget.steps}
        changes = {f"{stage}.train.{key}": value for stage in ("stage1", "stage2") for key, value in train.items()}
        changes["stage1.most_queries"] = budget.queries
        values = self.variant(EncoderRecipe, name, seed).model_dump(mode="json")
        return EncoderRecipe.model_validate(with_changes(values, changes))


@dataclass(frozen=True)
class LearningCurveOutcome(GridOutcome):
    """The outcome of the study."""

    def as_table(self) -> Table:
        """Return one row for each stage of each variant at each budget."""
        metrics = self.report.metrics
        title = f"{metrics['queries']} queries of {metrics['data']}, seeds {metrics['seeds']}"
        columns = (
            "",
            "stage",
            "steps",
            "judged queries",
            METRIC,
            f"minus {WARMUP}",
            f"minus {STAGE1}",
            "of judged products",
            "average margin",
        )
        table = Table(*columns, box=None, title=title, title_justify="left")
        for point in metrics["points"]:
            minus = [point["minus"].get(name) for name in (WARMUP, STAGE1)]
            cells = [point[METRIC], *minus, point[JUDGED], point["margin"]]
            shown = (with_interval(cell) if cell else "" for cell in cells)
            table.add_row(point["variant"], point["stage"], str(point["steps"]), str(point["queries"]), *shown)
        table.caption = f"curves: {self.run.store.path(self.report.ref) / CURVES}"
        table.caption_justify = "left"
        return table


class Point(NamedTuple):
    """A stage of a variant, trained at a budget under each seed, with what its figures are compared with."""

    variant: str
    stage: str
    budget: Budget
    measured: list[Artifact]
    baselines: dict[str, list[Artifact]]


def recipe(settings: LearningCurveSettings, run: Run) -> LearningCurveOutcome:
    """Train every variant at every budget under every seed, measure it on the test queries, then report."""
    points = [(name, budget) for budget in settings.budgets() for name in settings.chosen()]
    variants = [settings.at(name, budget, settings.seeds[0]) for name, budget in points]
    for name, reason in settings.left_out().items():
        status(f"variant {name!r} is left out: it measures nothing, {reason}")
    asks_judges = shop_of(settings.data) is None
    if not asks_judges:
        require_one_round(settings)

    def check() -> None:
        if asks_judges:
            check_judges((variant.mining for variant in variants), run.store)
        check_variants(variants, run.store)

    run.check = check
    tables = load_tables(settings.data, run)
    judged = JudgedTables.open(run.store.path(tables.ref))
    train = judged.split(TRAIN).queries.num_rows
    if train < max(settings.queries):
        raise UsageError(f"queries={list(settings.queries)}: the data has {train} judged training queries; lower it")
    measured = []
    for name, budget in points:
        status(f"{name}: {budget.steps} steps, {budget.queries} queries")
        measured += measure_variant(settings, run, tables, judged, name, budget)
    return LearningCurveOutcome(run, report_step(settings, run, tables, judged, measured))


def measure_variant(
    settings: LearningCurveSettings, run: Run, tables: Artifact, judged: JudgedTables, name: str, budget: Budget
) -> list[Point]:
    """Train a variant at a budget under each seed; return the warm-up, stage 1 and stage 2, measured."""
    shop = shop_of(settings.data)
    found: dict[str, list[Artifact]] = {WARMUP: [], STAGE1: [], STAGE2: []}
    for seed in settings.seeds:
        variant = settings.at(name, budget, seed)
        data = replace(split_queries(variant, run, tables, judged), shop=shop if keeps_best(variant) else None)
        warmup = warm_up(variant, data, SUFFIX)
        stage1 = train_stage1(variant, data, warmup, SUFFIX)
        stage2 = refine_by_rule(variant, data, stage1, shop) if shop else refine(variant, data, stage1, SUFFIX)
        encoders = {WARMUP: warmup, STAGE1: stage1, STAGE2: stage2}
        for stage, encoder in encoders.items():
            found[stage].append(measuring_step(run, tables, judged, encoder, shop))
    before: dict[str, dict[str, list[Artifact]]] = {WARMUP: {}, STAGE1: {WARMUP: found[WARMUP]}}
    before[STAGE2] = {stage: found[stage] for stage in (WARMUP, STAGE1)}
    return [Point(name, stage, budget, found[stage], before[stage]) for stage in found]


def keeps_best(settings: EncoderRecipe) -> bool:
    """Return whether a stage keeps its best step."""
    return any(stage.train.keep_best for stage in (settings.stage1, settings.stage2))


def refine_by_rule(settings: EncoderRecipe, data: RetrievalData, stage1: Artifact, shop: DemoSettings) -> Artifact:
    """Return `encoder/stage2` as `refine` does, with mined pairs that the rule of the demo shop grades."""
    mined = mining_step(data, f"pairs/mined{SUFFIX}", stage1, Annotator("the rule"), settings, shop)
    return train_stage2(settings, data, stage1, [mined], SUFFIX)


def report_step(
    settings: LearningCurveSettings, run: Run, tables: Artifact, judged: JudgedTables, points: list[Point]
) -> Artifact:
    """Return `report/learning-curves`: metrics are means over seeds, and intervals are over queries."""

    def build(draft: Draft) -> None:
        test = judged.split(TEST)
        rows = []
        for point in points:
            baselines = {name: Measured.read(run.store, made) for name, made in point.baselines.items()}
            figures = Measured.read(run.store, point.measured).compare(baselines, test, settings.seed)
            rows.append({"variant": point.variant, "stage": point.stage, **point.budget._asdict(), **figures})
        draft.metrics |= {
            "data": tables.name.partition("/")[2],
            "queries": test.queries.num_rows,
            "seeds": list(settings.seeds),
            "points": rows,
        }
        save_curves(draft.path / CURVES, rows)
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    described = [[p.variant, p.stage, p.budget, [m.ref for m in p.measured]] for p in points]
    inputs = list({made.ref: made for point in points for made in point.measured}.values())
    return run.step(
        "report/learning-curves", build, settings={"points": described}, inputs=[tables, *inputs], seed=settings.seed
    )
