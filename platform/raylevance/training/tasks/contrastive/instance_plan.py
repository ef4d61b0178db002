"""Batches of training instances, the same on any number of workers and after a restart."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from raylevance.errors import RaylevanceError
from raylevance.training.epoch_plan import EpochPlan, plan_epoch, steps_of
from raylevance.training.task import WorkerContext
from raylevance.training.tasks.contrastive.known_positives import KnownPositives
from raylevance.training.tasks.contrastive.tokenised_instances import TokenisedInstances
from raylevance.training.token_file import Ints, Tokens


@dataclass(frozen=True)
class InBatch:
    """Where a worker's items are among the items of all workers, for losses with in-batch negatives.

    - `sizes`: number of items of each worker, in the order of ranks.
    - `positive` [B] int64: position of each query's own item among all items.
    - `is_positive` [B, sum(sizes)] bool: whether an item is known to be a positive of the query (`KnownPositives`).
    """

    sizes: tuple[int, ...]
    positive: torch.Tensor
    is_positive: torch.Tensor


@dataclass(frozen=True)
class InstanceBatch:
    """One worker's share of a step, with B queries, N items and V misspelt variants of queries.

    - `labels` [N] float32: label of each item.
    - `instance` [N] int64: index of each item's query, in non-decreasing order.
    - `variant_of` [V] int64: index of each variant's query.
    - `in_batch`: positions among the items of all workers, for losses with in-batch negatives.
    """

    queries: list[Tokens]
    items: list[Tokens]
    labels: torch.Tensor
    instance: torch.Tensor
    variants: list[Tokens]
    variant_of: torch.Tensor
    in_batch: InBatch | None = None

    def to(self, device: torch.device) -> "InstanceBatch":
        """Return the batch with its tensors on `device`."""
        in_batch = self.in_batch
        if in_batch is not None:
            in_batch = replace(
                in_batch, positive=in_batch.positive.to(device), is_positive=in_batch.is_positive.to(device)
            )
        return replace(
            self,
            labels=self.labels.to(device),
            instance=self.instance.to(device),
            variant_of=self.variant_of.to(device),
            in_batch=in_batch,
        )


class InstancePlan:
    """The batches of a run on one worker.

    With `in_batch`, each epoch draws one positive item (`is_positive`) of every instance, and the items of the other
    instances are its negatives, except those that are a positive of the same query in any instance of the data.
    Otherwise a batch has all items of its instances with their labels.

    Instances from which the loss could learn nothing are left out: those without a positive item with `in_batch`, else
    those without two items whose labels differ by more than `equal_within`. The others are `usable` [n].
    """

    def __init__(
        self,
        instances: TokenisedInstances,
        context: WorkerContext,
        *,
        batch: int,
        in_batch: bool,
        equal_within: float = 0.0,
    ) -> None:
        """Plan batches of `batch` instances. Raises `RaylevanceError` if no instance is usable."""
        self.instances, self.context, self.batch, self.in_batch = instances, context, batch, in_batch
        self.usable = _usable(instances, in_batch, equal_within)
        different = f"two labels that differ by more than {equal_within}" if equal_within else "two different labels"
        self.required = "an item with a label of 0.5 or more" if in_batch else different
        """What a usable instance has, in words."""
        if not len(self.usable):
            raise RaylevanceError(f"none of the {len(instances)} training instances has {self.required}")
        self._drawn_items: Ints = np.empty(0, np.int64)
        self._epochs = EpochPlan(steps_of(len(self.usable), batch), self._draw_epoch)

    @cached_property
    def _known(self) -> KnownPositives:
        return KnownPositives(self.instances)

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps of one pass over the usable instances."""
        return self._epochs.steps_per_epoch

    def rows(self, step: int) -> Ints:
        """Return the instances of `step` (0-based) on all workers."""
        return self._epochs.rows(step)

    def load(self, step: int, parts: int = 1) -> list[InstanceBatch]:
        """Return this worker's share of `step`, in `parts` batches, some of which may be empty.

        A batch with in-batch negatives is never divided.
        """
        rows = self.rows(step)
        if self.in_batch:
            return [self._drawn_batch(rows)]
        return [self._graded_batch(part) for part in np.array_split(self.context.share(rows), parts)]

    def pairs(self, rows: Ints) -> int:
        """Return the number of query-item pairs that the instances `rows` train on."""
        first = self.instances.first_item
        return len(rows) if self.in_batch else int((first[rows + 1] - first[rows]).sum())

    def _draw_epoch(self, epoch: int) -> list[Ints]:
        """Return the instances of each step of an epoch. With `in_batch` it also draws the epoch's positive items."""
        rng = np.random.default_rng([self.context.seed, epoch])
        item_ends = np.concatenate([[0], np.cumsum(self.instances.item_lengths, dtype=np.int64)])
        if self.in_batch:
            self._drawn_items = _draw_positives(self.instances, rng)
            item_tokens = self.instances.item_lengths[self._drawn_items[self.usable]]
        else:
            item_tokens = np.diff(item_ends[self.instances.first_item])[self.usable]
        cost = item_tokens + self.instances.query_lengths[self.usable]
        return [self.usable[rows] for rows in plan_epoch(cost, self.batch, rng)]

    def _graded_batch(self, rows: Ints) -> InstanceBatch:
        labels = [self.instances.labels_of(row) for row in rows]
        sizes = np.fromiter(map(len, labels), np.int64, len(labels))
        variants, variant_of = self._variants(rows)
        return InstanceBatch(
            queries=[self.instances.query(row) for row in rows],
            items=[item for row in rows for item in self.instances.items(row)],
            labels=torch.from_numpy(np.concatenate([np.empty(0, np.float32), *labels])),
            instance=torch.from_numpy(np.repeat(np.arange(len(rows)), sizes)),
            variants=variants,
            variant_of=variant_of,
        )

    def _drawn_batch(self, rows: Ints) -> InstanceBatch:
        rank, world_size = self.context.rank, self.context.world_size
        shares = [rows[other::world_size] for other in range(world_size)]
        own = shares[rank]
        start = sum(map(len, shares[:rank]))
        variants, variant_of = self._variants(own)
        in_order = np.concatenate(shares)
        is_positive = self._known.among(in_order, self._drawn_items[in_order])
        return InstanceBatch(
            queries=[self.instances.query(row) for row in own],
            items=[self._drawn_item(row) for row in own],
            labels=torch.ones(len(own)),
            instance=torch.arange(len(own)),
            variants=variants,
            variant_of=variant_of,
            in_batch=InBatch(
                sizes=tuple(map(len, shares)),
                positive=torch.arange(start, start + len(own)),
                is_positive=torch.from_numpy(is_positive[start : start + len(own)]),
            ),
        )

    def _variants(self, rows: Ints) -> tuple[list[Tokens], torch.Tensor]:
        """Return the variants of the queries of `rows`, and the index of each one's query in `rows`."""
        tokens = [self.instances.variant(row) for row in rows]
        with_variant = [index for index, variant in enumerate(tokens) if len(variant)]
        return [tokens[index] for index in with_variant], torch.tensor(with_variant, dtype=torch.int64)

    def _drawn_item(self, row: int) -> Tokens:
        return self.instances.items(row)[int(self._drawn_items[row] - self.instances.first_item[row])]


def _usable(instances: TokenisedInstances, in_batch: bool, equal_within: float) -> Ints:
    """Return the instances with a positive item if `in_batch`, else those with two labels that are not equal."""
    if not len(instances):
        return np.empty(0, np.int64)
    starts = instances.first_item[:-1]
    if in_batch:
        return np.flatnonzero(np.logical_or.reduceat(instances.is_positive(), starts))
    highest, lowest = np.maximum.reduceat(instances.labels, starts), np.minimum.reduceat(instances.labels, starts)
    return np.flatnonzero(highest - lowest > equal_within)


def _draw_positives(instances: TokenisedInstances, rng: np.random.Generator) -> Ints:
    """Draw one positive item for each instance [n]; an instance without one gets an arbitrary item."""
    positives: Ints = np.flatnonzero(instances.is_positive())
    first, end = np.searchsorted(positives, [instances.first_item[:-1], instances.first_item[1:]])
    chosen = first + (rng.random(len(instances)) * (end - first)).astype(np.int64)
    drawn: Ints = positives[np.minimum(chosen, len(positives) - 1)]
    return drawn
