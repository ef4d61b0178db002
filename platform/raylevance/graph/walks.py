"""Biased random walks on weighted graphs: node2vec's second-order walks, along a meta-path if one is given.

A walk that came from node t to node v goes on to x with a probability proportional to alpha(t, x) * w(v, x), where
alpha is 1/p for x = t, 1 for a neighbour x of t, and 1/q otherwise. Each step draws x by weight and accepts it in
proportion to alpha (rejection sampling), so it costs the same at a node of any degree and needs no table of
second-order probabilities.

Source: node2vec (Grover and Leskovec 2016, arXiv 1607.00653), section 3.2; rejection sampling: KnightKing (Yang et al.
2019), section 4.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveFloat, PositiveInt

from raylevance.config import Settings
from raylevance.graph.alias import ALIAS, NEIGHBOUR, THRESHOLD, THRESHOLD_SCALE, AliasTable
from raylevance.graph.compiled import compiled
from raylevance.graph.csr import Nodes
from raylevance.graph.random_numbers import GOLDEN_GAMMA, States, initial_states, uniform

END = -1
"""In a path: the walk ended earlier, at a node without a neighbour to go to. As a walker's shard: its walk is over."""


class WalkSettings(Settings):
    """The length, number and bias of random walks."""

    length: PositiveInt = 8
    """Number of steps of a walk. A walk has one node more than steps."""
    walks_per_node: PositiveInt = 10
    """Number of walks that start at each node."""
    p: PositiveFloat = 1.0
    """Return parameter of node2vec. Above 1, a walk is less likely to step back to the node it came from."""
    q: PositiveFloat = 1.0
    """In-out parameter of node2vec. Above 1, a walk is more likely to stay near the node it came from."""
    meta_path: tuple[int, ...] = Field(())
    """Node types of the steps of a walk, beginning with that of its first node and repeated. (0, 1) goes from queries
    to items and back. Empty means that a walk may go to nodes of any type."""


@dataclass
class Walkers:
    """The state of n walks that may be under way.

    - `paths` int32 [n, length + 1]: the nodes so far, padded with -1.
    - `steps` int32 [n]: the number of steps taken.
    - `rng` uint64 [n]: each walker's own random state.
    - `pending` int32 [n]: a node that was proposed but not yet accepted, or -1.
    - `ids` int64 [n]: the number of each walker.
    """

    paths: npt.NDArray[np.int32]
    steps: npt.NDArray[np.int32]
    rng: States
    pending: npt.NDArray[np.int32]
    ids: npt.NDArray[np.int64]

    @classmethod
    def start(cls, starts: npt.NDArray[np.integer], settings: WalkSettings, seed: int) -> "Walkers":
        """Place `walks_per_node` walkers at each of `starts` [n], in that order.

        A walk depends only on the seed, its first node, and which of the node's walks it is.
        """
        per_node = settings.walks_per_node
        ids = (starts.astype(np.int64)[:, None] * per_node + np.arange(per_node)).ravel()
        paths = np.full((len(ids), settings.length + 1), END, np.int32)
        paths[:, 0] = np.repeat(starts, per_node)
        pending = np.full(len(ids), END, np.int32)
        return cls(paths, np.zeros(len(ids), np.int32), initial_states(seed, ids), pending, ids)

    def take(self, rows: npt.NDArray[np.integer] | slice) -> "Walkers":
        """Return the walkers at `rows`. A slice gives views, an array gives copies."""
        return Walkers(self.paths[rows], self.steps[rows], self.rng[rows], self.pending[rows], self.ids[rows])


def walk(
    table: AliasTable, starts: npt.NDArray[np.integer], settings: WalkSettings, seed: int, threads: int = 1
) -> Nodes:
    """Walk from each of `starts` [n] over a whole graph in memory.

    Returns the nodes of the walks, int32 [n * walks_per_node, length + 1], in the order of `starts`. Walks that end
    early are padded with -1. The result is the same for any number of `threads`.

    Raises `ValueError` if the node types of `table` and the meta-path do not fit together.
    """
    walkers = Walkers.start(starts, settings, seed)
    whole_graph = np.array([0, table.rows], np.int64)
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda part: advance(table, part, whole_graph, settings), _parts(walkers, threads)):
            pass
    return walkers.paths


def advance(
    table: AliasTable, walkers: Walkers, bounds: npt.NDArray[np.int64], settings: WalkSettings
) -> npt.NDArray[np.int32]:
    """Move `walkers`, in place, as far as they get on the rows of `table`.

    Returns the shard on which each walker must go on, int32 [n], with -1 for a walk that is over. Shard i has the nodes
    `bounds[i]` to `bounds[i + 1]` (exclusive).

    Raises `ValueError` if the node types of `table` and the meta-path do not fit together.
    """
    types, path = table.segments.shape[1] - 1, settings.meta_path
    if (types > 1) != bool(path) or not all(0 <= node_type < types for node_type in path):
        raise ValueError(
            f"meta_path={path}: the alias table has {types} node types; give both node types and a path, or neither"
        )
    next_shards = np.empty(len(walkers.ids), np.int32)
    _advance(
        table.slots,
        table.segments,
        table.first,
        _WalkerArrays(walkers.paths, walkers.steps, walkers.rng, walkers.pending),
        bounds,
        _StepRules(np.array(path, np.int64), 1 / settings.p, 1 / settings.q),
        next_shards,
    )
    return next_shards


def _parts(walkers: Walkers, count: int) -> Iterator[Walkers]:
    """Yield views, so that moving a part moves the whole."""
    size = -(-len(walkers.ids) // count) or 1
    for start in range(0, len(walkers.ids), size):
        yield walkers.take(slice(start, start + size))


class _WalkerArrays(NamedTuple):
    paths: Any
    steps: Any
    rng: Any
    pending: Any


class _StepRules(NamedTuple):
    """The meta-path, and the values of alpha for the previous node and for a node away from it."""

    meta_path: Any
    back: float
    away: float


@compiled
def _advance(slots: Any, segments: Any, first: Any, walkers: Any, bounds: Any, rules: Any, next_shards: Any) -> Any:
    end, length = first + len(segments), walkers.paths.shape[1] - 1
    meta_path, back, away, adjacent = rules.meta_path, rules.back, rules.away, 1.0
    upper = max(1.0, back, away)
    for walker in range(len(next_shards)):
        state, step, proposed = walkers.rng[walker], walkers.steps[walker], walkers.pending[walker]
        next_shard = END
        while step < length:
            node = walkers.paths[walker, step]
            before = walkers.paths[walker, step - 1] if step else END
            if proposed != END:
                # The draw lies between the two values of alpha, so the node is accepted if it has the larger one.
                if not first <= before < end:
                    next_shard = _shard_of(before, bounds)
                    break
                is_adjacent = _has_neighbour(slots, segments[before - first], proposed)
                if is_adjacent == (adjacent > away):
                    step += 1
                    walkers.paths[walker, step] = proposed
                proposed = END
                continue
            if not first <= node < end:
                next_shard = _shard_of(node, bounds)
                break
            row = segments[node - first]
            if len(meta_path):
                node_type = meta_path[(step + 1) % len(meta_path)]
                start, stop = row[node_type], row[node_type + 1]
            else:
                start, stop = row[0], row[-1]
            if start == stop:
                break
            state += GOLDEN_GAMMA
            drawn = uniform(state) * (stop - start)
            slot = start + int(drawn)
            share = (drawn - int(drawn)) * THRESHOLD_SCALE
            other = slots[slot, NEIGHBOUR] if share < slots[slot, THRESHOLD] else slots[slot, ALIAS]
            if before != END:
                state += GOLDEN_GAMMA
                accept_draw = uniform(state) * upper
                # A node is accepted below its alpha. Only between the two values that alpha may have are the
                # neighbours of the node before looked up.
                if other == before:
                    if accept_draw >= back:
                        continue
                elif accept_draw >= max(adjacent, away):
                    continue
                elif accept_draw >= min(adjacent, away):
                    proposed = other
                    continue
            step += 1
            walkers.paths[walker, step] = other
        walkers.rng[walker], walkers.steps[walker], walkers.pending[walker] = state, step, proposed
        next_shards[walker] = next_shard


@compiled
def _has_neighbour(slots: Any, row: Any, node: Any) -> Any:
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
