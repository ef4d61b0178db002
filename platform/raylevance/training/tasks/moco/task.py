"""Momentum contrast (MoCo): an encoder learns from pairs, against a queue of keys from its slowly moving copy.

Source: MoCo (He et al. 2020, arXiv 1911.05722) for the queue and the momentum encoder. The CIKM 2022 paper on weak
supervision by a graph (DOI 10.1145/3511808.3557143) names MoCo, mix-up, an adversarial attack and a cluster-level
objective without formulas or numbers. How they are computed here is our choice, and so are all defaults.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from raylevance.models.encoder import Encoder
from raylevance.training.collective import gather, sum_over_workers
from raylevance.training.gradient_accumulation import backward_each
from raylevance.training.settings import TrainSettings
from raylevance.training.task import TOKENS, TaskReplica, TextTask, WorkerContext
from raylevance.training.tasks.moco.adversarial import perturbed, word_embedding, word_tables
from raylevance.training.tasks.moco.augmentation import ItemNoise
from raylevance.training.tasks.moco.contrast_plan import Bools, ContrastBatch, ContrastPlan
from raylevance.training.tasks.moco.contrast_rows import CONTRAST_ROWS, TokenisedContrastRows
from raylevance.training.tasks.moco.key_queue import KeyQueue
from raylevance.training.tasks.moco.mixup import mixing
from raylevance.training.tasks.moco.momentum import MomentumEncoder
from raylevance.training.tasks.moco.targets import Targets, build_targets
from raylevance.training.text_groups import ForwardOptions, TextGroup, embed_group, in_batch_order, text_groups
from raylevance.training.token_file import Ints, RowKind, Tokens


class MoCoSettings(TrainSettings):
    """Settings of momentum contrast. `batch` counts pairs, each an anchor and its positive."""

    queue: PositiveInt = 4096
    """Keys of earlier steps that serve as negatives, and as many centroids."""
    momentum: float = Field(default=0.99, ge=0, lt=1)
    """m of theta_k <- m theta_k + (1 - m) theta_q, by which the momentum encoder follows the encoder. 0.99 suits runs
    of a few thousand steps."""
    temperature: PositiveFloat = 0.05
    """Temperature of both losses, which is not learned."""
    cluster_weight: float = Field(default=0.5, ge=0)
    """lambda of the loss L = L_instance + lambda L_cluster; 0 turns clusters off."""
    mixup: float = Field(default=0.2, ge=0)
    """alpha of mix-up's lam ~ Beta(alpha, alpha); 0 turns mix-up off."""
    fgm: float = Field(default=1.0, ge=0)
    """epsilon, the length of the step that FGM takes on the word embeddings; 0 turns the second pass off."""
    token_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability of each token of an item text to be dropped; 0 drops none."""
    span_deletion: float = Field(default=0.1, ge=0, lt=1)
    """Largest share of an item text's tokens that is deleted as one span; 0 deletes none."""

    @model_validator(mode="after")
    def _queue_holds_a_batch(self) -> Self:
        if self.queue < self.batch:
            raise ValueError(f"queue={self.queue} has no room for the keys of a batch of {self.batch}: raise queue")
        return self


@dataclass
class MoCo(TextTask[MoCoSettings]):
    """Train the encoder at `model` on the rows in `data`, whose columns `CONTRAST_ROWS` states."""

    row_kind: ClassVar[RowKind] = CONTRAST_ROWS

    def open(self, model: Path | None, context: WorkerContext) -> "MoCoReplica":
        """Return a replica of the task, as `Task.open` does."""
        rows = TokenisedContrastRows(context.run_dir / TOKENS)
        return MoCoReplica(Encoder.load(model or self.model), rows, self.settings, context)


class MoCoReplica(TaskReplica):
    """An encoder, its momentum encoder, and the queues of keys and of centroids, which are equal on all workers.

    The momentum encoder moves at the start of a step, towards the weights that the last step left, as in MoCo's
    published code. Keys enter the queue at the end of a step, in the order of the batch on all workers.
    """

    plan: ContrastPlan

    def __init__(
        self, encoder: Encoder, rows: TokenisedContrastRows, settings: MoCoSettings, context: WorkerContext
    ) -> None:
        special = np.array(encoder.tokenize.tokenizer.all_special_ids, np.int32)
        plan = ContrastPlan(
            rows,
            ItemNoise(settings.token_dropout, settings.span_deletion, special),
            context,
            batch=settings.batch,
            mixup=settings.mixup,
            clusters=settings.cluster_weight > 0,
        )
        super().__init__(encoder, plan, context)
        self.momentum = MomentumEncoder(encoder)
        self.keys = KeyQueue(settings.queue, encoder.dimension, labels=2)
        self.centroids = KeyQueue(settings.queue, encoder.dimension, labels=1)
        self.settings = settings
        self._rows = rows
        self._latest: dict[str, torch.Tensor] = {}

    def backward(self, step: int) -> torch.Tensor:
        """Add the gradient of this worker's share of `step`, as `TaskReplica.backward` does.

        Returns the loss of the first pass, before FGM moves the word embeddings.
        """
        self.momentum.follow(self.model, self.settings.momentum)
        batch = self.plan.load(step)
        targets = build_targets(self._rows, batch, self._encode_keys(batch), self.keys, self.centroids)
        losses = self._backward_pass(batch, targets)
        if self.settings.fgm:
            with perturbed(word_tables(self.model), self.settings.fgm):
                self._backward_pass(batch, targets)
        self.keys.put(targets.positives, targets.positive_labels)
        self.centroids.put(targets.centroids, targets.cluster_labels)
        instance, cluster = sum_over_workers(losses) / len(batch.rows)
        self._latest = {"instance_loss": instance, "cluster_loss": cluster}
        return self._weighted_sum(losses)

    def logged(self) -> dict[str, torch.Tensor]:
        """Return both losses of the latest step as means over its pairs, and the share of the queue that is filled.

        The loss is instance_loss + cluster_weight * cluster_loss.
        """
        return self._latest | {"queue_fill": self.keys.fill()}

    def _weighted_sum(self, losses: torch.Tensor) -> torch.Tensor:
        return losses[0] + self.settings.cluster_weight * losses[1]

    @torch.no_grad()
    def _encode_keys(self, batch: ContrastBatch) -> torch.Tensor:
        """Return the momentum encoder's vectors [T, d] of the key texts of all workers, in the order of `key_pair`."""
        encoder, world_size = self.momentum.encoder, self.context.world_size
        groups, order = self._groups(batch.keys, batch.key_is_item)
        vectors = in_batch_order(encoder, groups, [embed_group(encoder, group, self._options()) for group in groups])
        rank_of = batch.key_pair % world_size
        gathered = gather(vectors[_inverse(order)], np.bincount(rank_of, minlength=world_size).tolist())
        return gathered[_inverse(np.argsort(rank_of, kind="stable"))]

    def _backward_pass(self, batch: ContrastBatch, targets: Targets) -> torch.Tensor:
        """Add the gradient of this worker's share, and return the sums of both losses [2].

        The losses of an anchor do not depend on the other anchors, so they are computed group by group.
        """
        groups, order = self._groups(batch.anchors, batch.anchor_is_item)
        losses = self._losses(batch, targets, groups, order)
        return backward_each(losses, torch.zeros(2, device=self.model.device), self._weighted_sum)

    def _losses(
        self, batch: ContrastBatch, targets: Targets, groups: list[TextGroup], order: Ints
    ) -> Iterator[torch.Tensor]:
        """Yield both losses [2] of each group of anchors, whose rows are positions in `order`."""
        temperature = self.settings.temperature
        for group in groups:
            own = order[group.rows.cpu().numpy()]
            pairs = batch.own_pairs[own]
            if batch.mix is None:
                yield targets.losses(embed_group(self.model, group, self._options()), pairs, None, temperature)
                continue
            share = torch.from_numpy(batch.mix.share[pairs].astype(np.float32)).to(self.model.device)
            words = word_embedding(self.model, group.side)
            partners = [batch.partners[index] for index in own]
            with mixing(words, partners, share, group.ids.shape[1], self.model.tokenize.pad_id):
                anchors = embed_group(self.model, group, self._options())
            # A mixed anchor is contrasted with the targets of both anchors that it is made of, in proportion.
            both_pairs = np.concatenate([pairs, batch.mix.partner[pairs]])
            yield targets.losses(anchors.repeat(2, 1), both_pairs, torch.cat([share, 1 - share]), temperature)

    def _groups(self, texts: list[Tokens], is_item: Bools) -> tuple[list[TextGroup], Ints]:
        """Return groups of texts of one side and similar length, and the order [n] of `texts` that their rows mean."""
        order, queries = np.argsort(is_item, kind="stable"), int((~is_item).sum())
        ordered = [texts[index] for index in order]
        groups = [
            *text_groups(self.model, ordered[:queries], "query", 0, self._options()),
            *text_groups(self.model, ordered[queries:], "item", queries, self._options()),
        ]
        return groups, order

    def _options(self) -> ForwardOptions:
        return ForwardOptions(self.batch_tokens, autocast_dtype=self.context.autocast_dtype)


def _inverse(order: Ints) -> torch.Tensor:
    """Return the positions [n] int64 of 0..n-1 in the permutation `order`."""
    return torch.from_numpy(np.argsort(order))
