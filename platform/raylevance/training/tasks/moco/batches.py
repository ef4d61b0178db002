"""The batches of momentum contrast, as pure functions of rows, settings and step: the same on any number of workers."""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raylevance.training.tasks.contrastive.batches import plan_epoch
from raylevance.training.tasks.moco.augmentation import ItemNoise
from raylevance.training.tasks.moco.mixup import Mix, draw_mix
from raylevance.training.tasks.moco.rows import MoCoRows
from raylevance.training.token_file import Ints, Tokens

Bools = npt.NDArray[np.bool_]

POSITIVE, HARD, CLUSTER = range(3)
"""Kinds of key text."""
MIX, NOISE = 1, 2
"""Tell the random numbers of a step apart."""


@dataclass(frozen=True)
class MoCoBatch:
    """The B pairs of a step, and the texts of one worker's share of them: the places `own` [b] in 0..B-1.

    `rows` [B] of the file. `anchors` [b] and `anchor_is_item` [b]; with `mix`, `partners` [b]: the anchors that they
    are mixed with, else none. `place` [T] in 0..B-1, non-decreasing, and `kind` [T]: of the key texts of all pairs;
    `keys` and `key_is_item`: those of `own`, in that order.
    """

    rows: Ints
    own: Ints
    anchors: list[Tokens]
    anchor_is_item: Bools
    mix: Mix | None
    partners: list[Tokens]
    place: Ints
    kind: Ints
    keys: list[Tokens]
    key_is_item: Bools


class MoCoPlan:
    """The batches of a run, seen by the worker `rank` of `world`: each row once an epoch, bucketed by length.

    `noise` is put on the item texts among anchors, positives and hard negatives. `mixup`: Beta's parameter, 0: none.
    `clusters`: whether the texts of clusters are among the keys.
    """

    def __init__(
        self,
        rows: MoCoRows,
        noise: ItemNoise,
        *,
        batch: int,
        mixup: float,
        clusters: bool,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.file, self.noise, self.batch, self.mixup = rows, noise, batch, mixup
        self.seed, self.rank, self.world = seed, rank, world
        self.steps_per_epoch = -(-len(rows) // batch)
        cluster = rows.count("cluster") if clusters else np.zeros(len(rows), np.int32)
        self._key_counts = np.stack([np.ones(len(rows), np.int64), rows.count("negatives"), cluster], axis=1)
        self._epoch = functools.lru_cache(maxsize=1)(self._plan_epoch)

    def rows(self, step: int) -> Ints:
        """The rows of `step` (0-based) on all workers."""
        epoch, index = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[index]

    def load(self, step: int) -> MoCoBatch:
        """The batch of `step` with this worker's texts; the share of a worker may be empty."""
        rows = self.rows(step)
        own = np.arange(self.rank, len(rows), self.world)
        mix = None
        if self.mixup:
            mix = draw_mix(self.file.anchor_is_item[rows], self.mixup, np.random.default_rng([self.seed, step, MIX]))
        counts = self._key_counts[rows]
        texts = [self._texts(step, row) for row in rows[own]]
        return MoCoBatch(
            rows=rows,
            own=own,
            anchors=[anchor for anchor, _ in texts],
            anchor_is_item=self.file.anchor_is_item[rows[own]],
            mix=mix,
            partners=[self._anchor(step, rows[place])[0] for place in mix.partner[own]] if mix else [],
            place=np.repeat(np.arange(len(rows)), counts.sum(axis=1)),
            kind=np.repeat(np.tile([POSITIVE, HARD, CLUSTER], len(rows)), counts.ravel()),
            keys=[key for _, keys in texts for key in keys],
            key_is_item=self._key_sides(rows[own]),
        )

    def _texts(self, step: int, row: int) -> tuple[Tokens, list[Tokens]]:
        """The anchor of a row, and its keys: the positive, the hard negatives, the texts of the cluster."""
        anchor, rng = self._anchor(step, row)
        keys = [self.file.positive(row), *self.file.negatives(row)]
        if self.file.positive_is_item[row]:
            keys = [self.noise(key, rng) for key in keys]
        return anchor, keys + (self.file.cluster(row) if self._key_counts[row, CLUSTER] else [])

    def _anchor(self, step: int, row: int) -> tuple[Tokens, np.random.Generator]:
        """The anchor of a row, and the random numbers that its keys go on with."""
        rng = np.random.default_rng([self.seed, step, NOISE, int(row)])
        anchor = self.file.anchor(row)
        return self.noise(anchor, rng) if self.file.anchor_is_item[row] else anchor, rng

    def _key_sides(self, rows: Ints) -> Bools:
        counts = self._key_counts[rows]
        item = self.file.positive_is_item[rows]
        sides = np.stack([item, item, np.zeros(len(rows), bool)], axis=1)
        return np.repeat(sides.ravel(), counts.ravel())

    def _plan_epoch(self, epoch: int) -> list[Ints]:
        return plan_epoch(self.file.lengths, self.batch, np.random.default_rng([self.seed, epoch]))
