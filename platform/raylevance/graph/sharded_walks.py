"""Random walks over a graph that no node can hold: each shard is an actor, and the walkers move between them.

A walker carries its random state and its path, so the walks are those of `walk` on the whole graph, to the last node,
for any number of shards. Where the next step asks whether two nodes are neighbours and the one with the answer is on
another shard, the walker goes there with the question (KnightKing: Yang et al. 2019, section 5).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import ray

from raylevance.errors import RaylevanceError
from raylevance.graph.alias import AliasTable
from raylevance.graph.csr import Csr, Nodes
from raylevance.graph.walks import Walkers, WalkSettings, advance


class WalkShard:
    """One shard in memory, and what happens to walkers there. It remembers no walker: one that dies is started again
    from its file, and its last call is repeated."""

    def __init__(self, file: Path, bounds: npt.NDArray[np.int64], settings: WalkSettings, types: tuple[int, ...]):
        self._table = AliasTable.build(Csr.map(file), types)
        self._bounds, self._settings = bounds, settings

    def move(self, *groups: Walkers) -> list[Any]:
        """Walkers by the shard that they go on at; then those whose walk is over; then how many go on."""
        walkers = _joined([group for group in groups if len(group.ids)] or list(groups[:1]))
        places = advance(self._table, walkers, self._bounds, self._settings)
        shards = len(self._bounds) - 1
        groups_by_place = [walkers.take(np.flatnonzero(places == place)) for place in (*range(shards), -1)]
        return [*groups_by_place, int((places >= 0).sum())]


def walk_shards(
    files: Sequence[Path],
    starts: npt.NDArray[np.integer],
    settings: WalkSettings,
    seed: int,
    type_starts: tuple[int, ...] = (0,),
) -> Nodes:
    """`walk` over the shards `files`, an actor each, in the order of their rows: int32 [n * each, length + 1].

    A shard whose process dies is started again, wherever there is room. Raises `RaylevanceError` where the files are
    not the shards of one graph in their order.
    """
    shards = [Csr.map(file) for file in files]
    bounds = np.array([0, *(shard.first + shard.rows for shard in shards)], np.int64)
    for file, shard, first in zip(files, shards, bounds, strict=False):
        if shard.first != first:
            raise RaylevanceError(f"{file}: begins at node {shard.first}, where the shard before it ends at {first}")
    if not len(starts):
        return Walkers.start(starts, settings, seed).paths
    # A call that died with its actor changed nothing, so it may be made again. Shards are for memory: any number of
    # them fits on the processors that there are.
    remote = ray.remote(max_restarts=-1, max_task_retries=-1, num_cpus=0)(WalkShard)
    actors: list[Any] = [remote.remote(file.absolute(), bounds, settings, type_starts) for file in files]
    walkers = Walkers.start(starts, settings, seed)
    home = np.searchsorted(bounds, walkers.paths[:, 0], side="right") - 1
    waiting: list[list[Any]] = [[ray.put(walkers.take(np.flatnonzero(home == place)))] for place in range(len(actors))]
    finished: list[Any] = []
    under_way = len(walkers.ids)
    while under_way:
        moved = [
            actor.move.options(num_returns=len(actors) + 2).remote(*groups)
            for actor, groups in zip(actors, waiting, strict=True)
        ]
        waiting = [[parts[place] for parts in moved] for place in range(len(actors))]
        finished += [parts[-2] for parts in moved]
        under_way = sum(ray.get([parts[-1] for parts in moved]))
    done = _joined(ray.get(finished))
    paths = np.empty_like(done.paths)
    paths[np.argsort(walkers.ids)] = done.paths[np.argsort(done.ids)]
    return paths


def _joined(groups: Sequence[Walkers]) -> Walkers:
    """One group, whose arrays may be written to (what comes from the object store may not)."""
    names = ("paths", "steps", "rng", "pending", "ids")
    return Walkers(*(np.concatenate([getattr(group, name) for group in groups]) for name in names))
