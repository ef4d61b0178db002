"""Momentum contrast (MoCo): an encoder learns from pairs, against a queue of keys that a slow copy of it has made.

Source: MoCo (He et al. 2020, arXiv 1911.05722) for the queue and the momentum encoder. The CIKM 2022 paper on weak
supervision by a graph (DOI 10.1145/3511808.3557143) names MoCo, mix-up, an adversarial attack and a cluster-level
objective without formulas or numbers; what is made of them here is our choice, and so are all defaults.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from raylevance.models.encoder import Encoder, read_settings
from raylevance.training.collective import gather, sum_over_workers
from raylevance.training.settings import TrainSettings
from raylevance.training.step import Compute, TextGroup, embed, in_order, text_groups
from raylevance.training.task import Place, Trainee, located
from raylevance.training.tasks.moco.adversarial import perturbed, word_embedding, word_tables
from raylevance.training.tasks.moco.augmentation import ItemNoise
from raylevance.training.tasks.moco.batches import Bools, MoCoBatch, MoCoPlan
from raylevance.training.tasks.moco.key_queue import KeyQueue
from raylevance.training.tasks.moco.mixup import mixing
from raylevance.training.tasks.moco.momentum import MomentumEncoder
from raylevance.training.tasks.moco.rows import MoCoRows, tokenise
from raylevance.training.tasks.moco.targets import Targets, build_targets
from raylevance.training.token_file import Ints, Tokens

TOKENS = "contrast.arrow"


class MoCoSettings(TrainSettings):
    """`batch` counts pairs: an anchor and its positive."""

    queue: PositiveInt = 4096
    """Keys, and as many centroids, of earlier steps that are negatives."""
    momentum: float = Field(default=0.99, ge=0, lt=1)
    """m of theta_k <- m theta_k + (1 - m) theta_q; 0.99 is for runs of some thousand steps."""
    temperature: PositiveFloat = 0.05
    """Of both losses; it is not learned."""
    cluster_weight: float = Field(default=0.5, ge=0)
    """lambda of L = L_instance + lambda L_cluster; 0 leaves clusters out."""
    mixup: float = Field(default=0.2, ge=0)
    """alpha of mix-up's lam ~ Beta(alpha, alpha); 0: no mix-up."""
    fgm: float = Field(default=1.0, ge=0)
    """epsilon, the length of the step that FGM takes on the word embeddings; 0: no second pass."""
    token_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability of each token of an item text to be dropped; 0: none is."""
    span_deletion: float = Field(default=0.1, ge=0, lt=1)
    """Largest share of an item text's tokens in the span that is deleted; 0: none is."""
    batch_tokens: PositiveInt | None = None
    """Tokens of one forward and backward pass, padding included: it bounds the memory of a step, and changes nothing
    else. None: what suits the device."""

    @model_validator(mode="after")
    def _queue_holds_a_batch(self) -> Self:
        if self.queue < self.batch:
            raise ValueError(f"queue={self.queue} has no room for the keys of a batch of {self.batch}: raise queue")
        return self


@dataclass
class MoCo:
    """Train the encoder at `encoder` on `rows` (Parquet, with the columns that `moco_rows.tokenise` states)."""

    encoder: Path
    rows: Path
    settings: MoCoSettings

    def __post_init__(self) -> None:
        self.encoder = located(self.encoder)

    def check(self) -> None:
        read_settings(self.encoder)

    def describe(self) -> dict[str, Any]:
        return {"encoder": str(self.encoder), "rows": str(self.rows)}

    def prepare(self, folder: Path) -> None:
        """Tokenise the rows. Raises `RaylevanceError` for bad ones."""
        tokenise(self.rows, self.encoder, folder / TOKENS)

    def open(self, model: Path | None, place: Place) -> "MoCoTrainee":
        return MoCoTrainee(Encoder.load(model or self.encoder), MoCoRows(place.folder / TOKENS), self.settings, place)


class MoCoTrainee(Trainee):
    """An encoder, its momentum encoder, and the queues of keys and of centroids, which are the same on all workers.

    The momentum encoder follows at the start of a step, to the weights that the last one left, as in MoCo's published
    code. Keys are put in the queue at the end of a step, in the order of the batch on all workers.
    """

    def __init__(self, encoder: Encoder, rows: MoCoRows, settings: MoCoSettings, place: Place) -> None:
        super().__init__()
        self.model = encoder
        self.momentum = MomentumEncoder(encoder)
        self.keys = KeyQueue(settings.queue, encoder.dimension, labels=2)
        self.centroids = KeyQueue(settings.queue, encoder.dimension, labels=1)
        special = np.array(encoder.tokenize.tokenizer.all_special_ids, np.int32)
        self.plan = MoCoPlan(
            rows,
            ItemNoise(settings.token_dropout, settings.span_deletion, special),
            batch=settings.batch,
            mixup=settings.mixup,
            clusters=settings.cluster_weight > 0,
            seed=place.seed,
            rank=place.rank,
            world=place.world,
        )
        self.steps_per_epoch = self.plan.steps_per_epoch
        self._file, self._settings, self._place = rows, settings, place
        self._last: dict[str, torch.Tensor] = {}

    def rows(self, step: int) -> Ints:
        return self.plan.rows(step)

    def backward(self, step: int) -> torch.Tensor:
        """As `Trainee.backward`; the loss is that of the first pass, before FGM moves the words."""
        self.momentum.follow(self.model, self._settings.momentum)
        batch = self.plan.load(step)
        targets = build_targets(self._file, batch, self._encode_keys(batch), self.keys, self.centroids)
        losses = self._pass(batch, targets)
        if self._settings.fgm:
            with perturbed(word_tables(self.model), self._settings.fgm):
                self._pass(batch, targets)
        self.keys.put(targets.positives, targets.positive_labels)
        self.centroids.put(targets.centroids, targets.cluster_labels)
        instance, cluster = sum_over_workers(losses) / len(batch.rows)
        self._last = {"instance_loss": instance, "cluster_loss": cluster}
        return self._total(losses)

    def pairs(self, rows: Ints) -> int:
        return len(rows)

    def logged(self) -> dict[str, torch.Tensor]:
        """Both losses of the last step, a pair (L = instance_loss + cluster_weight * cluster_loss), and the share of
        the queue that is filled."""
        return self._last | {"queue_fill": self.keys.fill()}

    def _total(self, losses: torch.Tensor) -> torch.Tensor:
        return losses[0] + self._settings.cluster_weight * losses[1]

    @torch.no_grad()
    def _encode_keys(self, batch: MoCoBatch) -> torch.Tensor:
        """The momentum encoder's vectors [T, d] of the key texts of all workers, in the order of `batch.place`."""
        encoder, world = self.momentum.encoder, self._place.world
        groups, order = self._groups(batch.keys, batch.key_is_item)
        vectors = in_order(encoder, groups, [embed(encoder, group, self._compute()) for group in groups])
        rank_of = batch.place % world
        gathered = gather(vectors[_inverse(order)], np.bincount(rank_of, minlength=world).tolist())
        return gathered[_inverse(np.argsort(rank_of, kind="stable"))]

    def _pass(self, batch: MoCoBatch, targets: Targets) -> torch.Tensor:
        """Add the gradient of the worker's share; returns the sums of both losses [2]. An anchor's loss is a matter of
        its own, so the graph of one group of texts is in memory."""
        sums = torch.zeros(2, device=self.model.device)
        groups, order = self._groups(batch.anchors, batch.anchor_is_item)
        for group in groups:
            losses = self._losses(batch, targets, group, order[group.rows.cpu().numpy()])
            self._total(losses).backward()
            sums += losses.detach()
        return sums

    def _losses(self, batch: MoCoBatch, targets: Targets, group: TextGroup, rows: Ints) -> torch.Tensor:
        """[2] of the anchors `rows` in the worker's share, whose texts are `group`. A mixed anchor is drawn to the
        targets of both that it is made of, in proportion."""
        places, temperature = batch.own[rows], self._settings.temperature
        if batch.mix is None:
            return targets.losses(embed(self.model, group, self._compute()), places, None, temperature)
        share = torch.from_numpy(batch.mix.share[places].astype(np.float32)).to(self.model.device)
        words = word_embedding(self.model, group.side)
        partners = [batch.partners[row] for row in rows]
        with mixing(words, partners, share, group.ids.shape[1], self.model.tokenize.pad_id):
            anchors = embed(self.model, group, self._compute())
        both = np.concatenate([places, batch.mix.partner[places]])
        return targets.losses(anchors.repeat(2, 1), both, torch.cat([share, 1 - share]), temperature)

    def _groups(self, texts: list[Tokens], item: Bools) -> tuple[list[TextGroup], Ints]:
        """Groups of one side and about one length, whose rows are into the returned order [n] of the texts."""
        order, queries = np.argsort(item, kind="stable"), int((~item).sum())
        ordered = [texts[row] for row in order]
        groups = [
            *text_groups(self.model, ordered[:queries], "query", 0, self._compute()),
            *text_groups(self.model, ordered[queries:], "item", queries, self._compute()),
        ]
        return groups, order

    def _compute(self) -> Compute:
        budget = self._settings.batch_tokens or self.model.default_batch_tokens
        return Compute(budget, dtype=self._place.dtype)


def _inverse(order: Ints) -> torch.Tensor:
    """[n] int64: where each of 0..n-1 stands in the permutation `order`."""
    return torch.from_numpy(np.argsort(order))
