"""The ablations of weak supervision: the recipe's encoder with one part changed, on judged pairs of test queries.

    raylevance run weak-ablations [--set 'only=[no clusters]'] [--set 'seeds=[0]']

Steps that variants share are made once, and a killed run continues, because the store finds a step by its inputs.
Publishes `report/weak-ablations`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from raylevance.artifacts import Artifact, Draft, fingerprint
from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged_tables import TEST, JudgedTables
from raylevance.evaluation.pair_metrics import PAIR_METRICS, auc_difference, evaluate_pairs
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.scorer import load as load_scorer
from raylevance.progress import status
from workloads.readable import with_interval
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
    thresholds,
)
from workloads.steps.relevance_pairs import LabelledPairs
from workloads.steps.tables import load_tables
from workloads.steps.weak_baselines import Baselines
from workloads.studies.grid import FULL, SUFFIX, GridOutcome, GridSettings

BM25, ZERO_SHOT = "BM25", "zero-shot"
SCORES, VALIDATION_SCORES = "scores.parquet", "validation_scores.parquet"

Rows = dict[str, list[Scores]]
"""The scores of each row of the table, [pairs] for each seed."""

VARIANTS: dict[str, dict[str, Any]] = {
    FULL: {},
    "masks of neighbours alone": {"pairs.related": None},
    "no clusters": {"moco.cluster_weight": 0.0},
    "walks of the first order": {"pairs.walks.p": 1.0, "pairs.walks.q": 1.0},
    "hard negatives for easy ones": {"pairs.pairs.hard": 1, "pairs.pairs.easy": 0},
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
            minus = ["" if name == FULL else with_interval(tasks[task]["minus_full"]) for task in TASKS]
            cells = [*(tasks[first][metric] for metric in PAIR_METRICS), tasks[second]["auc"]]
            auc, f1, ks, other = (f"{cell:.3f}" for cell in cells)
            table.add_row(name, auc, minus[0], f1, ks, other, minus[1])
        return table


def recipe(settings: WeakAblationSettings, run: Run) -> AblationOutcome:
    """Train and score everything under one seed after the other, then report."""
    for name, reason in settings.left_out().items():
        status(f"variant {name!r} is left out: it measures nothing, {reason}")
    run.check = partial(check_settings, settings, run.store)
    tables = load_tables(settings.data, run)
    judged = JudgedTables.open(run.store.path(tables.ref))
    grids = [SeedGrid(settings, run, tables, judged, seed) for seed in settings.seeds]
    scored = [grid.scored() for grid in grids]
    return AblationOutcome(run, report_step(grids, scored))


@dataclass(frozen=True)
class SeedGrid:
    """Trains everything under one seed and scores the judged pairs of test and of validation queries.

    A seed decides the simulated clicks, the walks, the training, and the validation queries where the data has none.
    """

    settings: WeakAblationSettings
    run: Run
    tables: Artifact
    judged: JudgedTables
    seed: int

    def validation(self) -> JudgedTables:
        """Return the validation queries of the seed, on which the thresholds of F1 are chosen."""
        return self.judged.train_and_validation(self.settings.validation_fraction, self.seed)[1]

    def graded(self, judged: JudgedTables) -> GradedPairs:
        """Return the judged pairs of `judged` with the texts that the recipe composes."""
        return GradedPairs.from_tables(judged, self.settings.text)

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
        self, name: str, trained: Artifact, score: Callable[[str, Artifact, GradedPairs], Mapping[str, Scores]]
    ) -> Artifact:
        """Return `scores/weak-ablation`: one column of scores for each row of the table that `trained` gives."""
        validation = self.validation()

        def build(draft: Draft) -> None:
            for file, judged in ((SCORES, self.judged.split(TEST)), (VALIDATION_SCORES, validation)):
                pq.write_table(pa.table(dict(score(name, trained, self.graded(judged)))), draft.path / file)

        settings = {"row": name, "validation": fingerprint(validation.queries["query_id"].to_pylist())}
        return self.run.step(f"scores/weak{SUFFIX}", build, settings=settings, inputs=[self.tables, trained])

    def one_row(self, name: str, trained: Artifact, pairs: GradedPairs) -> Mapping[str, Scores]:
        """Return the scores of one model as one row."""
        return {name: scores_of(self.run, trained, pairs)}

    def a_row_a_part(self, name: str, scorer: Artifact, pairs: GradedPairs) -> Mapping[str, Scores]:
        """Return the scores of each part of a scorer as a row of its own."""
        labelled = LabelledPairs.of(self.validation(), self.settings.text)
        parts = scorer_parts(load_scorer(self.run.store, scorer.ref), pairs, labelled)
        return {f"{name}, {part}": values for part, values in parts.items()}


def report_step(grids: Sequence[SeedGrid], scored: Sequence[list[Artifact]]) -> Artifact:
    """Return `report/weak-ablations`: means of AUC, F1 and KS over seeds by task, and differences in AUC to `full`.

    `scored` are the scores of each of `grids`. The threshold of F1 is chosen on the validation queries of each seed.
    """
    first = grids[0]
    settings, run, tables = first.settings, first.run, first.tables
    artifacts = [artifact for row in scored for artifact in row]

    def build(draft: Draft) -> None:
        test = first.judged.split(TEST)
        pairs, held_out = first.graded(test), [grid.graded(grid.validation()) for grid in grids]
        found = {name: np.stack(values) for name, values in rows_of_the_table(first, test, pairs, scored).items()}
        validation = validation_rows(grids, held_out, scored)
        full_encoder = run.store.get(scored[0][0].parents[-1])
        draft.metrics |= {
            "data": tables.name.partition("/")[2],
            "behaviour": full_encoder.metrics["source"],
            "queries": test.queries.num_rows,
            "seeds": list(settings.seeds),
            "variants": {
                name: _measured(
                    values,
                    found[FULL],
                    [thresholds(*each) for each in zip(validation[name], held_out, strict=True)],
                    pairs,
                    settings.seed,
                )
                for name, values in found.items()
            },
        }
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    compared = {"rows": [each.ref for each in artifacts], "f1_thresholds": "validation"}
    return run.step("report/weak-ablations", build, settings=compared, inputs=[tables, *artifacts], seed=settings.seed)


def rows_of_the_table(
    grid: SeedGrid, judged: JudgedTables, pairs: GradedPairs, scored: Sequence[list[Artifact]], file: str = SCORES
) -> Rows:
    """Return the scores of `pairs`, the judged pairs of `judged`, in each row of the table.

    A row has scores for each list of `scored`, of one seed each, as `file` holds them; systems that have no seed have
    one.
    """
    rows: Rows = {}
    for artifact in (each for one_seed in scored for each in one_seed):
        for name, values in pq.read_table(grid.run.store.path(artifact.ref) / file).to_pydict().items():
            rows.setdefault(name, []).append(np.asarray(values))
    untrained = load_encoder(grid.run.store, grid.settings.encoder.backbone)
    rows[ZERO_SHOT] = [cosines(untrained, replace(pairs, texts=plain_texts(judged, pairs)))]
    rows[BM25] = [lexical_scores(judged, pairs)]
    return rows


def validation_rows(
    grids: Sequence[SeedGrid], held_out: Sequence[GradedPairs], scored: Sequence[list[Artifact]]
) -> Rows:
    """Return the scores of `held_out`, the validation pairs of each of `grids`, as `rows_of_the_table` does.

    Systems without a seed are scored on the pairs of the first seed too, and their threshold is chosen there.
    """
    rows: Rows = {}
    for grid, pairs, one_seed in zip(grids, held_out, scored, strict=True):
        for name, values in rows_of_the_table(grid, grid.validation(), pairs, [one_seed], VALIDATION_SCORES).items():
            rows.setdefault(name, []).extend(values)
    return rows


def _measured(
    scores: Scores, full: Scores, chosen: Sequence[Mapping[str, float]], pairs: GradedPairs, seed: int
) -> dict[str, Any]:
    """Return the metrics of `scores` [seeds, pairs], with the thresholds that were `chosen` for each seed, by task."""
    found = {}
    for task, kept, labels, queries in by_task(pairs):
        each_run = [evaluate_pairs(run, labels, at[task]) for run, at in zip(scores[:, kept], chosen, strict=False)]
        found[task] = {metric: float(np.mean([each[metric] for each in each_run])) for metric in PAIR_METRICS} | {
            "minus_full": auc_difference(scores[:, kept], full[:, kept], labels, queries, seed)
        }
    return found
