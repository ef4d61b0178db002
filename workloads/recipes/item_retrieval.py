"""GCL-MO (arXiv 2307.04322): items like those that a user just chose, which the user is likely to choose next.

    raylevance run item-retrieval --set data.source=alibaba [--config F] [--set train.temperature=0.2]

Reads products and a log of events. Measures a model of the earlier part of the log on the requests of the later part,
then trains one on the whole log. Publishes `tables/<data set>`, `graph/items-held-out`, `requests/items-test`,
`encoder/items-held-out`, `table/items-held-out`, `report/item-retrieval`, and from the whole log `graph/items`,
`encoder/items` and `table/items`.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from pydantic import NonNegativeInt

from raylevance.artifacts import Artifact, Store
from raylevance.config import Settings
from raylevance.errors import UsageError
from raylevance.graph.item_graph import ItemGraphSettings
from raylevance.index.item_table import ItemTableSettings
from raylevance.inference.encoder import load as load_encoder
from raylevance.models.item_encoder import ItemEncoderSettings
from raylevance.training.settings import MachineSettings
from raylevance.training.tasks.item_retrieval import ItemRetrievalSettings
from raylevance.training.trainer import check_settings as check_training
from workloads.run import Run
from workloads.steps.encoder_training import Trainer
from workloads.steps.item_baselines import BASELINES, BaselineName
from workloads.steps.item_data import ItemData, TimeSplitSettings, graph_step, held_out_requests_step, text_step
from workloads.steps.item_measures import read_per_request
from workloads.steps.item_pages import check_shown_item
from workloads.steps.item_report import MODEL, PER_REQUEST, ItemOutcome, report_step
from workloads.steps.item_training import encoder_step, table_step
from workloads.steps.tables import DataSettings, load_tables


class ItemRecipe(Settings):
    """The settings that decide an item table, and the machine it is trained on. The defaults run on a laptop."""

    seed: NonNegativeInt = 0
    data: DataSettings = DataSettings(source="demo")
    split: TimeSplitSettings = TimeSplitSettings()
    graph: ItemGraphSettings = ItemGraphSettings()
    encoder: ItemEncoderSettings = ItemEncoderSettings()
    train: ItemRetrievalSettings = ItemRetrievalSettings(
        batch=256, epochs=1000, max_steps=400, learning_rate=3e-3, precision="fp32"
    )
    table: ItemTableSettings = ItemTableSettings()
    baselines: tuple[BaselineName, ...] = BASELINES
    """What the table is compared with."""
    refit: bool = True
    """Train on the whole log and publish table/items. Without it, only the report is made."""
    report_item: str | None = None
    """The product_id of the item whose edges the report's page draws; null draws those of the item with most events."""
    machine: MachineSettings = MachineSettings()


def recipe(settings: ItemRecipe, run: Run) -> ItemOutcome:
    """Run the recipe: one line for each step, and a step whose artifact exists is not made again."""
    run.check = partial(check_settings, settings, run.store)
    tables = load_tables(settings.data, run)
    data = ItemData.open(run, tables, settings.graph, settings.split)
    check_shown_item(data, settings.report_item)
    requests = held_out_requests_step(data, "items-test")
    texts = text_step(data, settings.encoder.text, "items-text") if settings.encoder.text else None
    graph, table = item_table(settings, data, data.cut, texts, "items-held-out")
    tested = {MODEL: table}
    shown = settings.report_item
    report = report_step(data, graph, requests, texts, tested, settings.baselines, settings.seed, shown=shown)
    if settings.refit:
        item_table(settings, data, data.end, texts, "items")
    return ItemOutcome(run, report)


def item_table(
    settings: ItemRecipe, data: ItemData, until: int, texts: Artifact | None, name: str
) -> tuple[Artifact, Artifact]:
    """Return the item graph `graph/<name>` and `table/<name>` from the events before `until`."""
    graph = graph_step(data, until, name)
    trainer = Trainer(settings.machine, settings.seed)
    encoder = encoder_step(
        data, graph, texts, settings.encoder, settings.train, settings.table.popularity, trainer, name
    )
    return graph, table_step(data, graph, encoder, settings.table, settings.train, name)


TRIAL = "items-trial"
METRIC = "recall@200"
"""The metric on held-out requests that a search of settings compares trials by."""


def search_space(settings: ItemRecipe) -> dict[str, Any]:
    """Return what `raylevance tune` varies: Ray Tune's domains by setting, without those that can't matter."""
    unread = unread_settings(settings)
    return {name: domain for name, domain in _whole_space().items() if name not in unread}


def _whole_space() -> dict[str, Any]:
    from ray import tune

    return {
        "train.temperature": tune.loguniform(0.05, 0.4),
        "train.weights.relevance": tune.uniform(0.0, 2.0),
        "train.weights.exposure": tune.uniform(0.0, 2.0),
        "train.weights.click": tune.uniform(0.5, 2.0),
        "train.weights.purchase": tune.uniform(0.0, 3.0),
        "train.drop_nodes": tune.uniform(0.0, 0.4),
        "train.perturb_edges": tune.uniform(0.0, 0.4),
        "train.neighbours": tune.choice([5, 10, 20]),
        "train.learning_rate": tune.loguniform(1e-3, 1e-2),
    }


def unsearched_settings(settings: ItemRecipe) -> dict[str, str]:
    """Return the settings that `raylevance tune` would vary if they could matter, each with the reason."""
    space = _whole_space()
    return {name: reason for name, reason in unread_settings(settings).items() if name in space}


def unread_settings(settings: ItemRecipe) -> dict[str, str]:
    """Return the settings that can't matter under `settings`, each with the reason, so that no study varies them."""
    found: dict[str, str] = {}
    if not settings.encoder.neighbours:
        names = ("train.neighbours", "train.drop_nodes", "train.perturb_edges")
        found |= dict.fromkeys(names, "encoder.neighbours=false: no neighbour is read")
    if not settings.encoder.ids:
        found["train.id_learning_rate"] = "encoder.ids=false: no item has a vector of its own"
    if not settings.train.histories:
        found["train.history_weight"] = "train.histories=0: no history is read"
    return found


def settings_without_effect(settings: ItemRecipe, run: Run) -> dict[str, str]:
    """Return the searched settings that turned out not to matter in the trial that `run` made, each with the reason.

    They are the weights of the objectives that the log has no edges of, such as exposure in a log of purchases.
    """
    return {
        setting: reason
        for artifact in run.made
        if artifact.name == f"graph/{TRIAL}"
        for setting, reason in weights_without_edges(artifact).items()
    }


def weights_without_edges(graph: Artifact) -> dict[str, str]:
    """Return the weights of the objectives that an item graph has no edges of, each with the reason."""
    without = graph.metrics["objectives_without_edges"]
    return {f"train.weights.{name}": f"the item graph has no edge of the objective {name}" for name in without}


def trial(settings: ItemRecipe, run: Run) -> Iterator[float]:
    """Yield `METRIC` on the requests before the test part, of a model of the events before these."""
    run.check = partial(check_settings, settings, run.store)
    tables = load_tables(settings.data, run)
    whole = ItemData.open(run, tables, settings.graph, settings.split)
    split = settings.split.model_copy(update={"test_days": whole.held_out_days})
    data = ItemData.open(run, tables, settings.graph, split, end=whole.cut)
    requests = held_out_requests_step(data, TRIAL)
    texts = text_step(data, settings.encoder.text, "items-text") if settings.encoder.text else None
    graph, table = item_table(settings, data, data.cut, texts, TRIAL)
    report = report_step(data, graph, requests, texts, {MODEL: table}, (), settings.seed, TRIAL)
    yield float(np.nanmean(read_per_request(run.store.path(report.ref) / PER_REQUEST, MODEL)[METRIC]))


def check_settings(settings: ItemRecipe, store: Store) -> None:
    """Refuse, before any work, an encoder of texts that is not there, workers that the cluster has no room for, and
    settings that the training does not read."""
    if settings.encoder.text:
        load_encoder(store, settings.encoder.text)
    if settings.train.precision == "bf16":
        raise UsageError(f"train.precision={settings.train.precision}: item encoders train in fp32; leave it out")
    if settings.machine.batch_tokens:
        raise UsageError("machine.batch_tokens: item encoders read no texts; train.batch and machine.workers decide")
    check_training(settings.train, settings.machine, evaluates=False, name="train.")
