"""Train a query classifier: its label graph, a warm-up, the cosine of semi-supervised labels, and the classifier."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import ray.data
import torch
from pydantic import Field, PositiveInt

from raylevance.artifacts import Artifact, Draft
from raylevance.config import Settings
from raylevance.data.judged_tables import VALIDATION
from raylevance.data.text import ProductText
from raylevance.evaluation.classification_metrics import label_matrix
from raylevance.evaluation.label_thresholds import choose_thresholds
from raylevance.evaluation.unseen_labels import choose_unseen_offset
from raylevance.graph.label_graphs import (
    cooccurrence_graph,
    fuse_graphs,
    hierarchy_graph,
    normalise,
    semantic_graph,
)
from raylevance.inference.query_classifier import DEFAULT_THRESHOLD, save_classifier
from raylevance.losses.semi_labels import fuse_knowledge, place_knowledge
from raylevance.models.encoder import Encoder, EncoderSettings, Vectors
from raylevance.models.query_classifier import (
    GRAPHS,
    QueryClassifier,
    QueryClassifierSettings,
    read_graphs,
    save_graphs,
)
from raylevance.progress import status
from raylevance.training.tasks.classification import Classification, ClassificationEvaluation, ClassificationSettings
from workloads.run import Run
from workloads.steps.encoder_training import (
    Trainer,
    backbone_settings,
    new_encoder,
    precision_settings,
    training_settings,
    with_backbone_path,
)
from workloads.steps.label_data import LabelData


class LabelGraphSettings(Settings):
    """The graphs of labels that the structure-enhanced module fuses."""

    cooccurrence: bool = True
    """Join labels that training queries have together."""
    semantic: bool = True
    """Join labels whose texts have close vectors."""
    hierarchy: bool = True
    """Join labels with their parents."""
    alpha: float = Field(0.1, ge=0, le=1)
    """Least share of a label's queries that have the other label too (our choice)."""
    beta: float = Field(0.8, ge=-1, le=1)
    """Least cosine of two labels' texts (our choice)."""
    most: PositiveInt = 10
    """Semantic edges of a label."""
    fusion: Literal["overwrite", "average"] = "overwrite"
    """overwrite: hierarchy cells replace those of the mean of the other two; average: the mean of all three."""

    @property
    def any(self) -> bool:
        """Whether one of the graphs is built."""
        return self.cooccurrence or self.semantic or self.hierarchy


class SemiLabelSettings(Settings):
    """Semi-supervised labels of training queries (the knowledge-enhanced module)."""

    enabled: bool = True
    """Train with semi-supervised labels after the warm-up."""
    precision: float = Field(0.95, gt=0, le=1)
    """Least share of right labels among those that pass on validation queries, which chooses tau. Labels that a query
    has already are among them, and of those that it lacks far fewer are right (docs/decisions/0017)."""
    most: float = Field(3.0, gt=0)
    """Largest number of labels that pass for a validation query, on average."""


@dataclass(frozen=True)
class ClassifierData:
    """The run, the labelled queries and the trainer, which every step of a training reads."""

    run: Run
    labels: LabelData
    trainer: Trainer

    def evaluation(self) -> ClassificationEvaluation:
        """Return the measurement on the validation queries, by task. A task without such a query is left out."""
        rows = self.labels.queries(VALIDATION)
        found = {task: self.labels.columns_of(rows, task) for task in self.labels.space.tasks}
        found = {task: both for task, both in found.items() if both[0]}
        return ClassificationEvaluation(
            {task: queries for task, (queries, _) in found.items()}, {task: own for task, (_, own) in found.items()}
        )


def graph_step(data: ClassifierData, settings: LabelGraphSettings, encoder: EncoderSettings, suffix: str) -> Artifact:
    """Return `graph/labels`: the fused and normalised graph of each task, as CSR arrays.

    Source: SSUF (arXiv 2506.21049), structure-enhanced module.
    """
    labels = data.labels

    def build(draft: Draft) -> None:
        vectors = None
        if settings.semantic:
            loaded = Encoder.from_backbone(with_backbone_path(encoder))
            vectors = loaded.encode_items(labels.space.labels["text"].to_pylist())
        rows = ray.data.read_parquet(str(labels.file("train"))).select_columns(["labels"])
        samples = labels.samples
        graphs, edges = {}, {}
        for task in labels.space.tasks:
            span = labels.space.rows(task)
            parts = {
                "cooccurrence": cooccurrence_graph(rows, span, settings.alpha) if settings.cooccurrence else None,
                "semantic": None if vectors is None else semantic_graph(vectors[span], settings.beta, settings.most),
                "hierarchy": hierarchy_graph(labels.space.parents_within(task), samples[span])
                if settings.hierarchy
                else None,
            }
            graphs[task] = normalise(fuse_graphs(**parts, mode=settings.fusion)).tocsr()
            edges[task] = {name: int(part.nnz) for name, part in parts.items() if part is not None}
        save_graphs(draft.path / GRAPHS, graphs, labels.space)
        draft.metrics["edges"] = edges

    described = {"graph": settings, **backbone_settings(encoder), **precision_settings()}
    return data.run.step(f"graph/labels{suffix}", build, settings=described, inputs=[labels.artifact])


def warmup_step(
    data: ClassifierData,
    graph: Artifact | None,
    encoder: EncoderSettings,
    classifier: QueryClassifierSettings,
    train: ClassificationSettings,
    suffix: str,
) -> Artifact:
    """Return `classifier/query-warmup`: a new classifier, trained without semi-supervised labels."""

    def build(draft: Draft) -> None:
        with data.run.work_folder() as work:
            graphs = {} if graph is None else read_graphs(data.run.store.path(graph.ref) / GRAPHS, data.labels.space)
            start = new_encoder(encoder, work / "encoder")
            QueryClassifier.from_encoder(start, data.labels.space, graphs, classifier, data.trainer.seed).save(
                work / "new"
            )
            model = train_classifier(data, draft, work, work / "new", train)
            shutil.copytree(model, draft.path, dirs_exist_ok=True)

    described = training_settings(train, ProductText(), classifier=classifier, **backbone_settings(encoder))
    inputs = [data.labels.artifact, *([graph] if graph else [])]
    name = f"classifier/query-warmup{suffix}"
    return data.run.step(name, build, settings=described, inputs=inputs, seed=data.trainer.seed)


def classifier_step(
    data: ClassifierData, start: Artifact, semi: Artifact | None, train: ClassificationSettings, suffix: str
) -> Artifact:
    """Return `classifier/query`: the warm classifier, trained with the semi-supervised labels that `semi` allows.

    It is kept as it is served: the encoder, and the rows, the bias and the thresholds of its labels. The bias of labels
    without a training query, and thresholds, are chosen on the validation queries. Without `semi` the same steps are
    trained on the given labels alone.
    """
    labels = data.labels

    def build(draft: Draft) -> None:
        with data.run.work_folder() as work:
            settings = train.model_copy(update={"tau": semi.metrics["tau"] if semi else {}})
            model = train_classifier(data, draft, work, data.run.store.path(start.ref), settings)
            classifier = QueryClassifier.load(model)
            counts = {task: labels.training_queries(task) for task in labels.space.tasks}
            draft.metrics["unseen_offset"] = add_unseen_offset(data, classifier)
            save_classifier(draft.path, classifier, counts, validation_thresholds(data, classifier))

    # "unseen" is not a setting: classifiers from before labels without a training query had an offset are made anew.
    described = training_settings(train, ProductText(), unseen="offset by the loss of validation queries")
    inputs = [labels.artifact, start, *([semi] if semi else [])]
    name = f"classifier/query{suffix}"
    return data.run.step(name, build, settings=described, inputs=inputs, seed=data.trainer.seed)


def train_classifier(
    data: ClassifierData, draft: Draft, work: Path, start: Path, train: ClassificationSettings
) -> Path:
    """Train the classifier in the folder `start` on the training queries, and return the folder of the result."""
    task = Classification(start, data.labels.file("train"), train)
    return data.trainer.train(task, draft, work, data.evaluation())


def add_unseen_offset(data: ClassifierData, classifier: QueryClassifier) -> dict[str, float]:
    """Add to the bias of the labels without a training query the offset that validation queries tell.

    Returns the offset by task; it is 0 for a task without such a label or without a validation query.
    """
    rows, offsets = data.labels.queries(VALIDATION), {}
    matrices = classifier.label_matrices()
    for number, task in enumerate(data.labels.space.tasks):
        unseen = data.labels.training_queries(task) == 0
        queries, own = data.labels.columns_of(rows, task)
        offsets[task] = 0.0
        if queries and unseen.any():
            label_rows, bias = (part[unseen] for part in matrices[number])
            logits = classifier.encoder.encode_queries(queries) @ label_rows.T + bias
            truth = label_matrix(own, len(unseen)).tocsc()[:, unseen].tocsr()
            offsets[task] = choose_unseen_offset(logits, truth)
            if not truth.nnz:
                many = f"{int(unseen.sum())} labels have no training query, and no validation query has one of them"
                status(f"task {task!r}: {many}; they get no offset")
            with torch.no_grad():
                classifier.task_heads()[number].bias[torch.from_numpy(unseen)] += offsets[task]
    return offsets


def validation_thresholds(data: ClassifierData, classifier: QueryClassifier) -> dict[str, npt.NDArray[np.float32]]:
    """Return the probability from which each label counts, by task; 0.5 for a task without a validation query."""
    rows, found = data.labels.queries(VALIDATION), {}
    for number, task in enumerate(data.labels.space.tasks):
        queries, own = data.labels.columns_of(rows, task)
        predicted = int(data.labels.space.predicted[data.labels.space.rows(task)].sum())
        found[task] = np.full(predicted, DEFAULT_THRESHOLD, np.float32)
        if queries:
            probabilities = classifier.probabilities(queries)[number]
            found[task] = choose_thresholds(probabilities, label_matrix(own, predicted))
    return found


def semi_label_step(data: ClassifierData, warmup: Artifact, settings: SemiLabelSettings, suffix: str) -> Artifact:
    """Return `report/semi-labels`: tau of each task, and how many labels pass and are right at each cosine.

    Cosines are those of the warm classifier between label texts and validation queries, fused with what is known about
    them, as training fuses them.
    """

    def build(draft: Draft) -> None:
        classifier = QueryClassifier.load(data.run.store.path(warmup.ref))
        vectors = torch.nn.functional.normalize(classifier.label_vectors(), dim=1).cpu().numpy()
        space, rows = data.labels.space, data.labels.queries(VALIDATION)
        draft.metrics["tau"], draft.metrics["curve"] = {}, {}
        for task in space.tasks:
            queries, own = data.labels.columns_of(rows, task)
            if not queries:
                continue
            knowledge = rows.filter(pc.equal(rows["task"], task))["knowledge"].to_pylist()
            compared = vectors[space.rows(task)][space.predicted[space.rows(task)]]
            cosines = fused_vectors(classifier.encoder, queries, knowledge) @ compared.T
            tau, curve = calibrate_tau(cosines, label_matrix(own, cosines.shape[1]), settings)
            draft.metrics["curve"][task] = curve
            if tau is None:
                status(f"task {task!r}: no tau gives precision {settings.precision}; no label is semi-supervised")
            else:
                draft.metrics["tau"][task] = tau
        (draft.path / "semi_labels.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    name = f"report/semi-labels{suffix}"
    return data.run.step(
        name, build, settings={"semi": settings, **precision_settings()}, inputs=[data.labels.artifact, warmup]
    )


def fused_vectors(encoder: Encoder, queries: Sequence[str], knowledge: Sequence[Sequence[str]]) -> Vectors:
    """Return the unit vectors, float32 [queries, d], of queries with the texts that are known about each."""
    texts, places = place_knowledge(knowledge)
    known = torch.from_numpy(encoder.encode_items(texts)) if texts else torch.zeros(1, encoder.dimension)
    vectors = torch.from_numpy(encoder.encode_queries(queries))
    fused = fuse_knowledge(vectors, known[places.clamp(min=0)], places >= 0)
    unit: Vectors = torch.nn.functional.normalize(fused, dim=1).numpy()
    return unit


def calibrate_tau(
    cosines: npt.NDArray[np.floating], truth: Any, settings: SemiLabelSettings
) -> tuple[float | None, list[dict[str, float]]]:
    """Return tau and the curve of labels that pass, from cosines [queries, labels] and the sparse truth of both.

    tau is the smallest cosine of a grid of 0.01 at which the share of right labels among those that pass is
    `settings.precision` or more, and not more than `settings.most` pass for a query; None where there is none.

    Source: SSUF (arXiv 2506.21049), knowledge-enhanced module, for tau; the rule is our choice.
    """
    right, levels = truth.toarray().astype(bool), np.arange(100) / 100
    # A cosine passes the levels up to its own.
    place = np.clip(np.searchsorted(levels, cosines, side="right"), 0, 100)
    counts = [np.bincount(which, minlength=101)[1:][::-1].cumsum()[::-1] for which in (place.ravel(), place[right])]
    curve, tau = [], None
    for level, count, correct in zip(levels.tolist(), *(each.tolist() for each in counts), strict=True):
        precision, per_query = correct / count if count else 1.0, count / len(cosines)
        curve.append({"tau": level, "labels_per_query": per_query, "precision": precision})
        if tau is None and count and precision >= settings.precision and per_query <= settings.most:
            tau = level
    return tau, curve
