"""Baselines of query classification that train a network, with the interface of `classification_baselines`.

Each takes the steps that the settings of both trainings of the classifier allow together, and keeps the last. XML-CNN
and LSAN are written from their papers, with the changes that their docstrings name.
"""

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray.data
import torch

from raylevance.data.label_space import LabelSpace
from raylevance.data.query_labels import QUERY_LABELS
from raylevance.errors import RaylevanceError
from raylevance.graph.label_graphs import cooccurrence_graph, fuse_graphs, normalise, semantic_graph
from raylevance.inference.encoder import NamedEncoder
from raylevance.losses.binary_cross_entropy import multi_label_cross_entropy
from raylevance.models.encoder import Encoder, prepare_encoders
from raylevance.models.precision import forward_dtype
from raylevance.models.query_classifier import QueryClassifier, QueryClassifierSettings
from raylevance.progress import progress_bar
from raylevance.training.loop import total_steps
from raylevance.training.optimizer import build_optimizer, set_rate
from raylevance.training.task import TOKENS, WorkerContext
from raylevance.training.tasks.classification import ClassificationSettings
from raylevance.training.tasks.classification.replica import ClassificationReplica
from raylevance.training.tasks.classification.task import LABELLED_QUERIES
from raylevance.training.tasks.classification.tokenised_queries import TokenisedQueries
from workloads.steps.classification_baselines import Scores, TrainingRows
from workloads.steps.token_networks import Lsan, XmlCnn

SMGCN_ALPHA, SMGCN_BETA, SMGCN_TAU = 0.1, 0.8, 0.8
"""The cuts of SMGCN's two graphs and of its semi-supervised labels, which its paper does not state (our choice)."""
QUERIES_AT_ONCE = 256
HEAD_STRENGTH = 100.0
"""C of SetFit's logistic regression. At its default of 1, vectors of length 1 and a few queries for each label give the
most frequent labels to most queries."""
Network = XmlCnn | Lsan


@dataclass(frozen=True)
class PlainEncoder:
    """The encoder with a learned vector for each label: no label texts, graph or semi-supervised labels."""

    encoder: NamedEncoder
    training: ClassificationSettings
    seed: int

    def scores(self, train: pa.Table, space: LabelSpace, task: str, queries: Sequence[str]) -> Scores:
        """Return the probability of each label."""
        alone, rows = _of_task(train, space, task)
        settings = QueryClassifierSettings(label_enhanced=False, structure_enhanced=False)
        model = QueryClassifier.from_encoder(self.encoder.path, alone, {}, settings, self.seed)
        train_here(model, rows, self.training, self.seed)
        return model.eval().probabilities(queries)[0]


@dataclass(frozen=True)
class Smgcn:
    """The predecessor of SSUF: label texts, semi-supervised labels without knowledge, two graphs without hierarchy.

    The second half of the steps has semi-supervised labels. Source: SMGCN (arXiv 2408.01928); what its abstract leaves
    open is as in SSUF.
    """

    encoder: NamedEncoder
    training: ClassificationSettings
    seed: int

    def scores(self, train: pa.Table, space: LabelSpace, task: str, queries: Sequence[str]) -> Scores:
        """Return the probability of each label."""
        alone, rows = _of_task(train.select(QUERY_LABELS.names), space, task)
        vectors = Encoder.load(self.encoder.path).encode_items(alone.labels["text"].to_pylist())
        together = cooccurrence_graph(ray.data.from_arrow(rows.select(["labels"])), alone.rows(task), SMGCN_ALPHA)
        graph = normalise(fuse_graphs(together, semantic_graph(vectors, SMGCN_BETA), None)).tocsr()
        settings = QueryClassifierSettings()
        model = QueryClassifier.from_encoder(self.encoder.path, alone, {task: graph}, settings, self.seed)
        steps = total_steps(self.training, -(-rows.num_rows // self.training.batch))
        for part, tau in ((steps - steps // 2, {}), (steps // 2, {task: SMGCN_TAU})):
            if part:
                half = self.training.model_copy(update={"max_steps": part, "tau": tau, "epochs": part})
                train_here(model, rows, half, self.seed)
        return model.eval().probabilities(queries)[0]


@dataclass(frozen=True)
class TokenNetwork:
    """XML-CNN or LSAN on the token vectors of the encoder's backbone, which are trained with it."""

    kind: type[Network]
    encoder: NamedEncoder
    training: ClassificationSettings
    seed: int

    def scores(self, train: pa.Table, space: LabelSpace, task: str, queries: Sequence[str]) -> Scores:
        """Return the probability of each label."""
        alone, rows = _of_task(train, space, task)
        known = TrainingRows.of(rows, alone, task)
        encoder = Encoder.load(self.encoder.path)
        texts = np.array(alone.labels["text"].to_pylist(), object)[alone.predicted]
        vectors = encoder.query_tower.get_input_embeddings().weight.detach().float()
        with torch.random.fork_rng([]):
            torch.manual_seed(self.seed)
            network = self.kind(vectors, encoder.tokenize(texts.tolist(), "item"))
            tokens = encoder.tokenize(known.queries, "query")
            _fit(network, tokens, known, self.training, self.seed)
        network.eval()
        asked = encoder.tokenize(list(queries), "query")
        with torch.no_grad():
            parts = [network(asked[at : at + QUERIES_AT_ONCE]) for at in range(0, len(asked), QUERIES_AT_ONCE)]
        return np.asarray(torch.cat(parts).sigmoid().numpy(), np.float32)


@dataclass(frozen=True)
class SetFit:
    """The library SetFit: contrastive pairs of queries, then a logistic regression on their vectors.

    A step has `batch` pairs. Labels without a training query have 0. Source: Tunstall et al. 2022 (arXiv 2209.11055).
    """

    encoder: NamedEncoder
    training: ClassificationSettings
    seed: int

    def scores(self, train: pa.Table, space: LabelSpace, task: str, queries: Sequence[str]) -> Scores:
        """Return the probability of each label. Raises `RaylevanceError` if SetFit is not installed."""
        try:
            from datasets import Dataset
            from setfit import SetFitModel, Trainer, TrainingArguments
        except ImportError:
            raise RaylevanceError("baseline SetFit: not installed; install raylevance[compare]") from None
        known = TrainingRows.of(train, space, task)
        has_label = known.has_label.toarray() > 0
        seen = np.flatnonzero(has_label.any(axis=0))
        single = bool((has_label.sum(axis=1) == 1).all())
        labels: Any = has_label[:, seen].argmax(axis=1) if single else has_label[:, seen].astype(int)
        steps, batch = total_steps(self.training, -(-len(known.queries) // self.training.batch)), self.training.batch
        head: dict[str, Any] = {"head_params": {"C": HEAD_STRENGTH}}
        if not single:
            head["multi_target_strategy"] = "one-vs-rest"
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                batch_size=batch,
                max_steps=steps,
                num_iterations=-(-steps * batch // (2 * len(known.queries))),
                seed=self.seed,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                show_progress_bar=False,
            )
            model = SetFitModel.from_pretrained(str(self.encoder.path), **head)
            rows = Dataset.from_dict({"text": known.queries, "label": labels.tolist()})
            with warnings.catch_warnings():
                # sentence-transformers asks for pinned memory on every machine.
                warnings.filterwarnings("ignore", message=".*pin_memory.*", category=UserWarning)
                Trainer(model=model, args=arguments, train_dataset=rows).train()
        scores = np.zeros((len(queries), has_label.shape[1]), np.float32)
        scores[:, seen] = np.asarray(model.predict_proba(list(queries), as_numpy=True, show_progress_bar=False))
        return scores


def train_here(model: QueryClassifier, rows: pa.Table, settings: ClassificationSettings, seed: int) -> None:
    """Train `model` in this process on `rows` in `QUERY_LABELS`, as a worker of Ray Train does, without evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        tokens = LABELLED_QUERIES.tokenise(rows, model.encoder.tokenize)
        with pa.OSFile(f"{folder}/{TOKENS}", "wb") as sink, pa.ipc.new_file(sink, tokens.schema) as writer:
            writer.write_table(tokens)
        dtype = forward_dtype(settings.precision, model.device)
        context = WorkerContext(Path(folder), seed, autocast_dtype=dtype)
        queries = TokenisedQueries(Path(folder) / TOKENS, model.space)
        replica = ClassificationReplica(model, queries, settings, context).train()
        prepare_encoders(replica, context.autocast_dtype)
        optimizer = build_optimizer(replica, settings)
        steps = total_steps(settings, replica.steps_per_epoch)
        with progress_bar("baseline", "steps", steps) as bar:
            for step in range(steps):
                optimizer.zero_grad()
                replica.backward(step)
                torch.nn.utils.clip_grad_norm_(replica.parameters(), settings.clip_norm)
                set_rate(optimizer, step, steps, settings.warmup_ratio)
                optimizer.step()
                bar.advance(1)


def _fit(
    network: Network, tokens: list[list[int]], known: TrainingRows, training: ClassificationSettings, seed: int
) -> None:
    """Train `network` with Adam at its own rate."""
    batches = -(-len(tokens) // training.batch)
    steps = total_steps(training, batches)
    optimizer = torch.optim.Adam(network.parameters(), lr=network.RATE)
    weights = torch.from_numpy(known.weights).float()
    with progress_bar(type(network).__name__, "steps", steps) as bar:
        for step in range(steps):
            if step % batches == 0:
                order = np.random.default_rng([seed, step // batches]).permutation(len(tokens))
            place = step % batches * training.batch
            rows = order[place : place + training.batch]
            targets = torch.from_numpy(known.has_label[rows].toarray()).float()
            logits = network([tokens[row] for row in rows])
            optimizer.zero_grad()
            (multi_label_cross_entropy(logits, targets, weights[rows]) / len(rows)).backward()
            optimizer.step()
            bar.advance(1)


def _of_task(train: pa.Table, space: LabelSpace, task: str) -> tuple[LabelSpace, pa.Table]:
    """Return the labels of `task` as a space of its own, and its training queries with rows of that space."""
    span = space.rows(task)
    rows = train.filter(pc.equal(train["task"], task)).combine_chunks()
    if not rows.num_rows:
        raise RaylevanceError(f"task {task!r}: no training query has a label; add a source of labels")
    lists = rows["labels"].combine_chunks()
    shifted: npt.NDArray[np.int32] = lists.flatten().to_numpy().astype(np.int32) - np.int32(span.start)
    starts = np.concatenate([[0], np.cumsum(pc.list_value_length(lists).to_numpy())]).astype(np.int32)
    labels = pa.ListArray.from_arrays(pa.array(starts), pa.array(shifted))
    own = LabelSpace(space.labels.slice(span.start, span.stop - span.start))
    return own, rows.set_column(rows.column_names.index("labels"), "labels", labels)
