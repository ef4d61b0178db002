"""Baselines of weak supervision: models trained on the same clicks or labels without the graph."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raylevance.artifacts import Artifact, Draft
from raylevance.config import Settings
from raylevance.data.schema import ACTIONS
from raylevance.models.relevance import RelevanceModel, RelevanceModelSettings
from raylevance.progress import status
from raylevance.training.settings import TrainSettings
from raylevance.training.tasks.contrastive.task import ContrastiveSettings
from raylevance.training.tasks.relevance.task import Relevance, RelevanceSettings
from workloads.steps.encoder_training import backbone_settings, new_encoder, training_settings
from workloads.steps.graph_texts import GraphTexts
from workloads.steps.relevance_pairs import LabelledPairs, labelled_rows, one_row_per_pair
from workloads.steps.weak_data import WeakData

Baseline = Literal["clicks", "sbert", "masm"]

TITLES: dict[Baseline, str] = {"clicks": "click-trained", "sbert": "SBERT-style", "masm": "MASM-like"}

LEVELS = {"purchase": 1.0, "cart": 0.8, "click": 0.6}
"""The weight of a pair by its highest level of engagement (our choice; MASM states none)."""
IGNORED_AFTER = 3
"""The number of exposures without a click after which a pair counts as not relevant (our choice)."""


class BaselineSettings(Settings):
    """The baselines to train.

    `clicks` is in-batch InfoNCE on raw clicked pairs. `sbert` is a siamese encoder and a classifier of both vectors on
    the judged pairs (Reimers and Gurevych 2019, arXiv 1908.10084, section 3). `masm` is the same network with token
    interaction on point-wise labels by level of engagement (after Yao et al. 2021, arXiv 2102.07098, simplified).
    """

    which: tuple[Baseline, ...] = ("clicks", "sbert", "masm")
    clicks: ContrastiveSettings = ContrastiveSettings(loss="infonce", batch=32, max_steps=100)
    pairs: RelevanceSettings = RelevanceSettings(
        batch=32, learning_rate=2e-5, max_steps=60, evaluate_every=20, keep_best="auc"
    )


@dataclass(frozen=True)
class Baselines:
    """Trains the baselines. They share encoder, text, graph and labels with the model that they are compared with."""

    settings: BaselineSettings
    data: WeakData
    suffix: str = ""
    """The end of the names of the artifacts."""

    def train(self) -> dict[str, Artifact]:
        """Train the baselines that the settings ask for and return them by title."""
        make = {"clicks": self.clicks, "sbert": self.sbert, "masm": self.masm}
        return {TITLES[name]: make[name]() for name in self.settings.which}

    def clicks(self) -> Artifact:
        """Return `encoder/clicks`: the backbone, trained by in-batch InfoNCE on clicked pairs, without the graph."""
        data, train = self.data, self.settings.clicks

        def build(draft: Draft) -> None:
            with data.run.work_folder() as work:
                (work / "instances").mkdir(exist_ok=True)
                rows = clicked_instances(data.action_counts(), data.graph_texts())
                pq.write_table(rows, work / "instances" / "part.parquet")
                start = new_encoder(data.encoder, work / "backbone")
                data.trainer.train_encoder(start, train, data.text, draft, work)

        return self._step("encoder/clicks", build, train)

    def sbert(self) -> Artifact:
        """Return `scorer/sbert`: an encoder and a classifier of its vectors, trained on the judged pairs."""
        return self._pair_classifier(
            "scorer/sbert",
            lambda: LabelledPairs.of(self.data.train, self.data.text).rows(),
            token_interaction=False,
        )

    def masm(self) -> Artifact:
        """Return `scorer/masm`: an encoder and a classifier with token interaction, trained on levels of engagement."""
        return self._pair_classifier(
            "scorer/masm",
            lambda: level_rows(self.data.action_counts(), self.data.graph_texts(), self.data.trainer.seed),
            token_interaction=True,
        )

    def _pair_classifier(self, name: str, rows: Callable[[], pa.Table], *, token_interaction: bool) -> Artifact:
        data, train = self.data, self.settings.pairs
        model = RelevanceModelSettings(token_interaction=token_interaction, freeze_encoder=False)

        def build(draft: Draft) -> None:
            held_out = LabelledPairs.of(data.validation, data.text)
            with data.run.work_folder() as work:
                backbone = new_encoder(data.encoder, work / "backbone")
                RelevanceModel.from_encoder(backbone, model, data.trainer.seed).save(work / "model")
                pq.write_table(rows(), work / "pairs.parquet")
                task = Relevance(work / "model", work / "pairs.parquet", train)
                trained = data.trainer.train(task, draft, work, held_out.auc_of)
                shutil.copytree(trained, draft.path / "model")

        return self._step(name, build, train, model=model)

    def _step(self, name: str, build: Callable[[Draft], None], train: TrainSettings, **others: Any) -> Artifact:
        data = self.data
        validation = data.validation.queries["query_id"].to_pylist()
        encoder = backbone_settings(data.encoder)
        described = training_settings(train, data.text, **encoder, validation=validation, **others)
        inputs, seed = [data.tables, data.graph], data.trainer.seed
        return data.run.step(f"{name}{self.suffix}", build, settings=described, inputs=inputs, seed=seed)


def clicked_instances(counts: pa.Table, nodes: GraphTexts) -> pa.Table:
    """Return one instance (query, items, labels) for each clicked pair: raw clicks, without the graph."""
    clicked = np.flatnonzero(counts["click"].to_numpy() > 0)
    queries = nodes.queries.take(counts["query"].take(clicked))
    items = nodes.items.take(counts["item"].take(clicked))
    one = np.arange(len(clicked) + 1, dtype=np.int32)
    labels = pa.array(np.full(len(clicked), 2, np.int8))
    lists = [pa.ListArray.from_arrays(pa.array(one), values) for values in (_one(items), labels)]
    return pa.table({"query": queries, "items": lists[0], "labels": lists[1]})


def level_rows(counts: pa.Table, nodes: GraphTexts, seed: int) -> pa.Table:
    """Return pairs labelled by engagement: relevant with the weight of the highest level, or not relevant.

    Pairs that were shown often and never clicked, and random items, are not relevant. No pair of texts has two labels.
    """
    seen: dict[str, Any] = {action: counts[action].to_numpy() for action in ACTIONS}
    weight = np.zeros(counts.num_rows)
    for action, value in LEVELS.items():
        weight = np.maximum(weight, value * (seen[action] > 0))
    ignored = (weight == 0) & (seen["exposure"] >= IGNORED_AFTER)
    engaged, passed = np.flatnonzero(weight > 0), np.flatnonzero(ignored)
    other = np.random.default_rng(seed).integers(0, len(nodes.items), len(engaged))
    query, item = counts["query"].to_numpy(), counts["item"].to_numpy()
    queries = np.concatenate([query[engaged], query[passed], query[engaged]])
    items = np.concatenate([item[engaged], item[passed], other])
    weights = np.concatenate([weight[engaged], np.ones(len(passed) + len(engaged))])
    labels = np.arange(len(queries)) < len(engaged)
    texts = nodes.queries.take(pa.array(queries)), nodes.items.take(pa.array(items))
    rows = labelled_rows(*texts, labels, weights, "behaviour")
    kept = one_row_per_pair(rows)
    if kept.num_rows < rows.num_rows:
        status(f"pairs by engagement: {rows.num_rows - kept.num_rows} of {rows.num_rows} repeat texts and are left out")
    return kept


def _one(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
