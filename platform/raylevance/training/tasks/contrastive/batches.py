"""Batches as a pure function of instances, settings and step: the same on any number of workers and after a restart."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from raylevance.errors import RaylevanceError
from raylevance.training.tasks.contrastive.instances import Instances
from raylevance.training.token_file import Ints, Tokens

BUCKET = 4
"""Batches sorted by length together: enough to fill them evenly, few enough to keep them random (our choice)."""


@dataclass(frozen=True)
class InBatch:
    """Where a worker's items stand among those of all workers, for losses with in-batch negatives.

    `sizes`: items of each worker, in the order of ranks; `positive` [B]: the row of each own query's item among all;
    `same` [B, sum(sizes)] bool: the items known to be positive for the query.
    """

    sizes: tuple[int, ...]
    positive: torch.Tensor
    same: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """One worker's share of a step: B queries and N items, `labels` [N] and `instance` [N] int64, non-decreasing.

    `variants`: V misspelt queries, of the queries `variant_of` [V] int64.
    """

    queries: list[Tokens]
    items: list[Tokens]
    labels: torch.Tensor
    instance: torch.Tensor
    variants: list[Tokens]
    variant_of: torch.Tensor
    in_batch: InBatch | None = None


def plan_epoch(cost: npt.NDArray[np.integer], batch: int, rng: np.random.Generator) -> list[Ints]:
    """Rows 0..n-1, each once, in batches of `batch` (the last may be smaller), shuffled and bucketed by `cost` [n]."""
    order = rng.permutation(len(cost))
    window = BUCKET * batch
    buckets = [order[start : start + window] for start in range(0, len(order), window)]
    sorted_rows = [bucket[np.argsort(cost[bucket], kind="stable")] for bucket in buckets]
    batches = [rows[start : start + batch] for rows in sorted_rows for start in range(0, len(rows), batch)]
    return [batches[index] for index in rng.permutation(len(batches))]


class BatchPlan:
    """The batches of a run, seen by the worker `rank` of `world`.

    With `in_batch` each epoch draws one positive item (label above 0) of every instance, and other instances' items are
    the negatives; without, all items of an instance come with their labels. Instances that no loss could learn from
    (no positive, or one label only) are left out.
    """

    def __init__(
        self, instances: Instances, *, batch: int, seed: int, in_batch: bool, rank: int = 0, world: int = 1
    ) -> None:
        """Raises `RaylevanceError` where no instance is left."""
        self.instances, self.batch, self.seed, self.in_batch = instances, batch, seed, in_batch
        self.rank, self.world = rank, world
        self.usable = _usable(instances, in_batch)
        if not len(self.usable):
            lacking = "an item with a label above 0" if in_batch else "two different labels"
            raise RaylevanceError(f"none of the {len(instances)} training instances has {lacking}")
        self.steps_per_epoch = -(-len(self.usable) // batch)
        self._epoch = -1
        self._drawn: Ints = np.empty(0, np.int64)
        self._batches: list[Ints] = []

    def rows(self, step: int) -> Ints:
        """The instances of `step` (0-based) on all workers."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._start_epoch(epoch)
        return self._batches[index]

    def load(self, step: int, parts: int = 1) -> list[Batch]:
        """This worker's share of `step`, in `parts` batches (some may be empty)."""
        rows = self.rows(step)
        if self.in_batch:
            return [self._draw_batch(rows)]
        return [self._graded_batch(part) for part in np.array_split(rows[self.rank :: self.world], parts)]

    def pairs(self, rows: Ints) -> int:
        """Query-item pairs that the instances `rows` train on."""
        first = self.instances.first_item
        return len(rows) if self.in_batch else int((first[rows + 1] - first[rows]).sum())

    def _start_epoch(self, epoch: int) -> None:
        rng = np.random.default_rng([self.seed, epoch])
        self._epoch = epoch
        lengths = np.concatenate([[0], np.cumsum(self.instances.item_lengths, dtype=np.int64)])
        if self.in_batch:
            self._drawn = _draw_positives(self.instances, rng)
            item_tokens = self.instances.item_lengths[self._drawn[self.usable]]
        else:
            item_tokens = np.diff(lengths[self.instances.first_item])[self.usable]
        cost = item_tokens + self.instances.query_lengths[self.usable]
        self._batches = [self.usable[rows] for rows in plan_epoch(cost, self.batch, rng)]

    def _graded_batch(self, rows: Ints) -> Batch:
        labels = [self.instances.labels_of(row) for row in rows]
        sizes = np.fromiter(map(len, labels), np.int64, len(labels))
        variants, variant_of = self._variants(rows)
        return Batch(
            queries=[self.instances.query(row) for row in rows],
            items=[item for row in rows for item in self.instances.items(row)],
            labels=torch.from_numpy(np.concatenate([np.empty(0, np.int64), *labels]).astype(np.int64)),
            instance=torch.from_numpy(np.repeat(np.arange(len(rows)), sizes)),
            variants=variants,
            variant_of=variant_of,
        )

    def _draw_batch(self, rows: Ints) -> Batch:
        shares = [rows[rank :: self.world] for rank in range(self.world)]
        own = shares[self.rank]
        start = sum(map(len, shares[: self.rank]))
        variants, variant_of = self._variants(own)
        same = _known_positives(self.instances, np.concatenate(shares), self._drawn_item)[start : start + len(own)]
        return Batch(
            queries=[self.instances.query(row) for row in own],
            items=[self._drawn_item(row) for row in own],
            labels=torch.ones(len(own), dtype=torch.int64),
            instance=torch.arange(len(own)),
            variants=variants,
            variant_of=variant_of,
            in_batch=InBatch(
                sizes=tuple(map(len, shares)),
                positive=torch.arange(start, start + len(own)),
                same=torch.from_numpy(same),
            ),
        )

    def _variants(self, rows: Ints) -> tuple[list[Tokens], torch.Tensor]:
        """The variants of the queries `rows`, and the place in `rows` of each one's query."""
        tokens = [self.instances.variant(row) for row in rows]
        places = [place for place, variant in enumerate(tokens) if len(variant)]
        return [tokens[place] for place in places], torch.tensor(places, dtype=torch.int64)

    def _drawn_item(self, row: int) -> Tokens:
        return self.instances.items(row)[int(self._drawn[row] - self.instances.first_item[row])]


def _usable(instances: Instances, in_batch: bool) -> Ints:
    """Rows with an item of a label above 0 (`in_batch`), else with two different labels."""
    if not len(instances):
        return np.empty(0, np.int64)
    starts = instances.first_item[:-1]
    highest, lowest = np.maximum.reduceat(instances.labels, starts), np.minimum.reduceat(instances.labels, starts)
    return np.flatnonzero(highest > (0 if in_batch else lowest))


def _draw_positives(instances: Instances, rng: np.random.Generator) -> Ints:
    """[n]: for each instance one of its items with a label above 0 (of no meaning where it has none)."""
    positives: Ints = np.flatnonzero(instances.labels > 0)
    first, end = np.searchsorted(positives, [instances.first_item[:-1], instances.first_item[1:]])
    chosen = first + (rng.random(len(instances)) * (end - first)).astype(np.int64)
    drawn: Ints = positives[np.minimum(chosen, len(positives) - 1)]
    return drawn


def _known_positives(instances: Instances, rows: Ints, drawn: Callable[[int], Tokens]) -> npt.NDArray[np.bool_]:
    """[B, B]: whether the item drawn for column j is a positive of query i, by text, in any instance of the batch."""
    places: dict[bytes, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        places[drawn(row).tobytes()].append(place)
    positives: dict[bytes, set[bytes]] = defaultdict(set)
    queries = [instances.query(row).tobytes() for row in rows]
    for query, row in zip(queries, rows, strict=True):
        labelled = zip(instances.items(row), instances.labels_of(row), strict=True)
        positives[query].update(item.tobytes() for item, label in labelled if label > 0)
    known = np.zeros((len(rows), len(rows)), bool)
    for place, query in enumerate(queries):
        for text in positives[query] & places.keys():
            known[place, places[text]] = True
    return known
