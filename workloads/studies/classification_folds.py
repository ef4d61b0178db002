"""The query classifier in k-fold cross-validation: every labelled query is classified by one that never saw it.

    raylevance run classification-folds [--set folds=5] [--set test_split=true]

The queries are the judged ones and those of `sources.file`. A query of the data's test split is neither tested on nor
learned from, so settings may be compared here; `test_split=true` takes these queries as well. Each fold picks its best
step, tau and thresholds on queries held out of its own training part. Publishes the recipe's artifacts with the ending
`-fold<n>`, and `report/classification-folds`.
"""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from pydantic import Field

from raylevance.artifacts import Artifact, Draft
from raylevance.data.judged_tables import TEST
from raylevance.evaluation.classification_metrics import Predictions, join_predictions, label_matrix
from workloads.recipes.query_classification import (
    ClassifierRecipe,
    check_settings,
    compared,
    labelled_data,
    read_tables,
    train,
    warm_up,
)
from workloads.run import Run
from workloads.steps.classification_report import (
    ClassificationOutcome,
    data_name,
    measure,
    read_predictions,
    report_step,
)
from workloads.steps.label_data import LabelData
from workloads.steps.label_splits import Fold


class ClassificationFoldSettings(ClassifierRecipe):
    """The settings of query-classification, and the folds."""

    folds: int = Field(5, ge=2)
    test_split: bool = False
    """Test on, and in other folds learn from, the queries of the data's test split too."""


def recipe(settings: ClassificationFoldSettings, run: Run) -> ClassificationOutcome:
    """Train a classifier for each fold, then report on the queries of all folds."""
    run.check = partial(check_settings, settings, run.store)
    tables = read_tables(settings, run)
    tested: list[tuple[LabelData, Artifact]] = []
    for number in range(settings.folds):
        suffix = f"-fold{number}"
        fold = Fold(number, settings.folds, settings.test_split)
        data = labelled_data(settings, run, tables, suffix, fold)
        warmup = warm_up(settings, data, suffix)
        classifier = train(settings, data, warmup, suffix)
        report = report_step(data, compared(settings, tables), {"warm-up": warmup}, classifier, suffix)
        tested.append((data.labels, report))
    return ClassificationOutcome(run, pool_step(run, tested, data_name(tables), settings.seed))


def pool_step(run: Run, tested: Sequence[tuple[LabelData, Artifact]], data: str, seed: int) -> Artifact:
    """Return `report/classification-folds`: the metrics over the queries of all folds.

    The groups of labels by frequency are those of the mean number of training queries in a fold.
    """

    def build(draft: Draft) -> None:
        draft.metrics |= {"data": data, "folds": len(tested), "tasks": {}}
        for task in tested[0][0].space.tasks:
            if pooled := pool(run, tested, task):
                predicted, own, counts, unseen = pooled
                found = measure(predicted, label_matrix(own, len(counts)), counts, seed)
                draft.metrics["tasks"][task] = found | {"unseen": unseen}
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    inputs = [artifact for labels, report in tested for artifact in (labels.artifact, report)]
    return run.step("report/classification-folds", build, settings={"folds": len(tested)}, inputs=inputs, seed=seed)


Pooled = tuple[dict[str, Predictions], list[list[int]], Any, float]


def pool(run: Run, tested: Sequence[tuple[LabelData, Artifact]], task: str) -> Pooled | None:
    """Return the predictions of all folds for a task by system, the labels of its queries, the mean training queries
    of each label, and the share of queries none of whose labels is in their fold's training queries."""
    found: dict[str, list[Predictions]] = {}
    own: list[list[int]] = []
    unseen = 0
    counts = []
    for labels, report in tested:
        predicted = read_predictions(run.store.path(report.ref), labels.space, task)
        if predicted:
            for name, each in predicted.items():
                found.setdefault(name, []).append(each)
            counts.append(labels.training_queries(task))
            columns = labels.columns_of(labels.queries(TEST), task)[1]
            unseen += sum(not counts[-1][each].any() for each in columns)
            own += columns
    if not own:
        return None
    joined = {name: join_predictions(parts) for name, parts in found.items()}
    return joined, own, np.rint(np.mean(counts, axis=0)).astype(np.int64), unseen / len(own)
