"""The ablations of weak supervision: the recipe's encoder with one part changed, on judged pairs of test queries.

    raylevance run weak-ablations [--set 'only=[no clusters]'] [--set 'seeds=[0]']

What variants share is made once, and a killed run goes on: every step is an artifact named by what it was made of.
Publishes `report/weak-ablations`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from pydantic import Field, field_validator
from rich.table import Table

from raylevance.artifacts import Artifact, Draft
from raylevance.errors import nearest
from raylevance.evaluation.pairs import auc_difference, mean_auc
from workloads.encode import find_encoder
from workloads.graded_pairs import GradedPairs
from workloads.judged import TEST, Judged
from workloads.sources import load_tables
from workloads.steps import Run
from workloads.tuning import changed
from workloads.weak_baselines import Baselines
from workloads.weak_pairs import weak_pairs_step
from workloads.weak_report import TASKS, Scores, cosines, plain_texts
from workloads.weak_supervision import RecipeSettings as WeakSettings
from workloads.weak_supervision import behaviour_graph, check_settings, train_weak

FULL, CLICKS, ZERO_SHOT = "full", "raw clicks, no graph", "zero-shot"
SUFFIX = "-ablation"
"""Of the artifacts' names: the newest of the others stay what they were."""

VARIANTS: dict[str, dict[str, Any]] = {
    FULL: {},
    "masks of neighbours alone": {"pairs.related": None},
    "no clusters": {"moco.cluster_weight": 0.0},
    "walks of the first order": {"pairs.walks.p": 1.0, "pairs.walks.q": 1.0},
    "hard negatives for easy ones": {"pairs.pairs.hard": 1, "pairs.pairs.easy": 0},
    "semi-hard negatives for easy ones": {"pairs.pairs.semi_hard": 1, "pairs.pairs.easy": 0},
    "with mix-up": {"moco.mixup": 0.2},
    "with adversarial noise": {"moco.fgm": 1.0},
}
"""What is taken from the recipe or added to it in each. `CLICKS` is trained by in-batch InfoNCE on clicked pairs;
`ZERO_SHOT` not at all."""


class RecipeSettings(WeakSettings):
    """Those of weak-supervision, the `seeds` of each variant, and the variants (None: all)."""

    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    only: tuple[str, ...] | None = None

    @field_validator("only")
    @classmethod
    def _known(cls, only: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in only or ():
            if name not in (*VARIANTS, CLICKS):
                raise ValueError(f"no variant {name!r}; {nearest(name, [*VARIANTS, CLICKS])}")
        return only


@dataclass(frozen=True)
class AblationOutcome:
    """`report/weak-ablations`."""

    run: Run
    report: Artifact

    def as_json(self) -> dict[str, Any]:
        return {"report": self.report.ref, **self.report.metrics}

    def as_table(self) -> Table:
        """A variant a row: the AUC of both tasks, and its difference to the full recipe's."""
        metrics = self.report.metrics
        title = f"{metrics['queries']} test queries of {metrics['data']}, seeds {metrics['seeds']}"
        names = [cell for task in TASKS for cell in (f"AUC, {task}", f"minus {FULL}")]
        table = Table("", *names, box=None, pad_edge=False, title=title, title_justify="left")
        table.caption, table.caption_justify = f"behaviour: {metrics['behaviour']}", "left"
        for name, tasks in metrics["variants"].items():
            cells = []
            for values in tasks.values():
                minus = "" if name == FULL else "{:.3f} [{:.3f}, {:.3f}]".format(*values["minus_full"])
                cells += [f"{values['auc']:.3f}", minus]
            table.add_row(name, *cells)
        return table


def recipe(settings: RecipeSettings, run: Run) -> AblationOutcome:
    """Every variant under every seed, then the report."""
    run.check = partial(check_settings, settings)
    tables = load_tables(settings.data, run)
    judged = Judged.open(run.store.path(tables.ref))
    chosen = settings.only or (*VARIANTS, CLICKS)
    encoders: dict[str, list[Artifact]] = {}
    for name in dict.fromkeys((FULL, *chosen)):
        for seed in settings.seeds:
            encoders.setdefault(name, []).append(train_variant(settings, run, tables, judged, name, seed))
    return AblationOutcome(run, report_step(settings, run, tables, judged.of(TEST), encoders))


def train_variant(
    settings: RecipeSettings, run: Run, tables: Artifact, judged: Judged, name: str, seed: int
) -> Artifact:
    """The variant's encoder. A seed decides the simulated clicks, the held-out queries, the walks and the training."""
    shared = settings.model_dump(mode="json", exclude={"seeds", "only"})
    variant = WeakSettings.model_validate(changed(shared, {**VARIANTS.get(name, {}), "seed": seed}))
    graph, learned, validation = behaviour_graph(variant, run, tables, judged, f"graph/behaviour{SUFFIX}")
    if name == CLICKS:
        common = variant.encoder, variant.text, run, tables, graph, learned, validation, seed
        return Baselines(variant.baselines, *common).clicks(f"encoder/clicks{SUFFIX}")
    pairs = weak_pairs_step(run, tables, graph, variant.text, variant.pairs, seed, f"pairs/weak{SUFFIX}")
    return train_weak(variant, run, tables, pairs, f"encoder/weak{SUFFIX}")


def report_step(
    settings: RecipeSettings, run: Run, tables: Artifact, test: Judged, encoders: Mapping[str, list[Artifact]]
) -> Artifact:
    """`report/weak-ablations`: AUC by task, the mean over seeds, and its difference to the full recipe's."""

    def build(draft: Draft) -> None:
        pairs = GradedPairs.of(test, settings.text)
        scores: dict[str, Scores] = {
            name: np.stack([cosines(find_encoder(encoder.ref, run.store), pairs) for encoder in made])
            for name, made in encoders.items()
        }
        untrained = find_encoder(find_encoder(encoders[FULL][0].ref, run.store).backbone, run.store)
        scores[ZERO_SHOT] = cosines(untrained, replace(pairs, texts=plain_texts(test, pairs)))[None]
        draft.metrics |= {
            "data": tables.name.partition("/")[2],
            "behaviour": encoders[FULL][0].metrics["source"],
            "queries": test.queries.num_rows,
            "seeds": list(settings.seeds),
            "variants": {
                name: _measured(values, scores[FULL], pairs, settings.seed) for name, values in scores.items()
            },
        }
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    made_from = {"variants": {name: [encoder.ref for encoder in made] for name, made in encoders.items()}}
    inputs = list({artifact.ref: artifact for made in encoders.values() for artifact in made}.values())
    return run.step("report/weak-ablations", build, settings=made_from, inputs=[tables, *inputs], seed=settings.seed)


def _measured(scores: Scores, full: Scores, pairs: GradedPairs, seed: int) -> dict[str, Any]:
    grades, found = np.asarray(pairs.grades), {}
    for task, (relevant, taken) in TASKS.items():
        kept = np.flatnonzero(np.isin(grades, taken))
        labels, queries = (grades[kept] >= relevant).astype(np.int8), [pairs.query_ids[row] for row in kept]
        minus = auc_difference(scores[:, kept], full[:, kept], labels, queries, seed)
        found[task] = {"auc": mean_auc(scores[:, kept], labels), "minus_full": minus}
    return found
