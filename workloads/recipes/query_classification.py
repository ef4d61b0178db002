"""SSUF (arXiv 2506.21049): a classifier that gives a query its categories, also those that few queries have.

    raylevance run query-classification [--config F] [--set labels.taxonomy_levels=3]

Reads products and judged queries and, where there is one, a log of events; or files alone, of labels and of queries
that have them (`data=null`, `labels.file`, `sources.file`). Publishes `tables/<data set>`,
`labels/query`, `graph/labels`, `classifier/query-warmup`, `report/semi-labels`, `classifier/query` and
`report/query-classification`.
"""

import importlib.util
from collections.abc import Iterator
from functools import partial
from typing import Any

from pydantic import Field, NonNegativeInt, field_validator

from raylevance.artifacts import Artifact, Store
from raylevance.config import Settings
from raylevance.errors import UsageError, nearest
from raylevance.models.encoder import EncoderSettings, check_encoder_settings
from raylevance.models.query_classifier import QueryClassifierSettings
from raylevance.training import trainer
from raylevance.training.settings import MachineSettings
from raylevance.training.tasks.classification import ClassificationSettings
from raylevance.training.tasks.classification.evaluation import ACCURACY, LOG_LIKELIHOOD
from workloads.run import Run
from workloads.steps.classification_pages import check_shown_label
from workloads.steps.classification_report import ClassificationOutcome, report_step
from workloads.steps.classifier_training import (
    ClassifierData,
    LabelGraphSettings,
    SemiLabelSettings,
    classifier_step,
    graph_step,
    semi_label_step,
    warmup_step,
)
from workloads.steps.compared_baselines import BASELINES, CHEAP, Compared
from workloads.steps.encoder_training import Trainer, kept_metric, with_backbone_path
from workloads.steps.label_data import (
    KnowledgeSources,
    LabelData,
    LabelPlan,
    LabelSettings,
    LabelSourceSettings,
    label_step,
)
from workloads.steps.label_splits import Fold
from workloads.steps.tables import DataSettings, load_tables


class ClassifierRecipe(Settings):
    """The settings that decide a classifier, and the machine it is trained on. The defaults run on a laptop."""

    seed: NonNegativeInt = 0
    data: DataSettings | None = DataSettings()
    """The shop; null for none. Labels are then those of labels.file, and queries those of sources.file."""
    labels: LabelSettings = LabelSettings()
    sources: LabelSourceSettings = LabelSourceSettings()
    knowledge: KnowledgeSources = KnowledgeSources()
    validation_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of the training queries that picks the best step, tau and thresholds. Where the data has a validation
    split, that is taken for the judged queries, and the share of the others."""
    test_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of the queries of sources.file that the report measures on, where the data has no test split."""
    baselines: tuple[str, ...] = CHEAP
    """What the report compares with, of `workloads.steps.compared_baselines.BASELINES`."""
    report_label: str | None = None
    """The id of the label whose neighbourhood in the label graph the report's page shows; null for the label that most
    test queries miss."""
    encoder: EncoderSettings = EncoderSettings(backbone="minilm", max_item_tokens=48)
    classifier: QueryClassifierSettings = QueryClassifierSettings()
    graph: LabelGraphSettings = LabelGraphSettings()
    warmup: ClassificationSettings = ClassificationSettings(
        batch=64, epochs=20, max_steps=400, learning_rate=1e-4, evaluate_every=100, keep_best=LOG_LIKELIHOOD
    )
    semi: SemiLabelSettings = SemiLabelSettings()
    train: ClassificationSettings = ClassificationSettings(
        batch=64, epochs=20, max_steps=150, learning_rate=5e-5, evaluate_every=50, keep_best=LOG_LIKELIHOOD
    )
    machine: MachineSettings = MachineSettings()

    @field_validator("baselines")
    @classmethod
    def _known_baselines(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in BASELINES:
                raise ValueError(f"no baseline {name!r}; {nearest(name, list(BASELINES))}")
        return names


def recipe(settings: ClassifierRecipe, run: Run) -> ClassificationOutcome:
    """Run the recipe: one line for each step, and a step whose artifact exists is not made again."""
    run.check = partial(check_settings, settings, run.store)
    tables = read_tables(settings, run)
    data = labelled_data(settings, run, tables)
    warmup = warm_up(settings, data)
    classifier = train(settings, data, warmup)
    return ClassificationOutcome(run, report_step(data, compared(settings, tables), {"warm-up": warmup}, classifier))


def read_tables(settings: ClassifierRecipe, run: Run) -> Artifact | None:
    """Return the tables of the shop, None without one."""
    return None if settings.data is None else load_tables(settings.data, run)


def compared(settings: ClassifierRecipe, tables: Artifact | None) -> Compared:
    """Return what a report compares the classifier with. Baselines may take the steps of both trainings together."""
    parts = (settings.warmup, settings.train)
    steps = None if any(part.max_steps is None for part in parts) else sum(part.max_steps or 0 for part in parts)
    changes = {"max_steps": steps, "epochs": sum(part.epochs for part in parts), "evaluate_every": None}
    training = settings.warmup.model_copy(update={**changes, "keep_best": None})
    return Compared(tables, settings.baselines, settings.encoder, training, settings.report_label)


def labelled_data(
    settings: ClassifierRecipe,
    run: Run,
    tables: Artifact | None,
    suffix: str = "",
    fold: Fold | None = None,
    test_seed: int | None = None,
) -> ClassifierData:
    """Return the labels, and the labelled queries of each split; those of `fold` are tested on.

    Test queries that are drawn are drawn by `test_seed`, or by the seed of `settings` for None.
    Raises `UsageError` if no label has the id `report_label`.
    """
    plan = LabelPlan(
        settings.labels,
        settings.sources,
        settings.knowledge,
        settings.validation_fraction,
        settings.test_fraction,
        settings.seed,
        fold,
        test_seed,
    )
    labels = label_step(run, tables, plan, suffix)
    data = ClassifierData(run, LabelData.open(run, labels), Trainer(settings.machine, settings.seed))
    check_shown_label(data.labels, settings.report_label)
    return data


def warm_up(settings: ClassifierRecipe, data: ClassifierData, suffix: str = "") -> Artifact:
    """Return `classifier/query-warmup`: labels from texts, their graph, trained on click labels."""
    graph = None
    if settings.classifier.structure_enhanced:
        graph = graph_step(data, settings.graph, settings.encoder, suffix)
    return warmup_step(data, graph, settings.encoder, settings.classifier, settings.warmup, suffix)


def train(settings: ClassifierRecipe, data: ClassifierData, warmup: Artifact, suffix: str = "") -> Artifact:
    """Return `classifier/query`: the warm classifier, trained with semi-supervised labels as well."""
    semi = semi_label_step(data, warmup, settings.semi, suffix) if settings.semi.enabled else None
    return classifier_step(data, warmup, semi, settings.train, suffix)


METRIC = LOG_LIKELIHOOD
"""The metric on validation queries that picks the best step, and that a search of settings compares trials by."""


def search_space(settings: ClassifierRecipe) -> dict[str, Any]:
    """Return what `raylevance tune` varies: Ray Tune's domains by setting, without those that can't matter."""
    unread = unread_settings(settings)
    return {name: domain for name, domain in whole_space(settings).items() if name not in unread}


def whole_space(settings: ClassifierRecipe) -> dict[str, Any]:
    """Return Ray Tune's domain of each setting that a search may vary."""
    from ray import tune

    for name, training in {"warmup": settings.warmup, "train": settings.train}.items():
        if training.evaluate_every is None:
            raise UsageError(f"{name}.evaluate_every=null: a search compares trials by {METRIC}; set it")
    return {
        "sources.titles": tune.uniform(0.05, 1.0),
        "warmup.learning_rate": tune.loguniform(1e-5, 2e-4),
        "warmup.head_learning_rate": tune.loguniform(3e-4, 1e-2),
        "train.learning_rate": tune.loguniform(1e-5, 1e-4),
        "semi.precision": tune.uniform(0.8, 0.99),
        "graph.alpha": tune.uniform(0.0, 0.4),
        "graph.beta": tune.uniform(0.5, 0.9),
        "classifier.layers": tune.choice([1, 2, 3]),
    }


def unsearched_settings(settings: ClassifierRecipe) -> dict[str, str]:
    """Return the settings that `raylevance tune` would vary if they could matter, each with the reason."""
    return {name: reason for name, reason in unread_settings(settings).items() if name in whole_space(settings)}


def unread_settings(settings: ClassifierRecipe) -> dict[str, str]:
    """Return the settings that can't matter under `settings`, each with the reason, so that no study varies them."""
    found: dict[str, str] = {}
    if not settings.classifier.structure_enhanced:
        reason = "classifier.structure_enhanced=false: no graph is read"
        names = ("graph.alpha", "graph.beta", "graph.cooccurrence", "graph.semantic", "graph.hierarchy", "graph.fusion")
        found |= dict.fromkeys((*names, "classifier.layers"), reason)
    if not settings.graph.cooccurrence:
        found["graph.alpha"] = "graph.cooccurrence=false: labels that occur together are not joined"
    if not settings.graph.semantic:
        found["graph.beta"] = "graph.semantic=false: labels with close texts are not joined"
    if not settings.graph.hierarchy or not (settings.graph.cooccurrence or settings.graph.semantic):
        found.setdefault("graph.fusion", "graph.fusion: without hierarchy and another graph both ways are one")
    if not settings.semi.enabled:
        found["semi.precision"] = "semi.enabled=false: there are no semi-supervised labels"
    if settings.data is None:
        found["sources.titles"] = "data=null: there are no titles"
    elif not settings.sources.titles:
        found["sources.titles"] = "sources.titles=0: no title is read"
    return found


def trial(settings: ClassifierRecipe, run: Run) -> Iterator[float]:
    """Yield `METRIC` of the warm-up, then of the classifier, from artifacts of a trial's own names."""
    run.check = partial(check_settings, settings, run.store)
    data = labelled_data(settings, run, read_tables(settings, run), "-trial")
    warmup = warm_up(settings, data, "-trial")
    yield kept_metric(warmup, METRIC)
    yield kept_metric(train(settings, data, warmup, "-trial"), METRIC)


def check_settings(settings: ClassifierRecipe, store: Store) -> None:
    """Refuse, before any work, what can't be read or found, and workers that the cluster has no room for."""
    check_encoder_settings(with_backbone_path(settings.encoder))
    for name, file in {"labels": settings.labels.file, "sources": settings.sources.file}.items():
        if file and not file.is_file():
            raise UsageError(f"{name}.file={file}: no such file")
    if settings.data is None and not (settings.labels.file and settings.sources.file):
        raise UsageError("data=null: without a shop set labels.file and sources.file")
    if "SetFit" in settings.baselines and importlib.util.find_spec("setfit") is None:
        raise UsageError("baselines: SetFit is not installed; install raylevance[compare], or leave it out")
    if settings.knowledge.world and not settings.knowledge.world.startswith("tables/"):
        raise UsageError(f"knowledge.world={settings.knowledge.world}: expected tables/knowledge, of run knowledge")
    if settings.classifier.structure_enhanced and not settings.graph.any:
        raise UsageError("graph: all three graphs are off; set classifier.structure_enhanced=false instead")
    for name, training in {"warmup": settings.warmup, "train": settings.train}.items():
        if training.tau:
            raise UsageError(f"{name}.tau: the recipe chooses tau itself; set semi.precision and semi.most")
        trainer.check_settings(training, settings.machine, evaluates=True, name=f"{name}.")
        if training.keep_best not in (None, ACCURACY, LOG_LIKELIHOOD):
            raise UsageError(
                f"{name}.keep_best={training.keep_best}: the recipe measures {ACCURACY} and {LOG_LIKELIHOOD}"
            )
