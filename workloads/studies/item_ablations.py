"""What each part of item retrieval is worth (GCL-MO, arXiv 2307.04322): the recipe with one setting changed at a time.

    raylevance run item-ablations --set data.source=alibaba [--set 'only=[AP loss]'] [--set 'seeds=[0]']

Every variant is trained on the log before the test part and measured on the requests of the test part, as the recipe
is. Steps that variants share are made once, and a killed run continues. Publishes `report/item-ablations`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from pydantic import ValidationError, model_validator
from rich.table import Table

from raylevance.artifacts import Artifact, Draft
from raylevance.errors import RaylevanceError
from raylevance.evaluation.intervals import bootstrap_mean, paired_difference
from raylevance.models.item_encoder import ItemEncoder
from raylevance.models.item_features import ItemVocabulary
from raylevance.progress import status
from workloads.readable import with_interval
from workloads.recipes.item_retrieval import (
    ItemRecipe,
    check_settings,
    item_table,
    weights_without_edges,
)
from workloads.run import Run
from workloads.steps.item_data import ItemData, held_out_requests_step, text_step
from workloads.steps.item_measures import Values, read_per_request
from workloads.steps.item_report import MODEL, PER_REQUEST, report_step
from workloads.steps.tables import load_tables
from workloads.studies.grid import FULL, SUFFIX, GridOutcome, GridSettings

METRICS = ("recall@50", "recall@200", "recall_p@50", "recall_p@200", "good@50", "tail@50")

VARIANTS: dict[str, dict[str, Any]] = {
    FULL: {},
    "AP loss": {"train.loss": "other-positives"},
    "without relevance": {"train.weights.relevance": 0.0},
    "without exposure": {"train.weights.exposure": 0.0},
    "without click": {"train.weights.click": 0.0},
    "without purchase": {"train.weights.purchase": 0.0},
    "purchase twice": {"train.weights.purchase": 2.0},
    "objective level alone": {"encoder.neighbours": False},
    "without views": {"train.drop_nodes": 0.0, "train.perturb_edges": 0.0, "train.self_weight": 0.0},
    "without ids": {"encoder.ids": False},
    "tau 0.05": {"train.temperature": 0.05},
    "tau 0.2": {"train.temperature": 0.2},
    "mixed negatives": {"train.mixed_negatives": 32},
    "histories": {"train.histories": 256},
}
"""The settings that each variant changes. The neighbour level alone is the baseline `neighbours` of the report."""


class ItemAblationSettings(GridSettings, ItemRecipe):
    """The settings of item-retrieval and the grid."""

    variants = VARIANTS

    @model_validator(mode="after")
    def _measures_variants_alone(self) -> Self:
        for name in ("baselines", "refit", "report_item"):
            if getattr(self, name) != ItemRecipe.model_fields[name].default:
                raise ValueError(f"{name}: the ablations don't read it; leave it out")
        return self

    def why_unread(self, name: str) -> str | None:
        """Return why a variant can't be trained beside the other settings; None where it can."""
        try:
            self.validated(ItemRecipe, name, self.seeds[0])
        except ValidationError as error:
            return error.errors()[0]["msg"].removeprefix("Value error, ")
        return None


@dataclass(frozen=True)
class ItemAblationOutcome(GridOutcome):
    """The outcome of the grid."""

    def as_table(self) -> Table:
        """Return one row for each variant: means over seeds, and their differences to the full recipe."""
        metrics = self.report.metrics
        title = f"{metrics['requests']} requests of {metrics['data']}, seeds {metrics['seeds']}; minus {FULL} below"
        table = Table("", *METRICS, box=None, title=title, title_justify="left")
        for name, row in metrics["variants"].items():
            cells = (with_interval(row[metric]) if metric in row else "" for metric in METRICS)
            table.add_row(name, *cells)
            if name != FULL:
                minus = row["minus_full"]
                cells = ("{:+.3f} [{:+.3f}, {:+.3f}]".format(*minus[m]) if m in minus else "" for m in METRICS)
                table.add_row("", *cells)
        return table


def recipe(settings: ItemAblationSettings, run: Run) -> ItemAblationOutcome:
    """Train and measure every variant under every seed, then report."""
    first = settings.variant(ItemRecipe, FULL, settings.seeds[0])
    run.check = partial(check_settings, first, run.store)
    tables = load_tables(settings.data, run)
    data = ItemData.open(run, tables, settings.graph, settings.split)
    requests = held_out_requests_step(data, f"items-test{SUFFIX}")
    left_out = settings.left_out() | without_features(settings, data)
    for name, reason in left_out.items():
        status(f"{name}: left out: {reason}")
    reports: dict[str, list[Artifact]] = {}
    for seed in settings.seeds:
        for name in settings.chosen():
            if name in left_out:
                continue
            status(f"{name}, seed {seed}")
            variant = settings.variant(ItemRecipe, name, seed)
            texts = text_step(data, variant.encoder.text, "items-text") if variant.encoder.text else None
            graph, table = item_table(variant, data, data.cut, texts, f"items{SUFFIX}")
            if name == FULL:
                unread = weights_without_edges(graph)
                reasons = {each: why_without_effect(VARIANTS[each], unread) for each in settings.chosen()}
                unmeasured = {each: reason for each, reason in reasons.items() if reason and each not in left_out}
                for each, reason in unmeasured.items():
                    status(f"{each}: left out: {reason}")
                left_out |= unmeasured
            made = report_step(data, graph, requests, texts, {MODEL: table}, (), seed, f"items{SUFFIX}")
            reports.setdefault(name, []).append(made)
    return ItemAblationOutcome(run, summary_step(settings, run, tables, reports, left_out))


def without_features(settings: ItemAblationSettings, data: ItemData) -> dict[str, str]:
    """Return the variants whose encoder would read nothing that the items of `data` have, each with the reason."""
    vocabulary = ItemVocabulary.of(data.products)
    found = {}
    for name in settings.chosen():
        encoder = settings.variant(ItemRecipe, name, settings.seeds[0]).encoder
        try:
            ItemEncoder(encoder, vocabulary, items=1, text_size=int(encoder.text is not None))
        except RaylevanceError as error:
            if name == FULL:
                raise
            found[name] = str(error)
    return found


def why_without_effect(changed: Mapping[str, Any], unread: Mapping[str, str]) -> str | None:
    """Return why a variant changes nothing that is read: the reason for its first setting, if all are in `unread`."""
    return unread[next(iter(changed))] if changed and changed.keys() <= unread.keys() else None


def summary_step(
    settings: ItemAblationSettings,
    run: Run,
    tables: Artifact,
    reports: Mapping[str, list[Artifact]],
    left_out: Mapping[str, str],
) -> Artifact:
    """Return `report/item-ablations`: means over seeds of each metric, with intervals over requests.

    `left_out` are the variants that would measure nothing, each with the reason.
    """

    def build(draft: Draft) -> None:
        measured = {name: mean_over_seeds(run, made) for name, made in reports.items()}
        rows: dict[str, Any] = {}
        for name, values in measured.items():
            shown = [metric for metric in METRICS if len(present(values[metric]))]
            rows[name] = {metric: list(bootstrap_mean(present(values[metric]), settings.seed)) for metric in shown}
            if name != FULL:
                rows[name]["minus_full"] = {
                    metric: list(
                        paired_difference(present(values[metric]), present(measured[FULL][metric]), settings.seed)
                    )
                    for metric in shown
                }
        draft.metrics |= {
            "data": tables.name.partition("/")[2],
            "requests": reports[FULL][0].metrics["requests"],
            "seeds": list(settings.seeds),
            "variants": rows,
            "left_out": left_out,
        }
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    inputs = list({made.ref: made for each in reports.values() for made in each}.values())
    described = {name: [made.ref for made in each] for name, each in reports.items()}
    return run.step("report/item-ablations", build, settings=described, inputs=[tables, *inputs], seed=settings.seed)


def mean_over_seeds(run: Run, reports: list[Artifact]) -> dict[str, Values]:
    """Return the metrics of each request, a mean over the reports of several seeds."""
    found = [read_per_request(run.store.path(made.ref) / PER_REQUEST, MODEL) for made in reports]
    return {metric: np.mean(np.stack([values[metric] for values in found]), axis=0) for metric in METRICS}


def present(values: Values) -> Values:
    """Return the values of the requests that have the metric; which these are is the same for every system."""
    return np.asarray(values[~np.isnan(values)], np.float64)
