"""Train an item encoder on an item graph, and make its table."""

import shutil
from pathlib import Path

import numpy as np
import torch

from raylevance.artifacts import Artifact, Draft
from raylevance.graph.item_choices import requests_before_and_after
from raylevance.graph.item_graph import REQUESTS_FOLDER
from raylevance.index.item_scores import popularity_of_new_items, popularity_terms
from raylevance.index.item_table import ItemTable, ItemTableSettings, nearest_items
from raylevance.models.item_encoder import ItemEncoder, ItemEncoderSettings
from raylevance.models.item_features import ItemVocabulary, category_ids
from raylevance.training.tasks.item_retrieval.item_nodes import ItemNodes
from raylevance.training.tasks.item_retrieval.task import ItemRetrieval, ItemRetrievalSettings
from workloads.run import Run
from workloads.steps.encoder_training import Trainer, precision_settings
from workloads.steps.item_data import TEXTS, ItemData, load_graph

VECTORS = "vectors.npy"
READING = 2
"""Goes up when the same settings train another encoder, so that one from before is not taken for the same."""


def encoder_step(
    data: ItemData,
    graph: Artifact,
    texts: Artifact | None,
    encoder: ItemEncoderSettings,
    train: ItemRetrievalSettings,
    popularity: float,
    trainer: Trainer,
    name: str,
) -> Artifact:
    """Return `encoder/<name>`: an item encoder trained on `graph`, with the vector of every item.

    `popularity` is that of the table that is made of it; only the loss of histories reads it.
    """
    run = data.run

    def build(draft: Draft) -> None:
        loaded = load_graph(data, graph)
        file = text_file(run, texts)
        text_size = np.load(file, mmap_mode="r").shape[1] if file else 0
        with run.work_folder() as work:
            start = work / "start"
            if not start.exists():
                torch.manual_seed(trainer.seed)
                new = ItemEncoder(encoder, ItemVocabulary.of(loaded.items), len(loaded), text_size)
                new.save(work / "start.draft")
                (work / "start.draft").rename(start)
            task = ItemRetrieval(start, run.store.path(graph.ref), file, train, popularity)
            trained = trainer.train(task, draft, work)
            shutil.copytree(trained, draft.path, dirs_exist_ok=True)
        model = ItemEncoder.load(draft.path).eval()
        nodes = ItemNodes(loaded, model.vocabulary, file)
        np.save(draft.path / VECTORS, nodes.vectors(model, np.arange(len(loaded))))

    settings = {"encoder": encoder, "train": train, "reading": READING, **precision_settings()}
    if train.histories:
        settings["popularity"] = popularity
    inputs = [graph, *([texts] if texts else [])]
    return run.step(f"encoder/{name}", build, settings=settings, inputs=inputs, seed=trainer.seed)


def text_file(run: Run, texts: Artifact | None) -> Path | None:
    """Return the file of the text vectors of an artifact of `text_step`; None without one."""
    return run.store.path(texts.ref) / TEXTS if texts else None


def table_step(
    data: ItemData,
    graph: Artifact,
    encoder: Artifact,
    settings: ItemTableSettings,
    train: ItemRetrievalSettings,
    name: str,
) -> Artifact:
    """Return `table/<name>`: for each item, the items nearest to it by `encoder` and their popularity.

    The popularity of items without events is measured, unless the encoder was trained on histories, whose loss takes
    them for average ones.
    """
    run, temperature = data.run, train.temperature
    measured = settings.popularity > 0 and not train.histories

    def build(draft: Draft) -> None:
        loaded = load_graph(data, graph)
        items = loaded.items
        categories = category_ids(items)
        vectors = np.load(run.store.path(encoder.ref) / VECTORS)
        terms = None
        if settings.popularity:
            new = 1.0
            if measured:
                folder = run.store.path(graph.ref) / REQUESTS_FOLDER
                new = popularity_of_new_items(*requests_before_and_after(folder, len(items)))
            draft.metrics["popularity_of_new_items"] = round(new, 3)
            terms = popularity_terms(loaded.event_counts.sum(axis=1), temperature, settings.popularity, new)
        rows, scores = nearest_items(vectors, categories.to_pylist(), settings, terms)
        listed = items.select(["product_id"]).append_column("category", categories)
        ItemTable(listed, rows, scores, temperature).save(draft.path, settings)
        draft.metrics |= {"items": len(rows), "k": settings.k}

    described = {"table": settings, "temperature": temperature}
    if measured:
        # Not a setting: tables from before new items were measured are made anew.
        described["new_items"] = "measured"
    return run.step(f"table/{name}", build, settings=described, inputs=[graph, encoder])
