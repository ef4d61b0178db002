"""The ablations of SSUF (arXiv 2506.21049): the recipe with one module off at a time, on test queries.

    raylevance run classification-ablations [--set 'only=[w/o SE]'] [--set 'seeds=[0]']

Steps that variants share are made once, and a killed run continues, because the store finds a step by its inputs.
Publishes `report/classification-ablations`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pydantic import model_validator
from rich.table import Table

from raylevance.artifacts import Artifact, Draft
from raylevance.evaluation.classification_metrics import (
    Key,
    Predictions,
    evaluate_predictions,
    label_matrix,
    metric_differences,
    predictions_of,
)
from raylevance.inference.query_classifier import read_classifier
from raylevance.progress import status
from workloads.recipes.query_classification import (
    ClassifierRecipe,
    check_settings,
    labelled_data,
    read_tables,
    train,
    unread_settings,
    warm_up,
)
from workloads.run import Run
from workloads.steps.classification_pages import write_page
from workloads.steps.classification_report import data_name
from workloads.steps.classifier_training import ClassifierData
from workloads.steps.encoder_training import kept_step
from workloads.studies.grid import FULL, SUFFIX, GridOutcome, GridSettings

SHOWN: dict[str, Key] = {
    "accuracy@1": ("", "accuracy@1"),
    "micro F1": ("", "micro_f1"),
    "macro F1": ("", "macro_f1"),
    "tail macro F1": ("tail", "macro_f1"),
}
PAPER: dict[str, float] = {
    "w/o SE": -2.70,
    "w/o KE": -1.98,
    "w/o LE and KE": -4.75,
    "w/o SE-S": -1.50,
    "w/o SE-C": -1.98,
    "w/o SE-H": -1.27,
    "plain": -7.42,
}
"""The paper's differences in macro F1, in points, on its categories."""

VARIANTS: dict[str, dict[str, Any]] = {
    FULL: {},
    "w/o SE": {"classifier.structure_enhanced": False},
    "w/o KE": {"semi.enabled": False},
    "w/o LE and KE": {"classifier.label_enhanced": False, "semi.enabled": False},
    "w/o SE-S": {"graph.semantic": False},
    "w/o SE-C": {"graph.cooccurrence": False},
    "w/o SE-H": {"graph.hierarchy": False},
    "plain": {
        "classifier.structure_enhanced": False,
        "classifier.label_enhanced": False,
        "semi.enabled": False,
    },
    "graphs averaged": {"graph.fusion": "average"},
}
"""The settings that each variant changes. What is left of a module in each is in docs/decisions/0017."""


class ClassificationAblationSettings(GridSettings, ClassifierRecipe):
    """The settings of query-classification, and the grid."""

    variants = VARIANTS

    @model_validator(mode="after")
    def _compares_with_the_full_recipe_alone(self) -> Self:
        if self.baselines != ClassifierRecipe.model_fields["baselines"].default:
            raise ValueError("baselines: the ablations train none; leave it out")
        return self

    def why_unread(self, name: str) -> str | None:
        """Return why nothing reads what the variant changes; None where something does."""
        unread = unread_settings(self.variant(ClassifierRecipe, name, self.seeds[0]))
        changed = self.variants[name]
        return unread[next(iter(changed))] if changed and changed.keys() <= unread.keys() else None


READING = 2
"""Goes up when a report holds more, so that one from before is not taken for the same."""


@dataclass(frozen=True)
class ClassificationAblationOutcome(GridOutcome):
    """The outcome of the ablations of query-classification."""

    def as_table(self) -> Table:
        """Return for each variant its metrics, and their differences to the full recipe beside the paper's."""
        metrics = self.report.metrics
        title = f"{metrics['queries']} test queries of {metrics['data']}, {metrics['task']}, seeds {metrics['seeds']}"
        columns = [*SHOWN, f"macro F1 minus {FULL}", f"tail minus {FULL}", "paper", "kept steps"]
        table = Table("", *columns, box=None, title=title)
        table.title_justify = "left"
        table.caption = "kept steps: of the second training, by seed; 0 is the warm classifier, without semi-labels"
        for name, found in metrics["variants"].items():
            cells = ["" if value is None else f"{value:.3f}" for value in (found["means"][shown] for shown in SHOWN)]
            minus = [_interval(found["minus_full"].get(shown)) for shown in ("macro F1", "tail macro F1")]
            paper = f"{PAPER[name] / 100:+.3f}" if name in PAPER else ""
            kept = ", ".join(str(training["kept_step"]) for training in found["trainings"])
            table.add_row(name, *cells, *minus, paper, kept)
        return table


def _interval(values: list[float] | None) -> str:
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*values) if values else ""


def recipe(settings: ClassificationAblationSettings, run: Run) -> ClassificationAblationOutcome:
    """Train every variant under every seed, then report."""
    variants = {name: settings.variant(ClassifierRecipe, name, settings.seeds[0]) for name in settings.chosen()}
    for name, reason in settings.left_out().items():
        status(f"variant {name!r} is left out: it measures nothing, {reason}")

    def check() -> None:
        for variant in variants.values():
            check_settings(variant, run.store)

    run.check = check
    tables = read_tables(settings, run)
    trained: dict[str, list[Artifact]] = {}
    data = None
    for name in variants:
        for seed in settings.seeds:
            variant = settings.variant(ClassifierRecipe, name, seed)
            data = labelled_data(variant, run, tables, SUFFIX, test_seed=settings.seed)
            trained.setdefault(name, []).append(train(variant, data, warm_up(variant, data, SUFFIX), SUFFIX))
    assert data is not None
    return ClassificationAblationOutcome(run, report_step(settings, data, tables, trained))


def report_step(
    settings: ClassificationAblationSettings,
    data: ClassifierData,
    tables: Artifact | None,
    trained: Mapping[str, list[Artifact]],
) -> Artifact:
    """Return `report/classification-ablations` of the first task: means over seeds, intervals over queries.

    Its page shows for the first seed which queries each module turns right or wrong. A variant that changed nothing is
    known by its `trainings`: no edge, no tau, or the same step kept.

    The groups of labels by frequency are those of the last seed's training queries. `data` is that of the last seed;
    all seeds have its test queries.
    """
    labels, run = data.labels, data.run

    def build(draft: Draft) -> None:
        task = labels.space.tasks[0]
        queries, own = labels.columns_of(labels.queries("test"), task)
        counts = labels.training_queries(task)
        truth = label_matrix(own, len(counts))
        predicted = {name: [predict(run, made, queries, task) for made in each] for name, each in trained.items()}
        figures = {
            name: [evaluate_predictions(each, truth, counts, settings.seed) for each in runs]
            for name, runs in predicted.items()
        }
        found = {}
        for name, runs in predicted.items():
            minus = metric_differences(runs, predicted[FULL], truth, counts, settings.seed)
            found[name] = {
                "means": {shown: mean_of(figures[name], key) for shown, key in SHOWN.items()},
                "minus_full": {shown: minus[key] for shown, key in SHOWN.items() if name != FULL and minus[key]},
                "trainings": [about_training(run, artifact, task) for artifact in trained[name]],
            }
        first = {name: runs[0] for name, runs in predicted.items()}
        changes = [(name, FULL) for name in first if name != FULL]
        write_page(draft.path, labels, task, first, {name: runs[0] for name, runs in figures.items()}, changes)
        draft.metrics |= {
            "data": data_name(tables),
            "task": task,
            "queries": len(queries),
            "seeds": list(settings.seeds),
            "variants": found,
        }
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    compared = {name: [artifact.ref for artifact in artifacts] for name, artifacts in trained.items()}
    inputs = [artifact for artifacts in trained.values() for artifact in artifacts]
    return run.step(
        "report/classification-ablations",
        build,
        settings={"variants": compared, "reading": READING},
        inputs=[*([tables] if tables else []), labels.artifact, *inputs],
        seed=settings.seed,
    )


def predict(run: Run, classifier: Artifact, queries: Sequence[str], task: str) -> Predictions:
    """Return what a classifier predicts for `queries`, with its own thresholds."""
    served = read_classifier(run.store.path(classifier.ref))
    return predictions_of(served.probabilities(queries, task), served.thresholds(task))


def about_training(run: Run, classifier: Artifact, task: str) -> dict[str, Any]:
    """Return what a training had to learn from: the edges of each label graph and tau; and the step that it kept."""
    warm, semi = (_parent(run, classifier, kind) for kind in ("classifier/", "report/semi-labels"))
    graph = _parent(run, warm, "graph/") if warm else None
    return {
        "edges": graph.metrics["edges"][task] if graph else {},
        "tau": semi.metrics["tau"].get(task) if semi else None,
        "kept_step": kept_step(classifier),
    }


def _parent(run: Run, artifact: Artifact, kind: str) -> Artifact | None:
    """Return the artifact that `artifact` was made from whose name begins with `kind`; None where there is none."""
    return next((run.store.get(ref) for ref in artifact.parents if ref.startswith(kind)), None)


def mean_of(figures: Sequence[Mapping[str, Any]], key: Key) -> float | None:
    """Return the mean over seeds of a metric; None where no label or query is in its group."""
    group, metric = key
    values = [figure[group][metric] if group else figure[metric] for figure in figures]
    return None if None in values else float(np.mean(values))
