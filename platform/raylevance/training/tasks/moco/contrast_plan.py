"""Batches of momentum contrast, the same on any number of workers and after a restart."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raylevance.training.epoch_plan import EpochPlan
from raylevance.training.task import WorkerContext
from raylevance.training.tasks.moco.augmentation import ItemNoise
from raylevance.training.tasks.moco.contrast_rows import TokenisedContrastRows
from raylevance.training.tasks.moco.mixup import Mix, draw_mix
from raylevance.training.token_file import Ints, Tokens

Bools = npt.NDArray[np.bool_]

POSITIVE, HARD_NEGATIVE, CLUSTER = range(3)
"""Kinds of key texts."""
MIX_SEED, NOISE_SEED = 1, 2
"""Numbers that give mix-up and noise random numbers of their own in a step."""


@dataclass(frozen=True)
class ContrastBatch:
    """The B pairs of a step on all workers, with the texts of this worker's share.

    On all workers:

    - `rows` [B] int64: row of each pair.
    - `mix`: how anchors are mixed, or None without mix-up.
    - `key_pair` [T] int64: index of the pair that each key text belongs to, from 0 to B - 1, in non-decreasing order.
    - `key_kind` [T] int64: `POSITIVE`, `HARD_NEGATIVE` or `CLUSTER`.

    Of this worker:

    - `own_pairs` [b] int64: indices of its pairs, from 0 to B - 1.
    - `anchors`, `anchor_is_item` [b]: texts and sides of the anchors of `own_pairs`.
    - `partners` [b]: texts of the anchors that those are mixed with; empty without mix-up.
    - `keys`, `key_is_item`: texts and sides of the keys of `own_pairs`, in this order.
    """

    rows: Ints
    own_pairs: Ints
    anchors: list[Tokens]
    anchor_is_item: Bools
    mix: Mix | None
    partners: list[Tokens]
    key_pair: Ints
    key_kind: Ints
    keys: list[Tokens]
    key_is_item: Bools


class ContrastPlan:
    """The batches of a run on one worker: each row once an epoch, rows of similar length together."""

    def __init__(
        self,
        rows: TokenisedContrastRows,
        noise: ItemNoise,
        context: WorkerContext,
        *,
        batch: int,
        mixup: float,
        clusters: bool,
    ) -> None:
        """Plan batches of `batch` pairs.

        `noise` changes the item texts among anchors, positives and hard negatives. `mixup` is alpha of the beta
        distribution, 0 for no mix-up. `clusters` says whether the texts of clusters are among the keys.
        """
        self._rows, self._noise, self._context, self._mixup = rows, noise, context, mixup
        self._epochs = EpochPlan.shuffled(rows.lengths, batch, context.seed)
        cluster_sizes = rows.cluster_sizes if clusters else np.zeros(len(rows), np.int32)
        self._key_counts = np.stack([np.ones(len(rows), np.int64), rows.negative_counts, cluster_sizes], axis=1)

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps of one pass over the rows."""
        return self._epochs.steps_per_epoch

    def rows(self, step: int) -> Ints:
        """Return the rows of `step` (0-based) on all workers."""
        return self._epochs.rows(step)

    def load(self, step: int) -> ContrastBatch:
        """Return the batch of `step` with this worker's texts; its share may be empty."""
        rows, seed = self.rows(step), self._context.seed
        own_pairs = self._context.share(np.arange(len(rows)))
        mix = None
        if self._mixup:
            rng = np.random.default_rng([seed, step, MIX_SEED])
            mix = draw_mix(self._rows.anchor_is_item[rows], self._mixup, rng)
        counts = self._key_counts[rows]
        texts = [self._texts(step, row) for row in rows[own_pairs]]
        return ContrastBatch(
            rows=rows,
            own_pairs=own_pairs,
            anchors=[anchor for anchor, _ in texts],
            anchor_is_item=self._rows.anchor_is_item[rows[own_pairs]],
            mix=mix,
            partners=[self._anchor(step, rows[partner])[0] for partner in mix.partner[own_pairs]] if mix else [],
            key_pair=np.repeat(np.arange(len(rows)), counts.sum(axis=1)),
            key_kind=np.repeat(np.tile([POSITIVE, HARD_NEGATIVE, CLUSTER], len(rows)), counts.ravel()),
            keys=[key for _, keys in texts for key in keys],
            key_is_item=self._key_sides(rows[own_pairs]),
        )

    def _texts(self, step: int, row: int) -> tuple[Tokens, list[Tokens]]:
        """Return the anchor of a row, and its keys: the positive, the hard negatives, and the texts of the cluster."""
        anchor, rng = self._anchor(step, row)
        keys = [self._rows.positive(row), *self._rows.negatives(row)]
        if self._rows.positive_is_item[row]:
            keys = [self._noise(key, rng) for key in keys]
        return anchor, keys + (self._rows.cluster(row) if self._key_counts[row, CLUSTER] else [])

    def _anchor(self, step: int, row: int) -> tuple[Tokens, np.random.Generator]:
        """Return the anchor of a row, and the random numbers that the noise of its keys continues with."""
        rng = np.random.default_rng([self._context.seed, step, NOISE_SEED, int(row)])
        anchor = self._rows.anchor(row)
        return self._noise(anchor, rng) if self._rows.anchor_is_item[row] else anchor, rng

    def _key_sides(self, rows: Ints) -> Bools:
        counts = self._key_counts[rows]
        is_item = self._rows.positive_is_item[rows]
        sides = np.stack([is_item, is_item, np.zeros(len(rows), bool)], axis=1)
        return np.repeat(sides.ravel(), counts.ravel())
