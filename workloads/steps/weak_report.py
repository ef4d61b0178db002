"""Report every scorer on the judged pairs of the test queries: AUC, F1 and KS with intervals."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from rich.table import Table

from raylevance.artifacts import Artifact, Draft, fingerprint
from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged_tables import JudgedTables
from raylevance.evaluation.pair_metrics import PAIR_METRICS, bootstrap_pairs
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.scorer import load as load_scorer
from workloads.readable import with_interval
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
from workloads.steps.report_outcome import ReportOutcome
from workloads.steps.weak_data import WeakData


class WeakOutcome(ReportOutcome):
    """The report of a run of weak-supervision."""

    def as_table(self) -> Table:
        """Return one row for each scorer: AUC of both tasks, F1 and KS of the first."""
        metrics = self.report.metrics
        title = f"{metrics['queries']} test queries of {metrics['data']}; behaviour: {metrics['behaviour']}"
        first, second = TASKS
        table = Table("", f"AUC, {first}", "F1", "KS", f"AUC, {second}", box=None, title=title, title_justify="left")
        for name, tasks in metrics["scorers"].items():
            cells = [*(tasks[first][metric] for metric in PAIR_METRICS), tasks[second]["auc"]]
            table.add_row(name, *(with_interval(cell) for cell in cells))
        return table


def report_step(
    data: WeakData, test: JudgedTables, weak: Artifact, scorer: Artifact, baselines: Mapping[str, Artifact]
) -> Artifact:
    """Return `report/weak-supervision`: AUC, F1 and KS of every scorer, with intervals over resampled queries.

    The threshold of F1 is chosen on the pairs of the validation queries.
    """
    run, seed = data.run, data.trainer.seed

    def build(draft: Draft) -> None:
        pairs, held_out = (GradedPairs.from_tables(judged, data.text) for judged in (test, data.validation))
        scores = score_all(data, test, pairs, weak, scorer, baselines)
        validation = score_all(data, data.validation, held_out, weak, scorer, baselines)
        chosen = {name: thresholds(values, held_out) for name, values in validation.items()}
        draft.metrics |= {
            "data": data.tables.name.partition("/")[2],
            "behaviour": data.graph.metrics["source"],
            "queries": test.queries.num_rows,
            "pairs": len(pairs.grades),
            "seed": seed,
            "f1_thresholds": chosen,
            "scorers": {name: _measured(values, chosen[name], pairs, seed) for name, values in scores.items()},
        }
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    inputs = [data.tables, data.graph, weak, scorer, *baselines.values()]
    settings = {
        "baselines": {name: artifact.ref for name, artifact in baselines.items()},
        "f1_thresholds": "validation",
        "validation": fingerprint(data.validation.queries["query_id"].to_pylist()),
    }
    return run.step("report/weak-supervision", build, settings=settings, inputs=inputs, seed=seed)


def score_all(
    data: WeakData,
    judged: JudgedTables,
    pairs: GradedPairs,
    weak: Artifact,
    scorer: Artifact,
    baselines: Mapping[str, Artifact],
) -> dict[str, Scores]:
    """Return the scores of `pairs`, the judged pairs of `judged`, by the name of each scorer."""
    store = data.run.store
    encoder = load_encoder(store, weak.ref)
    untrained = load_encoder(store, encoder.backbone)
    scores: dict[str, Scores] = {
        "random": np.random.default_rng(data.trainer.seed).random(len(pairs.grades)),
        "BM25": lexical_scores(judged, pairs),
        "zero-shot": cosines(untrained, replace(pairs, texts=plain_texts(judged, pairs))),
    }
    scores |= {name: scores_of(data.run, artifact, pairs) for name, artifact in baselines.items()}
    scores["weak"] = cosines(encoder, pairs)
    validation = LabelledPairs.of(data.validation, data.text)
    return scores | scorer_parts(load_scorer(store, scorer.ref), pairs, validation)


def _measured(scores: Scores, chosen: Mapping[str, float], pairs: GradedPairs, seed: int) -> dict[str, Any]:
    return {
        task: bootstrap_pairs(scores[kept], labels, queries, seed, chosen[task])
        for task, kept, labels, queries in by_task(pairs)
    }
