"""The batches of relevance training, of two sources: what people judged (fine), and what behaviour says (coarse)."""

import functools
from typing import Literal

import numpy as np
import numpy.typing as npt

from raylevance.training.tasks.contrastive.batches import plan_epoch
from raylevance.training.token_file import Ints

Order = Literal["mixed", "coarse_to_fine"]

MIXED, COARSE, FINE = range(3)
"""Tell the random numbers of a plan's phases apart."""


class RelevancePlan:
    """The pairs of each step, as a pure function of the data, the settings and the step.

    mixed: each batch is half human, half behaviour pairs. An epoch has each pair of the larger source once, and those
    of the smaller again and again; where there is one source only, each of its pairs once.
    coarse_to_fine: `epochs` over the behaviour pairs, then `epochs` over the human ones, each pair once an epoch.
    Source: both are our reading of "multi-granularity" in CIKM 2022 (DOI 10.1145/3511808.3557143).
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
        """Of n pairs, `human` [n] tells the source and `cost` [n] what is bucketed by. `batch`: pairs, even.

        `coarse_steps`: those before the first human pair.
        """
        self._cost, self._batch, self._seed = cost, batch, seed
        self._sources = {COARSE: np.flatnonzero(~human), FINE: np.flatnonzero(human)}
        counts = {phase: len(rows) for phase, rows in self._sources.items()}
        self._couples = order == "mixed" and min(counts.values()) > 0
        self._steps = {phase: -(-count // batch) for phase, count in counts.items()}
        self.coarse_steps = 0 if self._couples else epochs * self._steps[COARSE]
        self.steps_per_epoch = sum(self._steps.values())
        if self._couples:
            self.steps_per_epoch = -(-max(counts.values()) // (batch // 2))
        self._epoch = functools.lru_cache(maxsize=1)(self._plan_epoch)

    def rows(self, step: int) -> Ints:
        """The pairs of `step` (0-based) on all workers."""
        if self._couples:
            epoch, index = divmod(step, self.steps_per_epoch)
            return self._epoch(MIXED, epoch)[index]
        coarse = step < self.coarse_steps
        phase, done = (COARSE, step) if coarse else (FINE, step - self.coarse_steps)
        epoch, index = divmod(done, self._steps[phase])
        return self._epoch(phase, epoch)[index]

    def _plan_epoch(self, phase: int, epoch: int) -> list[Ints]:
        rng = np.random.default_rng([self._seed, epoch, phase])
        if phase != MIXED:
            own = self._sources[phase]
            return [own[rows] for rows in plan_epoch(self._cost[own], self._batch, rng)]
        count = max(map(len, self._sources.values()))
        couples = np.stack([_repeated(own, count, rng) for own in self._sources.values()], axis=1)
        planned = plan_epoch(self._cost[couples].sum(axis=1), self._batch // 2, rng)
        return [couples[rows].ravel() for rows in planned]


def _repeated(rows: Ints, count: int, rng: np.random.Generator) -> Ints:
    """`count` of `rows`, shuffled: each comes as often as the others, or once more."""
    repeated: Ints = np.concatenate([rng.permutation(rows) for _ in range(-(-count // len(rows)))])
    return repeated[:count]
