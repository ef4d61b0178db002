"""Report a query classifier beside its baselines and its warm-up on the test queries, with intervals."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from rich.table import Table

from raylevance.artifacts import Artifact, Draft
from raylevance.data.judged_tables import TEST, VALIDATION
from raylevance.errors import RaylevanceError
from raylevance.evaluation.classification_metrics import (
    Predictions,
    evaluate_predictions,
    label_matrix,
    metric_differences,
    predictions_of,
)
from raylevance.evaluation.label_thresholds import choose_thresholds
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.query_classifier import read_query_labels
from raylevance.models.encoder import EncoderSettings
from raylevance.models.query_classifier import QueryClassifier
from workloads.run import Run
from workloads.steps.classification_baselines import Baseline, LinearTfIdf, Majority, NearestLabel, NearestProducts
from workloads.steps.classifier_training import ClassifierData

SSUF = "SSUF"
SHOWN = {"accuracy@1": "accuracy@1", "accuracy@3": "accuracy@3", "micro_f1": "micro F1", "macro_f1": "macro F1"}
Scores = npt.NDArray[np.floating]


@dataclass(frozen=True)
class ClassificationOutcome:
    """The report of a run of query-classification."""

    run: Run
    report: Artifact

    def as_json(self) -> dict[str, Any]:
        """Return the references of all artifacts and the figures of the report."""
        return {"artifacts": {artifact.name: artifact.ref for artifact in self.run.made}, **self.report.metrics}

    def as_table(self) -> Table:
        """Return one row for each system of each task: means with 95% intervals."""
        metrics = self.report.metrics
        table = Table("task", "", *SHOWN.values(), "tail macro F1", box=None, title_justify="left")
        table.title = f"test queries of {metrics['data']}; macro F1 over the labels that they have or get"
        for task, found in metrics["tasks"].items():
            for name, values in found["systems"].items():
                cells = [_cell(values, metric, values["ci95"].get(metric)) for metric in SHOWN]
                tail = _cell(values["tail"], "macro_f1", values["ci95"].get("tail", {}).get("macro_f1"))
                table.add_row(task, name, *cells, tail)
        return table


def _cell(values: Mapping[str, Any], metric: str, interval: list[float] | None) -> str:
    value = values.get(metric)
    if value is None:
        return ""
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def report_step(
    data: ClassifierData,
    tables: Artifact,
    earlier: Mapping[str, Artifact],
    classifier: Artifact,
    encoder: EncoderSettings,
) -> Artifact:
    """Return `report/query-classification`.

    Every system's thresholds are chosen on the validation queries. `earlier` are classifiers on the way, by name.
    """
    run, labels = data.run, data.labels

    def build(draft: Draft) -> None:
        found: dict[str, Any] = {}
        for task in labels.space.tasks:
            queries, own = labels.columns_of(labels.queries(TEST), task)
            if queries:
                systems = baseline_scores(data, tables, encoder, task)
                systems |= classifier_scores(data, earlier, classifier, task)
                found[task] = measure(data, systems, own, task)
        if not found:
            raise RaylevanceError("no test query has a label, so there is nothing to report")
        draft.metrics |= {"data": tables.name.partition("/")[2], "tasks": found}
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    inputs = [tables, labels.artifact, *earlier.values(), classifier]
    settings = {"systems": list(earlier), "backbone": encoder.backbone}
    return run.step("report/query-classification", build, settings=settings, inputs=inputs, seed=data.trainer.seed)


Both = tuple[Scores, Scores]
"""Scores of the validation queries and of the test queries, each [queries, labels]; the former may be empty."""


def baseline_scores(data: ClassifierData, tables: Artifact, encoder: EncoderSettings, task: str) -> dict[str, Both]:
    """Return the scores of the baselines by name."""
    labels = data.labels
    backbone = load_encoder(data.run.store, encoder.backbone)
    products = pq.read_table(data.run.store.path(tables.ref) / "products")
    baselines: dict[str, Baseline] = {
        "majority": Majority(),
        "nearest label": NearestLabel(backbone),
        "vote of 20 products": NearestProducts(backbone, products),
        "linear on tf-idf": LinearTfIdf(seed=data.trainer.seed),
    }
    train = labels.queries("train")
    validation, test = (labels.columns_of(labels.queries(split), task)[0] for split in (VALIDATION, TEST))
    found = {}
    for name, baseline in baselines.items():
        scores = baseline.scores(train, labels.space, task, [*validation, *test])
        found[name] = (scores[: len(validation)], scores[len(validation) :])
    return found


def classifier_scores(
    data: ClassifierData, earlier: Mapping[str, Artifact], classifier: Artifact, task: str
) -> dict[str, Both]:
    """Return the probabilities of the classifiers by name."""
    labels, store = data.labels, data.run.store
    number = labels.space.tasks.index(task)
    validation, test = (labels.columns_of(labels.queries(split), task)[0] for split in (VALIDATION, TEST))
    found: dict[str, Both] = {}
    for name, artifact in earlier.items():
        model = QueryClassifier.load(store.path(artifact.ref))
        both = model.probabilities([*validation, *test])[number]
        found[name] = (both[: len(validation)], both[len(validation) :])
    served = read_query_labels(store.path(classifier.ref))
    both = served.probabilities([*validation, *test], task)
    return {**found, SSUF: (both[: len(validation)], both[len(validation) :])}


def measure(data: ClassifierData, systems: Mapping[str, Both], own: list[list[int]], task: str) -> dict[str, Any]:
    """Return the metrics of each system on the test queries, and how far SSUF is above each."""
    labels, seed = data.labels, data.trainer.seed
    counts = labels.training_queries(task)
    truth = label_matrix(own, len(counts))
    validation = label_matrix(labels.columns_of(labels.queries(VALIDATION), task)[1], len(counts))
    predicted: dict[str, Predictions] = {}
    for name, (on_validation, on_test) in systems.items():
        thresholds = choose_thresholds(on_validation, validation) if len(on_validation) else 0.5
        predicted[name] = predictions_of(on_test, thresholds)
    figures = {name: evaluate_predictions(each, truth, counts, seed) for name, each in predicted.items()}
    differences = {}
    for name, each in predicted.items():
        if name != SSUF:
            minus = metric_differences([predicted[SSUF]], [each], truth, counts, seed)
            differences[name] = {metric: list(minus[("", metric)] or ()) for metric in SHOWN}
    return {"queries": len(own), "labels": len(counts), "systems": figures, "ssuf_minus": differences}
