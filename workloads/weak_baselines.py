"""What a relevance model from a graph is compared with: models from the same clicks or labels without the graph."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raylevance.artifacts import Artifact, Draft
from raylevance.config import Settings
from raylevance.data.schema import ACTIONS
from raylevance.data.text import ProductText
from raylevance.graph.building import COUNTED
from raylevance.models.encoder import Encoder, EncoderSettings
from raylevance.models.relevance import RelevanceModel, RelevanceModelSettings
from raylevance.training import trainer
from raylevance.training.contrastive import ContrastiveSettings
from raylevance.training.relevance import Relevance, RelevanceSettings
from raylevance.training.trainer import NOT_PART_OF_THE_RESULT
from workloads.encode import backbone_digest, backbone_path
from workloads.judged import Judged
from workloads.relevance_pairs import LabelledPairs, labelled_rows
from workloads.steps import Run
from workloads.trainings import Training
from workloads.weak_pairs import Nodes

Baseline = Literal["clicks", "sbert", "masm"]

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


def train_baselines(
    settings: BaselineSettings,
    encoder: EncoderSettings,
    text: ProductText,
    run: Run,
    tables: Artifact,
    graph: Artifact,
    learned: Judged,
    validation: Judged,
    seed: int,
) -> dict[str, Artifact]:
    """`encoder/clicks`, `scorer/sbert` and `scorer/masm`, those that were asked for."""
    made_from = {
        "encoder": encoder.model_dump(),
        "backbone": backbone_digest(encoder.backbone),
        "text": text.model_dump(mode="json"),
        "validation": validation.queries["query_id"].to_pylist(),
    }

    def nodes() -> Nodes:
        return Nodes.read(run.store.path(tables.ref), run.store.path(graph.ref), text)

    def counts() -> pa.Table:
        return pq.read_table(run.store.path(graph.ref) / COUNTED)

    def new_encoder(folder: Path) -> Path:
        backbone = encoder.model_copy(update={"backbone": str(backbone_path(encoder.backbone))})
        Encoder.from_backbone(backbone).save(folder)
        return folder

    def train_clicks() -> Artifact:
        training = Training("encoder/clicks", settings.clicks, text, seed)
        described = training.described(made_from)

        def build(draft: Draft) -> None:
            with run.work_folder(training.name, described, graph.ref, seed) as work:
                (work / "instances").mkdir(exist_ok=True)
                pq.write_table(clicked_instances(counts(), nodes()), work / "instances" / "part.parquet")
                training.train(draft, new_encoder(work / "backbone"), work)

        return run.step(training.name, build, settings=described, inputs=[tables, graph], seed=seed)

    def train_pairs(name: str, interaction: bool, rows: Callable[[], pa.Table]) -> Artifact:
        model = RelevanceModelSettings(token_interaction=interaction, freeze_encoder=False)
        train = settings.pairs.model_dump(mode="json", exclude=NOT_PART_OF_THE_RESULT)
        described = made_from | {"train": train, "model": model.model_dump()}

        def build(draft: Draft) -> None:
            held_out = LabelledPairs.of(validation, text)
            with run.work_folder(name, described, graph.ref, seed) as work:
                RelevanceModel.from_encoder(new_encoder(work / "backbone"), model, seed).save(work / "model")
                pq.write_table(rows(), work / "pairs.parquet")
                task = Relevance(work / "model", work / "pairs.parquet", settings.pairs)
                result = trainer.train(
                    task, run_dir=work / "run", output=work / "trained", evaluate=held_out.auc_of, seed=seed
                )
                shutil.copytree(result.model, draft.path / "model")
                draft.metrics |= {"steps": result.steps, "history": result.history}

        return run.step(name, build, settings=described, inputs=[tables, graph], seed=seed)

    def judged_rows() -> pa.Table:
        human = LabelledPairs.of(learned, text)
        ones = np.ones(len(human.labels))
        return labelled_rows(pa.array(human.queries), pa.array(human.texts), human.labels, ones, "human")

    make: dict[Baseline, Callable[[], Artifact]] = {
        "clicks": train_clicks,
        "sbert": lambda: train_pairs("scorer/sbert", False, judged_rows),
        "masm": lambda: train_pairs("scorer/masm", True, lambda: level_rows(counts(), nodes(), seed)),
    }
    return {name: make[name]() for name in settings.which}


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
