"""The replica of the classification task: one step on labelled queries.

Source: SSUF (arXiv 2506.21049), knowledge-enhanced module, for the stop-gradient; the schedule of the label texts is
our choice.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch

from raylevance.losses.binary_cross_entropy import multi_label_cross_entropy
from raylevance.losses.semi_labels import fuse_knowledge, place_knowledge, semi_labels, soft_targets
from raylevance.models.batching import length_groups
from raylevance.models.query_classifier import QueryClassifier
from raylevance.models.tokenizer import Side
from raylevance.training.epoch_plan import EpochPlan
from raylevance.training.gradient_accumulation import backward_through_groups, embed_without_graph
from raylevance.training.task import TaskReplica, WorkerContext
from raylevance.training.tasks.classification.tokenised_queries import TokenisedQueries
from raylevance.training.text_groups import ForwardOptions, embed_group, in_batch_order, text_groups
from raylevance.training.token_file import Ints, Tokens

if TYPE_CHECKING:
    from raylevance.training.tasks.classification.task import ClassificationSettings


class ClassificationReplica(TaskReplica):
    """A query classifier, and its batches of queries.

    A step computes the vectors of all labels once, then the loss of one group of queries after another. Only the graph
    of one group of texts is in memory: the gradient of the labels' vectors is gathered, and carried through the label
    texts, in groups, at the end of a step that encodes them.
    """

    def __init__(
        self,
        model: QueryClassifier,
        queries: TokenisedQueries,
        settings: "ClassificationSettings",
        context: WorkerContext,
    ) -> None:
        super().__init__(model, EpochPlan.shuffled(queries.lengths, settings.batch, context.seed), context)
        self.parameter_groups = {"model.heads.": settings.head_learning_rate}
        self._queries, self._settings = queries, settings
        texts = model.encoder.tokenize(model.space.labels["text"].to_pylist(), "item")
        self._label_texts = [np.array(text, np.int32) for text in texts]
        # The latest encoding of the label texts is part of a checkpoint: a resumed run could not make it again.
        self.register_buffer("labels", torch.zeros(len(model.space), model.encoder.dimension))
        self.labels: torch.Tensor
        self._passing = torch.zeros(2)

    @property
    def _options(self) -> ForwardOptions:
        return ForwardOptions(self.batch_tokens, autocast_dtype=self.context.autocast_dtype)

    def backward(self, step: int) -> torch.Tensor:
        """Add the gradient of this worker's share of `step`, as `TaskReplica.backward` does."""
        encoding = self.model.settings.label_enhanced and step % self._settings.refresh_every == 0
        groups = list(text_groups(self.model.encoder, self._label_texts, "item", 0, self._options)) if encoding else []
        states: list[torch.Tensor] = []
        if encoding:
            self.labels, states = embed_without_graph(self.model.encoder, groups, self._options)
        labels = self.labels.detach().requires_grad_(encoding)
        loss = self._backward_through_queries(self.context.share(self.rows(step)), labels)
        if labels.grad is not None:
            backward_through_groups(self.model.encoder, groups, states, labels.grad, self._options)
        return loss

    def logged(self) -> dict[str, torch.Tensor]:
        """Return the semi-supervised labels per query of this worker's share of the latest step."""
        return {"semi_labels": self._passing[0] / self._passing[1].clamp(min=1)} if self._settings.tau else {}

    def _backward_through_queries(self, rows: Ints, labels: torch.Tensor) -> torch.Tensor:
        """Backpropagate the loss of the queries `rows` down to `labels` [labels, d], which gets its gradient."""
        total = self.zero_loss()
        self._passing = torch.zeros(2)
        for number, task in enumerate(self.model.space.tasks):
            own = rows[self._queries.tasks[rows] == number]
            if not len(own):
                continue
            head = self.model.task_heads()[number]
            vectors = labels[self.model.space.rows(task)] if head.vectors is None else head.vectors
            weights = head(vectors)
            leaf = weights.detach().requires_grad_()
            compared = vectors[head.predicted]
            compared_leaf = compared.detach().requires_grad_()
            for group in length_groups(self._queries.lengths[own], self.batch_tokens):
                loss = self._group_loss(own[group], task, head.bias, leaf, compared_leaf)
                loss.backward()
                total += loss.detach()
            # Without stop-gradient the semi-supervised labels have a gradient of their own to the labels' vectors.
            ends = [(weights, leaf.grad), (compared, compared_leaf.grad)]
            reached = [(tensor, grad) for tensor, grad in ends if grad is not None and tensor.requires_grad]
            torch.autograd.backward([tensor for tensor, _ in reached], [grad for _, grad in reached])
        return total

    def _group_loss(
        self, rows: Ints, task: str, bias: torch.Tensor, weights: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of queries of one task as a scalar, summed over them.

        `weights` are s * H_l and `labels` the vectors C of the predicted labels, both [predicted, d].
        """
        queries = self._embedded([self._queries.tokens(row) for row in rows], "query")
        targets = torch.from_numpy(self._queries.targets(rows)).to(queries.device)
        if (tau := self._settings.tau.get(task)) is not None:
            semi = self._semi_labels(rows, queries, labels, tau)
            self._passing += torch.tensor([float((semi > 0).sum()), len(rows)])
            targets = soft_targets(targets, semi)
        row_weights = torch.from_numpy(self._queries.weights[rows]).to(queries.device)
        return multi_label_cross_entropy(queries @ weights.T + bias, targets, row_weights)

    def _semi_labels(self, rows: Ints, queries: torch.Tensor, labels: torch.Tensor, tau: float) -> torch.Tensor:
        if self._settings.stop_gradient:
            queries, labels = queries.detach(), labels.detach()
        return semi_labels(fuse_knowledge(queries, *self._knowledge(rows)), labels, tau)

    @torch.no_grad()
    def _knowledge(self, rows: Ints) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vectors of the texts that are known about each query, [rows, k, d], and their mask [rows, k]."""
        texts, places = place_knowledge(
            [[text.tobytes() for text in self._queries.knowledge(row)] for row in rows.tolist()]
        )
        places = places.to(self.model.device)
        if not texts:
            empty = torch.zeros(*places.shape, self.model.encoder.dimension, device=self.model.device)
            return empty, places >= 0
        vectors = self._embedded([np.frombuffer(text, np.int32) for text in texts], "item")
        return vectors[places.clamp(min=0)], places >= 0

    def _embedded(self, texts: list[Tokens], side: Side) -> torch.Tensor:
        """Return the unit vectors [n, d] of tokenised texts, in groups of similar length."""
        groups = list(text_groups(self.model.encoder, texts, side, 0, self._options))
        vectors = [embed_group(self.model.encoder, group, self._options) for group in groups]
        return in_batch_order(self.model.encoder, groups, vectors)
