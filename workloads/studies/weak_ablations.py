"""The ablations of weak supervision: the recipe's encoder with one part changed, on judged pairs of test queries.

    raylevance run weak-ablations [--set 'only=[no clusters]'] [--set 'seeds=[0]']

Steps that variants share are made once, and a killed run continues, because the store finds a step by its inputs.
Publishes `report/weak-ablations`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from raylevance.artifacts import Artifact, Draft
from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged_tables import TEST, JudgedTables
from raylevance.evaluation.pair_metrics import PAIR_METRICS, auc_difference, evaluate_pairs
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.scorer import load as load_scorer
from workloads.recipes.weak_supervision import (
    WeakSupervisionSettings,
    build_behaviour_graph,
    check_settings,
    sample_pairs,
    train_scorer,
    train_weak,
)
from workloads.run import Run
from workloads.steps.pair_scores import (
    TASKS,
    Scores,
    by_task,
    cosines,
    lexical_scores,
    plain_texts,
    scorer_parts,
    scores_of,
)
from workloads.steps.relevance_pairs import LabelledPairs
from workloads.steps.tables import load_tables
from workloads.steps.weak_baselines import Baselines
from workloads.studies.grid import FULL, SUFFIX, GridOutcome, GridSettings

BM25, ZERO_SHOT = "BM25", "zero-shot"
SCORES = "scores.parquet"

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
"""The settings that each variant changes. The click-trained baseline is the variant without a graph."""


class WeakAblationSettings(GridSettings, WeakSupervisionSettings):
    """The settings of weak-supervision, and the grid."""

    variants = VARIANTS


@dataclass(frozen=True)
class AblationOutcome(GridOutcome):
    """The outcome of the ablations of weak-supervision."""

    def as_table(self) -> Table:
        """Return one row for each variant: AUC of both tasks, its difference to `full`, F1 and KS of the first task."""
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


def recipe(settings: WeakAblationSettings, run: Run) -> AblationOutcome:
    """Train and score everything under one seed after the other, then report."""
    run.check = partial(check_settings, settings)
    tables = load_tables(settings.data, run)
    judged = JudgedTables.open(run.store.path(tables.ref))
    pairs = GradedPairs.from_tables(judged.split(TEST), settings.text)
    scored = [row for seed in settings.seeds for row in SeedGrid(settings, run, tables, judged, pairs, seed).scored()]
    return AblationOutcome(run, report_step(settings, run, tables, judged, pairs, scored))


@dataclass(frozen=True)
class SeedGrid:
    """Trains everything under one seed and scores `pairs`, the judged pairs of test queries.

    A seed decides the simulated clicks, the walks, the training, and the validation queries where the data has none.
    """

    settings: WeakAblationSettings
    run: Run
    tables: Artifact
    judged: JudgedTables
    pairs: GradedPairs
    seed: int

    def scored(self) -> list[Artifact]:
        """Return `scores/weak-ablation` of every variant, of every baseline, and of the scorer of the full recipe."""
        trained = {name: self.train_variant(name) for name in self.settings.chosen()}
        baselines, scorer = self.train_beside(trained[FULL])
        scores = [self.scores_step(name, artifact, self.one_row) for name, artifact in (trained | baselines).items()]
        return [*scores, self.scores_step(FULL, scorer, self.a_row_a_part)]

    def train_variant(self, name: str) -> Artifact:
        """Train and return the encoder of the variant."""
        variant = self.settings.variant(WeakSupervisionSettings, name, self.seed)
        data = build_behaviour_graph(variant, self.run, self.tables, self.judged, SUFFIX)
        return train_weak(variant, data, sample_pairs(variant, data, SUFFIX), SUFFIX)

    def train_beside(self, weak: Artifact) -> tuple[dict[str, Artifact], Artifact]:
        """Train and return the baselines by title, and the scorer on the full recipe's encoder `weak`."""
        full = self.settings.variant(WeakSupervisionSettings, FULL, self.seed)
        data = build_behaviour_graph(full, self.run, self.tables, self.judged, SUFFIX)
        baselines = Baselines(full.baselines, data, SUFFIX).train()
        pairs = self.run.store.get(next(ref for ref in weak.parents if ref.startswith("pairs/")))
        return baselines, train_scorer(full, data, pairs, weak, SUFFIX)

    def scores_step(
        self, name: str, trained: Artifact, score: Callable[[str, Artifact], Mapping[str, Scores]]
    ) -> Artifact:
        """Return `scores/weak-ablation`: one column of scores for each row of the table that `trained` gives."""

        def build(draft: Draft) -> None:
            pq.write_table(pa.table(dict(score(name, trained))), draft.path / SCORES)

        return self.run.step(f"scores/weak{SUFFIX}", build, settings={"row": name}, inputs=[self.tables, trained])

    def one_row(self, name: str, trained: Artifact) -> Mapping[str, Scores]:
        """Return the scores of one model as one row."""
        return {name: scores_of(self.run, trained, self.pairs)}

    def a_row_a_part(self, name: str, scorer: Artifact) -> Mapping[str, Scores]:
        """Return the scores of each part of a scorer as a row of its own."""
        _, validation = self.judged.train_and_validation(self.settings.validation_fraction, self.seed)
        labelled = LabelledPairs.of(validation, self.settings.text)
        parts = scorer_parts(load_scorer(self.run.store, scorer.ref), self.pairs, labelled)
        return {f"{name}, {part}": values for part, values in parts.items()}


def report_step(
    settings: WeakAblationSettings,
    run: Run,
    tables: Artifact,
    judged: JudgedTables,
    pairs: GradedPairs,
    scored: list[Artifact],
) -> Artifact:
    """Return `report/weak-ablations`: means of AUC, F1 and KS over seeds by task, and differences in AUC to `full`."""

    def build(draft: Draft) -> None:
        scores = rows_of_the_table(settings, run, judged.split(TEST), pairs, scored)
        full_encoder = run.store.get(scored[0].parents[-1])
        draft.metrics |= {
            "data": tables.name.partition("/")[2],
            "behaviour": full_encoder.metrics["source"],
            "queries": judged.split(TEST).queries.num_rows,
            "seeds": list(settings.seeds),
            "variants": {
                name: _measured(values, scores[FULL], pairs, settings.seed) for name, values in scores.items()
            },
        }
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    compared = {"rows": [each.ref for each in scored]}
    return run.step("report/weak-ablations", build, settings=compared, inputs=[tables, *scored], seed=settings.seed)


def rows_of_the_table(
    settings: WeakAblationSettings, run: Run, test: JudgedTables, pairs: GradedPairs, scored: list[Artifact]
) -> dict[str, Scores]:
    """Return the scores [seeds, pairs] of each row of the table; [1, pairs] for systems that have no seed."""
    rows: dict[str, list[Scores]] = {}
    for artifact in scored:
        for name, values in pq.read_table(run.store.path(artifact.ref) / SCORES).to_pydict().items():
            rows.setdefault(name, []).append(np.asarray(values))
    untrained = load_encoder(run.store, settings.encoder.backbone)
    rows[ZERO_SHOT] = [cosines(untrained, replace(pairs, texts=plain_texts(test, pairs)))]
    rows[BM25] = [lexical_scores(test, pairs)]
    return {name: np.stack(values) for name, values in rows.items()}


def _measured(scores: Scores, full: Scores, pairs: GradedPairs, seed: int) -> dict[str, Any]:
    found = {}
    for task, kept, labels, queries in by_task(pairs):
        means = [evaluate_pairs(run, labels) for run in scores[:, kept]]
        found[task] = {metric: float(np.mean([each[metric] for each in means])) for metric in PAIR_METRICS} | {
            "minus_full": auc_difference(scores[:, kept], full[:, kept], labels, queries, seed)
        }
    return found
