"""Random walks over a graph too large for the memory of one machine: each shard is a Ray actor, and walkers move.

A walker carries its random state and its path, so the walks equal those of `walk` on the whole graph, for any number
of shards. If a step must know whether two nodes are neighbours and another shard has the answer, the walker moves
there to find out.

Source: KnightKing (Yang et al. 2019), section 5.
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
    """A Ray actor that holds one shard in memory and moves the walkers that come to it.

    It keeps no walkers between calls. If it dies, it is started again from its file and its last call is repeated.
    """

    def __init__(
        self, file: Path, bounds: npt.NDArray[np.int64], settings: WalkSettings, type_starts: tuple[int, ...]
    ) -> None:
        """Load the shard `file`. Shard i of the graph has the nodes `bounds[i]` to `bounds[i + 1]` (exclusive)."""
        self._table = AliasTable.build(Csr.map(file), type_starts)
        self._bounds, self._settings = bounds, settings

    def move(self, *groups: Walkers) -> list[Any]:
        """Move the walkers of all `groups` as far as they get on this shard.

        Returns a group of walkers for each shard, which continue there, then the group of those whose walk is over,
        then the number of walkers that continue.
        """
        walkers = _concatenate([group for group in groups if len(group.ids)] or list(groups[:1]))
        next_shards = advance(self._table, walkers, self._bounds, self._settings)
        shards = len(self._bounds) - 1
        by_shard = [walkers.take(np.flatnonzero(next_shards == shard)) for shard in (*range(shards), -1)]
        return [*by_shard, int((next_shards >= 0).sum())]


def walk_shards(
    files: Sequence[Path],
    starts: npt.NDArray[np.integer],
    settings: WalkSettings,
    seed: int,
    type_starts: tuple[int, ...] = (0,),
) -> Nodes:
    """Walk from each of `starts` [n] over a graph larger than the memory of one machine.

    Each shard is loaded by a Ray actor of its own, so the machines of the cluster hold the graph together. Walkers move
    to the actor that has the node they are at. The walks are those that `walk` makes on the whole graph with the same
    seed, for any number of shards. A shard whose process dies is started again on any machine that has room for it.

        graph = Csr.from_edges(rows, columns, weights, (1_000, 1_000))
        graph.select_rows(0, 500).save(folder / "0.arrow")
        graph.select_rows(500, 1_000).save(folder / "500.arrow")
        files = [folder / "0.arrow", folder / "500.arrow"]
        paths = walk_shards(files, np.array([3, 7]), WalkSettings(length=8, walks_per_node=10, p=0.5, q=2.0), seed=0)

    - `files`: Shards of one graph as `Csr.save` writes them, in the order of their rows. Every machine must see them.
    - `starts`: Nodes to start from, int [n].
    - `settings`: Length, number and bias of the walks.
    - `seed`: Seed of all random draws.
    - `type_starts`: First node of each node type, for walks along a meta-path.

    Returns the nodes of the walks, int32 [n * walks_per_node, length + 1], in the order of `starts`. Walks that end
    early are padded with -1.

    Raises `RaylevanceError` if a file is not a shard, or if the files are not all shards of one graph in order.
    """
    shards = [Csr.map(file) for file in files]
    bounds = np.array([0, *(shard.first + shard.rows for shard in shards)], np.int64)
    for file, shard, expected in zip(files, shards, bounds, strict=False):
        if shard.first != expected:
            raise RaylevanceError(
                f"{file}: begins at node {shard.first}, but the shard before it ends at {expected}; "
                "give all shards of the graph in the order of their rows"
            )
    if not len(starts):
        return Walkers.start(starts, settings, seed).paths
    # A call that died with its actor changed nothing, so it may be repeated. Shards divide memory, not work, so they
    # reserve no processors and any number of them fits.
    spread = ray.remote(max_restarts=-1, max_task_retries=-1, num_cpus=0, scheduling_strategy="SPREAD")
    remote = spread(WalkShard)
    actors: list[Any] = [remote.remote(file.absolute(), bounds, settings, type_starts) for file in files]
    walkers = Walkers.start(starts, settings, seed)
    home = np.searchsorted(bounds, walkers.paths[:, 0], side="right") - 1
    waiting: list[list[Any]] = [[ray.put(walkers.take(np.flatnonzero(home == shard)))] for shard in range(len(actors))]
    finished: list[Any] = []
    under_way = len(walkers.ids)
    while under_way:
        moved = [
            actor.move.options(num_returns=len(actors) + 2).remote(*groups)
            for actor, groups in zip(actors, waiting, strict=True)
        ]
        waiting = [[groups[shard] for groups in moved] for shard in range(len(actors))]
        finished += [groups[-2] for groups in moved]
        under_way = sum(ray.get([groups[-1] for groups in moved]))
    done = _concatenate(ray.get(finished))
    paths = np.empty_like(done.paths)
    paths[np.argsort(walkers.ids)] = done.paths[np.argsort(done.ids)]
    return paths


def _concatenate(groups: Sequence[Walkers]) -> Walkers:
    """Join `groups` into one whose arrays are writable, unlike those that come from Ray's object store."""
    names = ("paths", "steps", "rng", "pending", "ids")
    return Walkers(*(np.concatenate([getattr(group, name) for group in groups]) for name in names))
