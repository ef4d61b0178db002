"""The ablations of weak supervision: the recipe's encoder with one part changed, on judged pairs of test queries.

    raylevance run weak-ablations [--set 'only=[no clusters]'] [--set 'seeds=[0]']

What variants share is made once, and a killed run goes on: every step is an artifact named by what it was made of.
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
from raylevance.data.judged import TEST, Judged
from raylevance.evaluation.pairs import PAIR_METRICS, auc_difference, evaluate_pairs
from raylevance.inference.encoding import find_encoder
from raylevance.inference.scorer import find_scorer
from workloads.recipes.weak_supervision import RecipeSettings as WeakSettings
from workloads.recipes.weak_supervision import behaviour_graph, check_settings, train_scorer, train_weak
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
from workloads.steps.weak_pairs import weak_pairs_step
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
"""What is taken from the recipe or added to it in each. The click-trained baseline is what is left without a graph."""


class RecipeSettings(GridSettings, WeakSettings):
    """Those of weak-supervision, the `seeds` of each variant, and the variants beside the full recipe (None: all)."""

    variants = VARIANTS


@dataclass(frozen=True)
class AblationOutcome(GridOutcome):
    """`report/weak-ablations`."""

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
    """A seed after the other, then the report."""
    run.check = partial(check_settings, settings)
    tables = load_tables(settings.data, run)
    judged = Judged.open(run.store.path(tables.ref))
    pairs = GradedPairs.of(judged.of(TEST), settings.text)
    scored = [row for seed in settings.seeds for row in SeedGrid(settings, run, tables, judged, pairs, seed).scored()]
    return AblationOutcome(run, report_step(settings, run, tables, judged, pairs, scored))


@dataclass(frozen=True)
class SeedGrid:
    """What is trained under one seed, and its scores of `pairs`, the judged ones of test queries.

    A seed decides the simulated clicks, the walks and the training, and what is held out where the data do not say.
    """

    settings: RecipeSettings
    run: Run
    tables: Artifact
    judged: Judged
    pairs: GradedPairs
    seed: int

    def scored(self) -> list[Artifact]:
        """`scores/weak-ablation` of every variant, of every baseline, and of the full recipe's scorer."""
        trained = {name: self.train_variant(name) for name in self.settings.chosen()}
        baselines, scorer = self.train_beside(trained[FULL])
        scores = [self.scores_step(name, artifact, self.one_row) for name, artifact in (trained | baselines).items()]
        return [*scores, self.scores_step(FULL, scorer, self.a_row_a_part)]

    def train_variant(self, name: str) -> Artifact:
        """The variant's encoder."""
        variant = self.settings.variant(WeakSettings, name, self.seed)
        graph, *_ = behaviour_graph(variant, self.run, self.tables, self.judged, f"graph/behaviour{SUFFIX}")
        pairs = weak_pairs_step(
            self.run, self.tables, graph, variant.text, variant.pairs, self.seed, f"pairs/weak{SUFFIX}"
        )
        return train_weak(variant, self.run, self.tables, pairs, f"encoder/weak{SUFFIX}")

    def train_beside(self, weak: Artifact) -> tuple[dict[str, Artifact], Artifact]:
        """The baselines by title, and the scorer on the full recipe's encoder `weak`."""
        full, run, tables = self.settings.variant(WeakSettings, FULL, self.seed), self.run, self.tables
        graph, learned, validation = behaviour_graph(full, run, tables, self.judged, f"graph/behaviour{SUFFIX}")
        common = full.encoder, full.text, run, tables, graph, learned, validation, self.seed
        baselines = Baselines(full.baselines, *common, SUFFIX).train()
        pairs = run.store.get(next(ref for ref in weak.parents if ref.startswith("pairs/")))
        scorer = train_scorer(full, run, tables, graph, pairs, weak, learned, validation, f"scorer/relevance{SUFFIX}")
        return baselines, scorer

    def scores_step(
        self, name: str, trained: Artifact, score: Callable[[str, Artifact], Mapping[str, Scores]]
    ) -> Artifact:
        """`scores/weak-ablation`: a column for each row of the table that `trained` stands for."""

        def build(draft: Draft) -> None:
            pq.write_table(pa.table(dict(score(name, trained))), draft.path / SCORES)

        return self.run.step(f"scores/weak{SUFFIX}", build, settings={"row": name}, inputs=[self.tables, trained])

    def one_row(self, name: str, trained: Artifact) -> Mapping[str, Scores]:
        return {name: scores_of(self.run, trained, self.pairs)}

    def a_row_a_part(self, name: str, scorer: Artifact) -> Mapping[str, Scores]:
        _, validation = self.judged.train_and_validation(self.settings.validation_fraction, self.seed)
        labelled = LabelledPairs.of(validation, self.settings.text)
        parts = scorer_parts(find_scorer(scorer.ref, self.run.store), self.pairs, labelled)
        return {f"{name}, {part}": values for part, values in parts.items()}


def report_step(
    settings: RecipeSettings,
    run: Run,
    tables: Artifact,
    judged: Judged,
    pairs: GradedPairs,
    scored: list[Artifact],
) -> Artifact:
    """`report/weak-ablations`: AUC, F1 and KS by task as means over seeds, and the AUC minus the full recipe's."""

    def build(draft: Draft) -> None:
        scores = rows_of_the_table(settings, run, judged.of(TEST), pairs, scored)
        full_encoder = run.store.get(scored[0].parents[-1])
        draft.metrics |= {
            "data": tables.name.partition("/")[2],
            "behaviour": full_encoder.metrics["source"],
            "queries": judged.of(TEST).queries.num_rows,
            "seeds": list(settings.seeds),
            "variants": {
                name: _measured(values, scores[FULL], pairs, settings.seed) for name, values in scores.items()
            },
        }
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    made_from = {"rows": [each.ref for each in scored]}
    return run.step("report/weak-ablations", build, settings=made_from, inputs=[tables, *scored], seed=settings.seed)


def rows_of_the_table(
    settings: RecipeSettings, run: Run, test: Judged, pairs: GradedPairs, scored: list[Artifact]
) -> dict[str, Scores]:
    """[seeds, pairs] by row; of what has no seed, [1, pairs]."""
    rows: dict[str, list[Scores]] = {}
    for artifact in scored:
        for name, values in pq.read_table(run.store.path(artifact.ref) / SCORES).to_pydict().items():
            rows.setdefault(name, []).append(np.asarray(values))
    untrained = find_encoder(settings.encoder.backbone, run.store)
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
