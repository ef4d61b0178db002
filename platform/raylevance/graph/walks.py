"""Biased random walks: node2vec's second order on weighted graphs, along a meta-path where one is given.

From t by v to x with a probability proportional to alpha(t, x) * w(v, x), where alpha is 1/p for x = t, 1 for a
neighbour x of t, and 1/q otherwise. Source: Grover and Leskovec 2016 (arXiv 1607.00653), section 3.2. Each step draws x
by weight and accepts it in proportion to alpha (rejection sampling: Yang et al. 2019, "KnightKing", section 4), so it
costs the same at a node of any degree and needs no table of second-order probabilities.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveFloat, PositiveInt

from raylevance.config import Settings
from raylevance.graph.alias import NEIGHBOUR, ONE, OTHER, THRESHOLD, AliasTable
from raylevance.graph.compiled import compiled
from raylevance.graph.csr import Nodes
from raylevance.graph.random_numbers import GOLDEN, States, states, unit

END = -1
"""In a walk: it ended before, at a node with no neighbour to go to. As a walker's shard: its walk is over."""


class WalkSettings(Settings):
    """`length` counts steps, so a walk has one node more. Above 1, p keeps from going back and q from going away."""

    length: PositiveInt = 8
    walks_per_node: PositiveInt = 10
    p: PositiveFloat = 1.0
    q: PositiveFloat = 1.0
    meta_path: tuple[int, ...] = Field(())
    """Node types by step, first that of the start, over and over: (0, 1) goes from queries to items and back."""


@dataclass
class Walkers:
    """Walks under way: `paths` int32 [n, length + 1], `steps` int32 [n] taken so far, `rng` uint64 [n] each one's own
    random state, `pending` int32 [n] a node proposed but not yet accepted, `ids` int64 [n]."""

    paths: npt.NDArray[np.int32]
    steps: npt.NDArray[np.int32]
    rng: States
    pending: npt.NDArray[np.int32]
    ids: npt.NDArray[np.int64]

    @classmethod
    def start(cls, starts: npt.NDArray[np.integer], settings: WalkSettings, seed: int) -> "Walkers":
        """`walks_per_node` walkers at each of `starts` [n], in their order. A walk depends on the seed, its first node
        and its number there, and on nothing else."""
        each = settings.walks_per_node
        ids = (starts.astype(np.int64)[:, None] * each + np.arange(each)).ravel()
        paths = np.full((len(ids), settings.length + 1), END, np.int32)
        paths[:, 0] = np.repeat(starts, each)
        return cls(paths, np.zeros(len(ids), np.int32), states(seed, ids), np.full(len(ids), END, np.int32), ids)

    def take(self, places: npt.NDArray[np.integer] | slice) -> "Walkers":
        return Walkers(self.paths[places], self.steps[places], self.rng[places], self.pending[places], self.ids[places])


def walk(
    table: AliasTable, starts: npt.NDArray[np.integer], settings: WalkSettings, seed: int, threads: int = 1
) -> Nodes:
    """Walks from each of `starts` [n] over the whole graph: int32 [n * walks_per_node, length + 1], padded with -1."""
    walkers = Walkers.start(starts, settings, seed)
    everywhere = np.array([0, table.rows], np.int64)
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda part: advance(table, part, everywhere, settings), _parts(walkers, threads)):
            pass
    return walkers.paths


def advance(
    table: AliasTable, walkers: Walkers, bounds: npt.NDArray[np.int64], settings: WalkSettings
) -> npt.NDArray[np.int32]:
    """Let `walkers` go, in place, as far as they get on the rows of `table`: the shard each must go on at, int32 [n].

    Shard i has the nodes `bounds[i]` to `bounds[i + 1]`. A walk that is over has the shard -1.
    Raises `ValueError` where the table's types of nodes are not those that the meta-path goes by.
    """
    kinds, path = table.segments.shape[1] - 1, settings.meta_path
    if (kinds > 1) != bool(path) or not all(0 <= kind < kinds for kind in path):
        raise ValueError(
            f"meta_path={path}: the table has {kinds} types of nodes; give both types and path, or neither"
        )
    places = np.empty(len(walkers.ids), np.int32)
    _advance(
        table.slots,
        table.segments,
        table.first,
        walkers.paths,
        walkers.steps,
        walkers.rng,
        walkers.pending,
        bounds,
        np.array(path, np.int64),
        1 / settings.p,
        1 / settings.q,
        places,
    )
    return places


def _parts(walkers: Walkers, count: int) -> Iterator[Walkers]:
    """Views, so that what is done to a part is done to the whole."""
    size = -(-len(walkers.ids) // count) or 1
    for start in range(0, len(walkers.ids), size):
        yield walkers.take(slice(start, start + size))


@compiled
def _advance(
    slots: Any,
    segments: Any,
    first: Any,
    paths: Any,
    steps: Any,
    rng: Any,
    pending: Any,
    bounds: Any,
    meta_path: Any,
    back: Any,
    away: Any,
    places: Any,
) -> Any:
    end, length = first + len(segments), paths.shape[1] - 1
    upper, near = max(1.0, back, away), 1.0
    for walker in range(len(places)):
        state, step, asked = rng[walker], steps[walker], pending[walker]
        place = END
        while step < length:
            node = paths[walker, step]
            before = paths[walker, step - 1] if step else END
            if asked != END:
                if not first <= before < end:
                    place = _shard_of(before, bounds)
                    break
                is_near = _has(slots, segments[before - first], asked)
                if is_near == (near > away):
                    step += 1
                    paths[walker, step] = asked
                asked = END
                continue
            if not first <= node < end:
                place = _shard_of(node, bounds)
                break
            row = segments[node - first]
            if len(meta_path):
                kind = meta_path[(step + 1) % len(meta_path)]
                start, stop = row[kind], row[kind + 1]
            else:
                start, stop = row[0], row[-1]
            if start == stop:
                break
            state += GOLDEN
            drawn = unit(state) * (stop - start)
            slot = start + int(drawn)
            share = (drawn - int(drawn)) * ONE
            other = slots[slot, NEIGHBOUR] if share < slots[slot, THRESHOLD] else slots[slot, OTHER]
            if before != END:
                state += GOLDEN
                bar = unit(state) * upper
                if other == before:
                    if bar >= back:
                        continue
                elif bar >= max(near, away):
                    continue
                elif bar >= min(near, away):
                    asked = other
                    continue
            step += 1
            paths[walker, step] = other
        rng[walker], steps[walker], pending[walker], places[walker] = state, step, asked, place


@compiled
def _has(slots: Any, row: Any, node: Any) -> Any:
    low, high = row[0], row[-1]
    while low < high:
        middle = (low + high) // 2
        if slots[middle, NEIGHBOUR] < node:
            low = middle + 1
        else:
            high = middle
    return low < row[-1] and slots[low, NEIGHBOUR] == node


@compiled
def _shard_of(node: Any, bounds: Any) -> Any:
    return np.searchsorted(bounds, node, side="right") - 1
