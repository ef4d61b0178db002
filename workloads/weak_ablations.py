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
from raylevance.evaluation.pairs import PAIR_METRICS, auc_difference, evaluate_pairs
from workloads.encode import find_encoder
from workloads.graded_pairs import GradedPairs
from workloads.judged import TEST, TRAIN, Judged
from workloads.relevance_pairs import LabelledPairs
from workloads.scorer import find_scorer
from workloads.sources import load_tables
from workloads.steps import Run
from workloads.tuning import changed
from workloads.weak_baselines import Baselines
from workloads.weak_pairs import weak_pairs_step
from workloads.weak_report import TASKS, Scores, cosines, lexical_scores, plain_texts, scorer_parts, scores_of
from workloads.weak_supervision import RecipeSettings as WeakSettings
from workloads.weak_supervision import behaviour_graph, check_settings, train_scorer, train_weak

FULL, BM25, ZERO_SHOT = "full", "BM25", "zero-shot"
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
"""What is taken from the recipe or added to it in each. The click-trained baseline is what is left without a graph."""


class RecipeSettings(WeakSettings):
    """Those of weak-supervision, the `seeds` of each variant, and the variants beside the full recipe (None: all)."""

    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    only: tuple[str, ...] | None = None

    @field_validator("only")
    @classmethod
    def _known(cls, only: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in only or ():
            if name not in VARIANTS:
                raise ValueError(f"no variant {name!r}; {nearest(name, list(VARIANTS))}")
        return only


@dataclass(frozen=True)
class AblationOutcome:
    """`report/weak-ablations`."""

    run: Run
    report: Artifact

    def as_json(self) -> dict[str, Any]:
        return {"report": self.report.ref, **self.report.metrics}

    def as_table(self) -> Table:
        """A variant a row: the AUC of both tasks with its difference to the full recipe's, F1 and KS of the first."""
        metrics = self.report.metrics
        title = f"{metrics['queries']} test queries of {metrics['data']}, seeds {metrics['seeds']}"
        first, second = TASKS
        names = (f"AUC, {first}", f"minus {FULL}", "F1", "KS", f"AUC, {second}", f"minus {FULL}")
        table = Table("", *names, box=None, pad_edge=False, title=title, title_justify="left")
        table.caption, table.caption_justify = f"behaviour: {metrics['behaviour']}", "left"
        for name, tasks in metrics["variants"].items():
            minus = [
                "" if name == FULL else "{:.3f} [{:.3f}, {:.3f}]".format(*tasks[task]["minus_full"]) for task in TASKS
            ]
            cells = [*(tasks[first][metric] for metric in PAIR_METRICS), tasks[second]["auc"]]
            auc, f1, ks, other = (f"{cell:.3f}" for cell in cells)
            table.add_row(name, auc, minus[0], f1, ks, other, minus[1])
        return table


def recipe(settings: RecipeSettings, run: Run) -> AblationOutcome:
    """Every variant under every seed, then the baselines and the full recipe's scorer, then the report."""
    run.check = partial(check_settings, settings)
    tables = load_tables(settings.data, run)
    judged = Judged.open(run.store.path(tables.ref))
    changes = {name: VARIANTS[name] for name in (FULL, *(VARIANTS if settings.only is None else settings.only))}
    grid = {
        name: [train_variant(settings, run, tables, judged, each, seed) for seed in settings.seeds]
        for name, each in changes.items()
    }
    scorers: list[Artifact] = []
    for seed, weak in zip(settings.seeds, grid[FULL], strict=True):
        baselines, scorer = train_beside(settings, run, tables, judged, weak, seed)
        scorers.append(scorer)
        for name, artifact in baselines.items():
            grid.setdefault(name, []).append(artifact)
    return AblationOutcome(run, report_step(settings, run, tables, judged, grid, scorers))


def train_variant(
    settings: RecipeSettings, run: Run, tables: Artifact, judged: Judged, changes: Mapping[str, Any], seed: int
) -> Artifact:
    """The variant's encoder. A seed decides the simulated clicks, the held-out queries, the walks and the training."""
    variant = with_changes(settings, changes, seed)
    graph, *_ = behaviour_graph(variant, run, tables, judged, f"graph/behaviour{SUFFIX}")
    pairs = weak_pairs_step(run, tables, graph, variant.text, variant.pairs, seed, f"pairs/weak{SUFFIX}")
    return train_weak(variant, run, tables, pairs, f"encoder/weak{SUFFIX}")


def train_beside(
    settings: RecipeSettings, run: Run, tables: Artifact, judged: Judged, weak: Artifact, seed: int
) -> tuple[dict[str, Artifact], Artifact]:
    """The baselines by title, and the scorer on the full recipe's encoder `weak`: of one seed."""
    full = with_changes(settings, VARIANTS[FULL], seed)
    graph, learned, validation = behaviour_graph(full, run, tables, judged, f"graph/behaviour{SUFFIX}")
    common = full.encoder, full.text, run, tables, graph, learned, validation, seed
    baselines = Baselines(full.baselines, *common, SUFFIX).train()
    pairs = run.store.get(next(ref for ref in weak.parents if ref.startswith("pairs/")))
    scorer = train_scorer(full, run, tables, graph, pairs, weak, learned, validation, f"scorer/relevance{SUFFIX}")
    return baselines, scorer


def with_changes(settings: RecipeSettings, changes: Mapping[str, Any], seed: int) -> WeakSettings:
    """The recipe's settings, changed, under `seed`."""
    shared = settings.model_dump(mode="json", exclude={"seeds", "only"})
    return WeakSettings.model_validate(changed(shared, {**changes, "seed": seed}))


def report_step(
    settings: RecipeSettings,
    run: Run,
    tables: Artifact,
    judged: Judged,
    grid: Mapping[str, list[Artifact]],
    scorers: list[Artifact],
) -> Artifact:
    """`report/weak-ablations`: AUC, F1 and KS by task as means over seeds, and the AUC minus the full recipe's."""

    def build(draft: Draft) -> None:
        pairs = GradedPairs.of(judged.of(TEST), settings.text)
        scores = score_all(settings, run, judged, pairs, grid, scorers)
        draft.metrics |= {
            "data": tables.name.partition("/")[2],
            "behaviour": grid[FULL][0].metrics["source"],
            "queries": judged.of(TEST).queries.num_rows,
            "seeds": list(settings.seeds),
            "variants": {
                name: _measured(values, scores[FULL], pairs, settings.seed) for name, values in scores.items()
            },
        }
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    made_from = {"variants": {name: [each.ref for each in made] for name, made in grid.items()}}
    inputs = list({artifact.ref: artifact for made in (*grid.values(), scorers) for artifact in made}.values())
    return run.step("report/weak-ablations", build, settings=made_from, inputs=[tables, *inputs], seed=settings.seed)


def score_all(
    settings: RecipeSettings,
    run: Run,
    judged: Judged,
    pairs: GradedPairs,
    grid: Mapping[str, list[Artifact]],
    scorers: list[Artifact],
) -> dict[str, Scores]:
    """[seeds, pairs] by row of the table; of what has no seed, [1, pairs]."""
    test = judged.of(TEST)
    scores = {name: np.stack([scores_of(run, each, pairs) for each in made]) for name, made in grid.items()}
    parts = []
    for seed, scorer in zip(settings.seeds, scorers, strict=True):
        _, validation = judged.hold_out(TRAIN, settings.validation_fraction, seed)
        parts.append(
            scorer_parts(find_scorer(scorer.ref, run.store), pairs, LabelledPairs.of(validation, settings.text))
        )
    scores |= {f"{FULL}, {part}": np.stack([each[part] for each in parts]) for part in parts[0]}
    untrained = find_encoder(find_encoder(grid[FULL][0].ref, run.store).backbone, run.store)
    scores[ZERO_SHOT] = cosines(untrained, replace(pairs, texts=plain_texts(test, pairs)))[None]
    scores[BM25] = lexical_scores(test, pairs)[None]
    return scores


def _measured(scores: Scores, full: Scores, pairs: GradedPairs, seed: int) -> dict[str, Any]:
    grades, found = np.asarray(pairs.grades), {}
    for task, (relevant, taken) in TASKS.items():
        kept = np.flatnonzero(np.isin(grades, taken))
        labels, queries = (grades[kept] >= relevant).astype(np.int8), [pairs.query_ids[row] for row in kept]
        means = [evaluate_pairs(run, labels) for run in scores[:, kept]]
        found[task] = {metric: float(np.mean([each[metric] for each in means])) for metric in PAIR_METRICS} | {
            "minus_full": auc_difference(scores[:, kept], full[:, kept], labels, queries, seed)
        }
    return found
