"""`report/weak-supervision`: every scorer on the judged pairs of the test queries: AUC, F1 and KS with intervals."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.table import Table

from raylevance.artifacts import Artifact, Draft
from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged import Judged
from raylevance.data.text import ProductText
from raylevance.evaluation.pairs import PAIR_METRICS, bootstrap_pairs
from raylevance.inference.encoding import find_encoder
from raylevance.inference.scorer import find_scorer
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


@dataclass(frozen=True)
class WeakOutcome:
    """The report of a run."""

    run: Run
    report: Artifact

    def as_json(self) -> dict[str, Any]:
        artifacts = {artifact.name: artifact.ref for artifact in self.run.made}
        return {"artifacts": artifacts, **self.report.metrics}

    def as_table(self) -> Table:
        """A scorer a row: AUC of both tasks, F1 and KS of the first."""
        metrics = self.report.metrics
        title = f"{metrics['queries']} test queries of {metrics['data']}; behaviour: {metrics['behaviour']}"
        first, second = TASKS
        table = Table("", f"AUC, {first}", "F1", "KS", f"AUC, {second}", box=None, title=title, title_justify="left")
        for name, tasks in metrics["scorers"].items():
            cells = [*(tasks[first][metric] for metric in PAIR_METRICS), tasks[second]["auc"]]
            table.add_row(name, *("{:.3f} [{:.3f}, {:.3f}]".format(*cell) for cell in cells))
        return table


def report_step(
    run: Run,
    tables: Artifact,
    graph: Artifact,
    weak: Artifact,
    scorer: Artifact,
    baselines: Mapping[str, Artifact],
    test: Judged,
    validation: Judged,
    text: ProductText,
    seed: int,
) -> Artifact:
    """`report/weak-supervision`. Intervals are over resampled queries."""

    def build(draft: Draft) -> None:
        pairs = GradedPairs.of(test, text)
        scores = score_all(run, weak, scorer, baselines, test, pairs, LabelledPairs.of(validation, text), seed)
        draft.metrics |= {
            "data": tables.name.partition("/")[2],
            "behaviour": graph.metrics["source"],
            "queries": test.queries.num_rows,
            "pairs": len(pairs.grades),
            "seed": seed,
            "scorers": {name: _measured(values, pairs, seed) for name, values in scores.items()},
        }
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    inputs = [tables, graph, weak, scorer, *baselines.values()]
    made_from = {"baselines": {name: artifact.ref for name, artifact in baselines.items()}}
    return run.step("report/weak-supervision", build, settings=made_from, inputs=inputs, seed=seed)


def score_all(
    run: Run,
    weak: Artifact,
    scorer: Artifact,
    baselines: Mapping[str, Artifact],
    test: Judged,
    pairs: GradedPairs,
    validation: LabelledPairs,
    seed: int,
) -> dict[str, Scores]:
    """A score for each of `pairs`, the judged ones of `test`, by scorer."""
    encoder = find_encoder(weak.ref, run.store)
    untrained = find_encoder(encoder.backbone, run.store)
    scores: dict[str, Scores] = {
        "random": np.random.default_rng(seed).random(len(pairs.grades)),
        "BM25": lexical_scores(test, pairs),
        "zero-shot": cosines(untrained, replace(pairs, texts=plain_texts(test, pairs))),
    }
    scores |= {name: scores_of(run, artifact, pairs) for name, artifact in baselines.items()}
    scores["weak"] = cosines(encoder, pairs)
    return scores | scorer_parts(find_scorer(scorer.ref, run.store), pairs, validation)


def _measured(scores: Scores, pairs: GradedPairs, seed: int) -> dict[str, Any]:
    return {
        task: bootstrap_pairs(scores[kept], labels, queries, seed) for task, kept, labels, queries in by_task(pairs)
    }
