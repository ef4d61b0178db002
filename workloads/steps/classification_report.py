"""Report a query classifier beside its baselines and its warm-up on the test queries, with intervals."""

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.table import Table

from raylevance.artifacts import Artifact, Draft
from raylevance.data.judged_tables import TEST, VALIDATION
from raylevance.data.label_space import LabelSpace
from raylevance.errors import RaylevanceError
from raylevance.evaluation.classification_metrics import (
    Labels,
    Predictions,
    evaluate_predictions,
    label_matrix,
    metric_differences,
    predictions_of,
)
from raylevance.evaluation.label_thresholds import choose_thresholds
from raylevance.inference.encoder import backbone_digest
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.query_classifier import read_classifier
from raylevance.models.query_classifier import GRAPHS, QueryClassifier, read_graphs
from raylevance.progress import status
from workloads.readable import with_interval
from workloads.steps.classification_baselines import NearestProducts
from workloads.steps.classification_pages import write_page
from workloads.steps.classifier_training import ClassifierData
from workloads.steps.compared_baselines import BASELINES, CHEAP, BaselineInputs, Compared
from workloads.steps.label_data import LabelData
from workloads.steps.report_outcome import ReportOutcome

SSUF, NEAREST = "SSUF", "nearest label"
SHOWN = {"accuracy@1": "accuracy@1", "accuracy@3": "accuracy@3", "micro_f1": "micro F1", "macro_f1": "macro F1"}
PREDICTIONS = "predictions-{}.parquet"
"""The file of the predictions of the task of a number."""
PREDICTED = pa.schema(
    {"system": pa.string(), "best": pa.list_(pa.int64()), "confidence": pa.float32(), "chosen": pa.list_(pa.int64())}
)
Scores = npt.NDArray[np.floating]


class ClassificationOutcome(ReportOutcome):
    """The report of a run of query-classification."""

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
    return with_interval([value, *interval]) if interval else f"{value:.3f}"


READING = 2
"""Goes up when systems are compared in another way, so that a report from before is not taken for the same."""


def report_step(
    data: ClassifierData, compared: Compared, earlier: Mapping[str, Artifact], classifier: Artifact, suffix: str = ""
) -> Artifact:
    """Return `report/query-classification`: the metrics, a page, and what each system predicts for each test query.

    Every system's thresholds are chosen on the validation queries. `earlier` are classifiers on the way, by name.
    """
    run, labels = data.run, data.labels

    def build(draft: Draft) -> None:
        scores = baseline_scores(data, compared)
        for task, found in classifier_scores(data, earlier, classifier).items():
            scores[task] |= found
        if not scores:
            raise RaylevanceError("no test query has a label, so there is nothing to report")
        predicted = {task: predictions_of_systems(labels, systems, task) for task, systems in scores.items()}
        save_predictions(draft.path, labels.space, predicted)
        graphs = {name: read_graphs(run.store.path(each.ref) / GRAPHS, labels.space) for name, each in earlier.items()}
        changes = list(pairwise((NEAREST, *earlier, SSUF)))
        draft.metrics |= {"data": data_name(compared.tables), "tasks": {}}
        for task, systems in predicted.items():
            own = labels.columns_of(labels.queries(TEST), task)[1]
            counts = labels.training_queries(task)
            measured = measure(systems, label_matrix(own, len(counts)), counts, data.trainer.seed)
            draft.metrics["tasks"][task] = measured
            graph = next((each[task] for each in graphs.values() if task in each), None)
            write_page(draft.path, labels, task, systems, measured["systems"], changes, graph, compared.label)
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    inputs = [*([compared.tables] if compared.tables else []), labels.artifact, *earlier.values(), classifier]
    settings: dict[str, Any] = {"systems": [*compared.baselines, *earlier], "reading": READING}
    settings["backbone"] = backbone_digest(compared.encoder.backbone)
    if set(compared.baselines) - set(CHEAP):
        settings["training"] = compared.training
    if compared.label:
        settings["label"] = compared.label
    name = f"report/query-classification{suffix}"
    return run.step(name, build, settings=settings, inputs=inputs, seed=data.trainer.seed)


def data_name(tables: Artifact | None) -> str:
    """Return what a report calls its data."""
    return "sources.file" if tables is None else tables.name.partition("/")[2]


SplitScores = tuple[Scores, Scores]
"""Scores of the validation queries and of the test queries, each [queries, labels]; the former may be empty."""
Systems = dict[str, SplitScores]


def baseline_scores(data: ClassifierData, compared: Compared) -> dict[str, Systems]:
    """Return the scores of the baselines, by task and name. A task without a test query is left out."""
    labels, store = data.labels, data.run.store
    products = pq.read_table(store.path(compared.tables.ref) / "products") if compared.tables else None
    encoder = load_encoder(store, compared.encoder.backbone)
    given = BaselineInputs(encoder, products, compared.training, data.trainer.seed)
    baselines = {name: BASELINES[name](given) for name in compared.baselines}
    for name in (name for name, baseline in baselines.items() if baseline is None):
        status(f"{name}: left out, there are no products")
    train, found = labels.queries("train"), dict[str, Systems]()
    for task in labels.space.tasks:
        validation, test = (labels.columns_of(labels.queries(split), task)[0] for split in (VALIDATION, TEST))
        if not test:
            continue
        found[task] = {}
        for name, baseline in baselines.items():
            if isinstance(baseline, NearestProducts) and not baseline.can_vote(labels.space, task):
                status(f"{name}: left out for {task!r}, no product has one of its labels")
            elif baseline is not None:
                scores = baseline.scores(train, labels.space, task, [*validation, *test])
                found[task][name] = (scores[: len(validation)], scores[len(validation) :])
    return found


def classifier_scores(
    data: ClassifierData, earlier: Mapping[str, Artifact], classifier: Artifact
) -> dict[str, Systems]:
    """Return the probabilities of the classifiers, by task and name. A task without a test query is left out."""
    labels, store = data.labels, data.run.store
    found: dict[str, Systems] = {}
    loaded = {name: QueryClassifier.load(store.path(artifact.ref)) for name, artifact in earlier.items()}
    served = read_classifier(store.path(classifier.ref))
    for number, task in enumerate(labels.space.tasks):
        validation, test = (labels.columns_of(labels.queries(split), task)[0] for split in (VALIDATION, TEST))
        if test:
            queries = [*validation, *test]
            scores = {name: model.probabilities(queries)[number] for name, model in loaded.items()}
            scores[SSUF] = served.probabilities(queries, task)
            found[task] = {name: (each[: len(validation)], each[len(validation) :]) for name, each in scores.items()}
    return found


def predictions_of_systems(labels: LabelData, systems: Mapping[str, SplitScores], task: str) -> dict[str, Predictions]:
    """Return what each system predicts for the test queries, with thresholds from the validation queries."""
    own = labels.columns_of(labels.queries(VALIDATION), task)[1]
    found = {}
    for name, (on_validation, on_test) in systems.items():
        truth = label_matrix(own, on_test.shape[1])
        found[name] = predictions_of(on_test, choose_thresholds(on_validation, truth) if own else 0.5)
    return found


def measure(
    predicted: Mapping[str, Predictions], truth: Labels, counts: npt.NDArray[np.integer], seed: int
) -> dict[str, Any]:
    """Return the metrics of each system on the test queries, and how far SSUF is above each."""
    figures = {name: evaluate_predictions(each, truth, counts, seed) for name, each in predicted.items()}
    differences = {}
    for name, each in predicted.items():
        if name != SSUF:
            minus = metric_differences([predicted[SSUF]], [each], truth, counts, seed)
            differences[name] = {metric: list(minus[("", metric)] or ()) for metric in SHOWN}
    return {"queries": truth.shape[0], "labels": len(counts), "systems": figures, "ssuf_minus": differences}


def save_predictions(folder: Path, space: LabelSpace, predicted: Mapping[str, Mapping[str, Predictions]]) -> None:
    """Write the predictions of each task and system to `folder`: Arrow files named by the number of the task."""
    for task, systems in predicted.items():
        rows = [
            {"system": name, "best": best.tolist(), "confidence": float(sure), "chosen": chosen.tolist()}
            for name, each in systems.items()
            for best, sure, chosen in zip(
                each.best, each.confidence, np.split(each.chosen.indices, each.chosen.indptr[1:-1]), strict=True
            )
        ]
        table = pa.Table.from_pylist(rows, PREDICTED)
        pq.write_table(table, folder / PREDICTIONS.format(space.tasks.index(task)))


def read_predictions(folder: Path, space: LabelSpace, task: str) -> dict[str, Predictions]:
    """Return what `save_predictions` wrote for a task, by system; nothing for a task without a test query."""
    file = folder / PREDICTIONS.format(space.tasks.index(task))
    rows = pq.read_table(file) if file.is_file() else PREDICTED.empty_table()
    labels = int(space.predicted[space.rows(task)].sum())
    found = {}
    for name in pc.unique(rows["system"]).to_pylist():
        own = rows.filter(pc.equal(rows["system"], name)).combine_chunks()
        best = np.array(own["best"].to_pylist(), np.int64)
        found[name] = Predictions(best, own["confidence"].to_numpy(), label_matrix(own["chosen"], labels))
    return found
