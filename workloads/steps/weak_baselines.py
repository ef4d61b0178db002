"""What a relevance model from a graph is compared with: models from the same clicks or labels without the graph."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raylevance.artifacts import Artifact, Draft
from raylevance.config import Settings
from raylevance.data.judged import Judged
from raylevance.data.schema import ACTIONS
from raylevance.data.text import ProductText
from raylevance.graph.building import COUNTED
from raylevance.inference.encoding import backbone_digest
from raylevance.models.encoder import EncoderSettings
from raylevance.models.relevance import RelevanceModel, RelevanceModelSettings
from raylevance.training.tasks.contrastive.task import ContrastiveSettings
from raylevance.training.tasks.relevance.task import Relevance, RelevanceSettings
from raylevance.training.trainer import NOT_PART_OF_THE_RESULT
from workloads.run import Run
from workloads.steps.graph_texts import Nodes
from workloads.steps.relevance_pairs import LabelledPairs, labelled_rows
from workloads.steps.training import Training, new_encoder, train_in

Baseline = Literal["clicks", "sbert", "masm"]

TITLES: dict[Baseline, str] = {"clicks": "click-trained", "sbert": "SBERT-style", "masm": "MASM-like"}

LEVELS = {"purchase": 1.0, "cart": 0.8, "click": 0.6}
"""Weights of a clicked pair by the highest level of its engagement (our choice; MASM states none)."""
IGNORED_AFTER = 3
"""Exposures without a click after which a pair counts as not relevant (our choice)."""


class BaselineSettings(Settings):
    """`clicks`: in-batch InfoNCE on raw clicked pairs. `sbert`: a siamese encoder and a classifier of both vectors on
    the judged pairs (Reimers and Gurevych 2019, arXiv 1908.10084, section 3). `masm`: the same network with token
    interaction on point-wise labels by level of engagement (after Yao et al. 2021, arXiv 2102.07098, simplified)."""

    which: tuple[Baseline, ...] = ("clicks", "sbert", "masm")
    clicks: ContrastiveSettings = ContrastiveSettings(loss="infonce", batch=32, max_steps=100, checkpoint_every=25)
    pairs: RelevanceSettings = RelevanceSettings(
        batch=32, learning_rate=2e-5, max_steps=60, evaluate_every=20, checkpoint_every=30, keep_best="auc"
    )


@dataclass(frozen=True)
class Baselines:
    """What the baselines are trained from; each method is a step. They share encoder, text, graph and labels with the
    model that they are compared with."""

    settings: BaselineSettings
    encoder: EncoderSettings
    text: ProductText
    run: Run
    tables: Artifact
    graph: Artifact
    learned: Judged
    validation: Judged
    seed: int
    suffix: str = ""
    """Of the artifacts' names."""

    def train(self) -> dict[str, Artifact]:
        """Those that the settings ask for, by title."""
        make = {"clicks": self.clicks, "sbert": self.sbert, "masm": self.masm}
        return {TITLES[name]: make[name]() for name in self.settings.which}

    def clicks(self) -> Artifact:
        """`encoder/clicks`: the backbone, trained on clicked pairs as they are."""
        training = Training(f"encoder/clicks{self.suffix}", self.settings.clicks, self.text, self.seed)
        described = training.described(self._made_from())

        def build(draft: Draft) -> None:
            with self.run.work_folder(training.name, described, self.graph.ref, self.seed) as work:
                (work / "instances").mkdir(exist_ok=True)
                rows = clicked_instances(self._counts(), self._nodes())
                pq.write_table(rows, work / "instances" / "part.parquet")
                training.train(draft, new_encoder(self.encoder, work / "backbone"), work)

        return self._step(training.name, build, described)

    def sbert(self) -> Artifact:
        """`scorer/sbert`: encoder and classifier, trained on the judged pairs."""
        return self._of_pairs(
            f"scorer/sbert{self.suffix}", lambda: LabelledPairs.of(self.learned, self.text).rows(), interaction=False
        )

    def masm(self) -> Artifact:
        """`scorer/masm`: encoder and classifier with token interaction, trained on levels of engagement."""
        return self._of_pairs(
            f"scorer/masm{self.suffix}", lambda: level_rows(self._counts(), self._nodes(), self.seed), interaction=True
        )

    def _of_pairs(self, name: str, rows: Callable[[], pa.Table], *, interaction: bool) -> Artifact:
        model = RelevanceModelSettings(token_interaction=interaction, freeze_encoder=False)
        train = self.settings.pairs
        described = self._made_from() | {
            "train": train.model_dump(mode="json", exclude=NOT_PART_OF_THE_RESULT),
            "model": model.model_dump(),
        }

        def build(draft: Draft) -> None:
            held_out = LabelledPairs.of(self.validation, self.text)
            with self.run.work_folder(name, described, self.graph.ref, self.seed) as work:
                backbone = new_encoder(self.encoder, work / "backbone")
                RelevanceModel.from_encoder(backbone, model, self.seed).save(work / "model")
                pq.write_table(rows(), work / "pairs.parquet")
                task = Relevance(work / "model", work / "pairs.parquet", train)
                trained = train_in(work, task, draft, self.seed, held_out.auc_of)
                shutil.copytree(trained, draft.path / "model")

        return self._step(name, build, described)

    def _step(self, name: str, build: Callable[[Draft], None], described: dict[str, Any]) -> Artifact:
        return self.run.step(name, build, settings=described, inputs=[self.tables, self.graph], seed=self.seed)

    def _made_from(self) -> dict[str, Any]:
        return {
            "encoder": self.encoder.model_dump(),
            "backbone": backbone_digest(self.encoder.backbone),
            "text": self.text.model_dump(mode="json"),
            "validation": self.validation.queries["query_id"].to_pylist(),
        }

    def _nodes(self) -> Nodes:
        return Nodes.read(self.run.store.path(self.tables.ref), self.run.store.path(self.graph.ref), self.text)

    def _counts(self) -> pa.Table:
        return pq.read_table(self.run.store.path(self.graph.ref) / COUNTED)


def clicked_instances(counts: pa.Table, nodes: Nodes) -> pa.Table:
    """Instances (query, items, labels) of each clicked pair alone: raw clicks, without the graph."""
    clicked = np.flatnonzero(counts["click"].to_numpy() > 0)
    queries = nodes.queries.take(counts["query"].take(clicked))
    items = nodes.items.take(counts["item"].take(clicked))
    one = np.arange(len(clicked) + 1, dtype=np.int32)
    labels = pa.array(np.full(len(clicked), 2, np.int8))
    lists = [pa.ListArray.from_arrays(pa.array(one), values) for values in (_one(items), labels)]
    return pa.table({"query": queries, "items": lists[0], "labels": lists[1]})


def level_rows(counts: pa.Table, nodes: Nodes, seed: int) -> pa.Table:
    """Point-wise labels by level: engaged with, weighed by the highest level; shown and ignored; and any other item."""
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
    return labelled_rows(*texts, labels, weights, "behaviour")


def _one(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
