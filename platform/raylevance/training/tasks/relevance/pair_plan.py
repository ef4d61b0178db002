"""Batches of relevance training from two sources: pairs that people judged, and pairs labelled from behaviour."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from raylevance.training.epoch_plan import EpochPlan, plan_epoch, steps_of
from raylevance.training.token_file import Ints

Order = Literal["mixed", "coarse_to_fine"]

MIXED_SEED, BEHAVIOUR_SEED, HUMAN_SEED = range(3)
"""Numbers that give each kind of epoch random numbers of its own."""


class PairPlan:
    """The pairs of each step, a pure function of the arguments and the step.

    - mixed: half of each batch are human pairs, and half are behaviour pairs. An epoch has each pair of the larger
      source once, and repeats those of the smaller one. With one source only, an epoch has each of its pairs once.
    - coarse_to_fine: `epochs` over the behaviour pairs come first, then `epochs` over the human pairs. Each epoch has
      each pair of its source once.

    `steps_per_epoch` counts the steps of one pass over the data. `behaviour_steps` counts the steps of the run before
    the first human pair.

    Source: both orders are our reading of "multi-granularity" in the CIKM 2022 paper (DOI 10.1145/3511808.3557143).
    """

    def __init__(
        self,
        human: npt.NDArray[np.bool_],
        cost: npt.NDArray[np.integer],
        *,
        batch: int,
        order: Order,
        epochs: int,
        seed: int,
    ) -> None:
        """Plan batches of `batch` pairs, an even number.

        `human` [n] says which pairs people judged. `cost` [n] is what computing a pair costs, such as its tokens.
        """
        self._cost, self._batch, self._seed = cost, batch, seed
        behaviour_pairs, human_pairs = np.flatnonzero(~human), np.flatnonzero(human)
        self._behaviour = self._plan_of(behaviour_pairs, BEHAVIOUR_SEED)
        self._human = self._plan_of(human_pairs, HUMAN_SEED)
        self._mixed: EpochPlan | None = None
        if order == "mixed" and len(behaviour_pairs) and len(human_pairs):
            self._mixed = self._plan_mixed(behaviour_pairs, human_pairs)
        both = self._behaviour.steps_per_epoch + self._human.steps_per_epoch
        self.steps_per_epoch = self._mixed.steps_per_epoch if self._mixed else both
        self.behaviour_steps = 0 if self._mixed else epochs * self._behaviour.steps_per_epoch

    def rows(self, step: int) -> Ints:
        """Return the pairs of `step` (0-based) on all workers."""
        if self._mixed:
            return self._mixed.rows(step)
        if step < self.behaviour_steps:
            return self._behaviour.rows(step)
        return self._human.rows(step - self.behaviour_steps)

    def _plan_of(self, pairs: Ints, kind_seed: int) -> EpochPlan:
        """Plan epochs that have each of `pairs` once."""

        def draw_epoch(epoch: int) -> list[Ints]:
            rng = np.random.default_rng([self._seed, epoch, kind_seed])
            return [pairs[rows] for rows in plan_epoch(self._cost[pairs], self._batch, rng)]

        return EpochPlan(steps_of(len(pairs), self._batch), draw_epoch)

    def _plan_mixed(self, *sources: Ints) -> EpochPlan:
        """Plan epochs of couples: a pair of each source."""
        couples_per_epoch = max(map(len, sources))

        def draw_epoch(epoch: int) -> list[Ints]:
            rng = np.random.default_rng([self._seed, epoch, MIXED_SEED])
            couples = np.stack([_repeated(pairs, couples_per_epoch, rng) for pairs in sources], axis=1)
            batches = plan_epoch(self._cost[couples].sum(axis=1), self._batch // 2, rng)
            return [couples[rows].ravel() for rows in batches]

        return EpochPlan(steps_of(couples_per_epoch, self._batch // 2), draw_epoch)


def _repeated(rows: Ints, count: int, rng: np.random.Generator) -> Ints:
    """Return `count` of `rows` in random order; no row comes more than once more often than another."""
    repeated: Ints = np.concatenate([rng.permutation(rows) for _ in range(-(-count // len(rows)))])
    return repeated[:count]
