"""The ablations of Mine and Refine (arXiv 2602.17654): the recipe with one setting changed at a time, on test queries.

    raylevance run ablations [--set 'only=[full, no taxonomy]'] [--set 'seeds=[0]']

Steps that variants share are made once, and a killed run continues, because the store finds a step by its inputs.
Publishes `report/ablations`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from raylevance.artifacts import Artifact, Draft, Store
from raylevance.data.judged_tables import TEST, JudgedTables
from raylevance.losses.temperature import INITIAL_TEMPERATURE
from raylevance.progress import status
from workloads.readable import with_interval
from workloads.recipes.mine_and_refine import (
    EncoderRecipe,
    check_encoders,
    check_judges,
    refine,
    split_queries,
    train_stage1,
    unread_settings,
    warm_up,
)
from workloads.recipes.synthetic_queries import SYNTHETIC, SYNTHETIC_FOR_ANY
from workloads.run import Run
from workloads.steps.mining import why_nothing_is_added
from workloads.steps.retrieval_report import mining_metrics
from workloads.steps.tables import load_tables
from workloads.studies.grid import FULL, SUFFIX, GridOutcome, GridSettings
from workloads.studies.measured_encoders import METRIC, Measured, measuring_step

STAGE1 = "stage 1 alone"

VARIANTS: dict[str, dict[str, Any]] = {
    FULL: {},
    "no stage 1": {"stage1.enabled": False},
    "stage 2 triplet": {"stage2.train.loss": "triplet"},
    "weights with gradient": {"stage2.train.detach_weights": False},
    "gamma 16": {"stage2.train.gamma": 16},
    "gamma 80": {"stage2.train.gamma": 80},
    "two towers": {"encoder.tied": False},
    "two towers in stage 2": {"stage2.two_towers": True},
    "no taxonomy": {"text.taxonomy_levels": 0},
    "four taxonomy levels": {"text.taxonomy_levels": 4},
    "no misspelt queries": {"spelling.mode": "none"},
    "misspelt in place": {"spelling.mode": "in-place"},
    "misspelt drawn to clean": {"spelling.mode": "regularise"},
    "mined pairs alone": {"mining.with_originals": False},
    "pairs graded anew": {"mining.unjudged": "judge"},
    "graded anew but the ten hardest": {"mining.unjudged": "judge", "mining.skip_top": 10},
    "unjudged as irrelevant": {"mining.unjudged": "irrelevant"},
    "in-batch negatives": {"stage1.train.loss": "infonce", "stage1.train.temperature": INITIAL_TEMPERATURE},
    "temperature of InfoNCE in stage 1": {"stage1.train.temperature": INITIAL_TEMPERATURE},
    "mean over instances": {"stage1.train.reduction": "mean", "stage2.train.reduction": "mean"},
    "synthetic queries": {"synthetic.tables": SYNTHETIC},
    "synthetic queries for any product": {"synthetic.tables": SYNTHETIC_FOR_ANY},
}
"""The settings that each variant changes. `stage 1 alone` is measured on the way to `full`."""


class AblationSettings(GridSettings, EncoderRecipe):
    """The settings of mine-and-refine, and the grid."""

    variants = VARIANTS

    def why_unread(self, name: str) -> str | None:
        """Return why nothing reads what the variant changes; None where something does."""
        unread = unread_settings(self.variant(EncoderRecipe, name, self.seeds[0]))
        changed = self.variants[name]
        return unread[next(iter(changed))] if changed and changed.keys() <= unread.keys() else None


@dataclass(frozen=True)
class AblationOutcome(GridOutcome):
    """The outcome of the ablations of mine-and-refine."""

    def as_table(self) -> Table:
        """Return one row for each variant: nDCG@10, its difference to the full recipe, and the average margin."""
        metrics = self.report.metrics
        title = f"{metrics['queries']} queries of {metrics['data']}, seeds {metrics['seeds']}"
        table = Table("", METRIC, f"minus {FULL}", "average margin", box=None, title=title, title_justify="left")
        for name, values in metrics["variants"].items():
            cells = (values[METRIC], values["minus_full"], values["margin"])
            table.add_row(name, *(with_interval(cell) if cell else "" for cell in cells))
        return table


def recipe(settings: AblationSettings, run: Run) -> AblationOutcome:
    """Train every variant under every seed, then report."""
    variants = [settings.variant(EncoderRecipe, name, settings.seeds[0]) for name in settings.chosen()]
    for name, reason in settings.left_out().items():
        status(f"variant {name!r} is left out: it measures nothing, {reason}")

    def check() -> None:
        check_judges((variant.mining for variant in variants), run.store)
        check_variants(variants, run.store)

    run.check = check
    tables = load_tables(settings.data, run)
    judged = JudgedTables.open(run.store.path(tables.ref))
    encoders: dict[str, list[Artifact]] = {STAGE1: []}
    distrusted: dict[str, str] = {}
    for name in settings.chosen():
        for seed in settings.seeds:
            variant = settings.variant(EncoderRecipe, name, seed)
            data = split_queries(variant, run, tables, judged)
            stage1 = train_stage1(variant, data, warm_up(variant, data, SUFFIX), SUFFIX)
            if name == FULL:
                encoders[STAGE1].append(stage1)
            encoder = refine(variant, data, stage1, SUFFIX)
            if no_pairs := why_mining_adds_nothing(run.store, name, encoder):
                distrusted[name] = no_pairs
                status(f"variant {name!r} is left out: it measures nothing, {no_pairs}")
                break
            encoders.setdefault(name, []).append(encoder)
    kept = {name: made for name, made in encoders.items() if name not in distrusted}
    return AblationOutcome(run, report_step(settings, run, tables, judged, kept, settings.left_out() | distrusted))


def why_mining_adds_nothing(store: Store, name: str, encoder: Artifact) -> str | None:
    """Return why a variant of mining alone can't matter: its judge is not trusted, so no mined pair has a new grade.

    None for other variants, and where the judge is trusted.
    """
    changed = VARIANTS[name]
    if not changed or not all(setting.startswith("mining.") for setting in changed):
        return None
    mined = mining_metrics(store, encoder)
    return why_nothing_is_added(mined) if mined else None


def check_variants(variants: Sequence[EncoderRecipe], store: Store) -> None:
    """Refuse, before any work, settings of a chosen variant that can't work."""
    for variant in variants:
        check_encoders(variant, store)


def report_step(
    settings: AblationSettings,
    run: Run,
    tables: Artifact,
    judged: JudgedTables,
    encoders: Mapping[str, list[Artifact]],
    left_out: Mapping[str, str],
) -> Artifact:
    """Return `report/ablations`: metrics are means over seeds, and intervals are over queries.

    `left_out` are the variants that measure nothing, each with the reason.
    """

    measured = {name: [measuring_step(run, tables, judged, each) for each in made] for name, made in encoders.items()}

    def build(draft: Draft) -> None:
        test = judged.split(TEST)
        found = {name: Measured.read(run.store, made) for name, made in measured.items()}
        full = {FULL: found[FULL]}
        compared = {name: each.compare(full, test, settings.seed) for name, each in found.items()}
        draft.metrics |= {
            "data": tables.name.partition("/")[2],
            "queries": test.queries.num_rows,
            "seeds": list(settings.seeds),
            "left_out": dict(left_out),
            "variants": {
                name: {
                    METRIC: figures[METRIC],
                    "minus_full": None if name == FULL else figures["minus"][FULL],
                    "margin": figures["margin"],
                }
                for name, figures in compared.items()
            },
        }
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    variants: dict[str, Any] = {name: [each.ref for each in made] for name, made in measured.items()}
    described = {"variants": variants, "left_out": dict(left_out)}
    inputs = list({each.ref: each for made in measured.values() for each in made}.values())
    return run.step("report/ablations", build, settings=described, inputs=[tables, *inputs], seed=settings.seed)
