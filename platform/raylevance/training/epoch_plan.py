"""Which rows each step of a training run trains on."""

import functools
from collections.abc import Callable
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from raylevance.training.token_file import Ints

BATCHES_PER_BUCKET = 4
"""Batches whose rows are sorted by length together: enough to fill them evenly, few enough to keep them random (our
choice)."""


class StepPlan(Protocol):
    """The rows of each step. `steps_per_epoch` is the number of steps of one pass over the data."""

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of steps of one epoch."""

    def rows(self, step: int) -> Ints:
        """Return the rows of `step` (0-based) on all workers."""


class EpochPlan:
    """A plan that is made epoch by epoch; only the latest epoch is held in memory.

    The rows of a step depend on nothing but the arguments and the step, so they are the same on any number of workers
    and after a restart.
    """

    def __init__(self, steps_per_epoch: int, draw_epoch: Callable[[int], list[Ints]]) -> None:
        """Plan `steps_per_epoch` steps by `draw_epoch`, which returns the rows of each step of an epoch (0-based)."""
        self.steps_per_epoch = steps_per_epoch
        self._draw_epoch = functools.lru_cache(maxsize=1)(draw_epoch)

    @classmethod
    def shuffled(cls, cost: npt.NDArray[np.integer], batch: int, seed: int) -> Self:
        """Plan each row once an epoch, in the batches of `plan_epoch`, which are drawn anew for each epoch."""

        def draw_epoch(epoch: int) -> list[Ints]:
            return plan_epoch(cost, batch, np.random.default_rng([seed, epoch]))

        return cls(steps_of(len(cost), batch), draw_epoch)

    def rows(self, step: int) -> Ints:
        """Return the rows of `step` (0-based) on all workers."""
        epoch, index = divmod(step, self.steps_per_epoch)
        return self._draw_epoch(epoch)[index]


def plan_epoch(cost: npt.NDArray[np.integer], batch: int, rng: np.random.Generator) -> list[Ints]:
    """Return the rows 0..n-1, each once, in shuffled batches of rows of similar cost.

    `cost` [n] is what computing a row costs, such as its tokens. Each batch has `batch` rows, but for one that may have
    fewer.
    """
    order = rng.permutation(len(cost))
    window = BATCHES_PER_BUCKET * batch
    buckets = [order[start : start + window] for start in range(0, len(order), window)]
    sorted_rows = [bucket[np.argsort(cost[bucket], kind="stable")] for bucket in buckets]
    batches = [rows[start : start + batch] for rows in sorted_rows for start in range(0, len(rows), batch)]
    return [batches[index] for index in rng.permutation(len(batches))]


def steps_of(rows: int, batch: int) -> int:
    """Return the number of batches of `batch` rows that hold `rows` rows."""
    return -(-rows // batch)
