"""The shards of indexes in processes that all replicas share, for a catalogue that one process should not hold.

Shard i of an index is in process i mod n of n. A replica then holds the products and no vectors; it asks the processes
at once, and merges what they find (`raylevance/index/shards.py`).
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from raylevance.artifacts import Store
from raylevance.inference import index_shards
from raylevance.inference.index_shards import Allowed, IndexShard, Ranking, Rows, Shards, Vectors
from serve.arrays import Packed, pack, unpack
from serve.handles import answer_of, by_value, replies, tell_all
from serve.loaded import Loaded
from serve.problems import Unavailable

INDEXES_HELD = 2
"""The indexes of which a process keeps its shards: that of the bundle that leaves, and that of the one that comes."""
IDLE_S = 300.0
"""How long a process keeps shards that no replica asks for."""
SHARDS = "the shards of the index"

Answer = tuple[Packed, Packed]
"""Scores and rows of a `Ranking`."""

log = logging.getLogger("ray.serve")


class HeldShards:
    """The shards of one process. They are loaded, and the files of the index checked, when first asked for."""

    def __init__(self, store: str, number: int, processes: int, *, use_gpu: bool = False) -> None:
        """Hold the shards number, number + processes, ... of the indexes of `store`."""
        self._store, self._number, self._processes, self._use_gpu = Store(store), number, processes, use_gpu
        self._indexes: Loaded[str, dict[int, IndexShard]] = Loaded(self._read, INDEXES_HELD, IDLE_S)
        self._thread = ThreadPoolExecutor(1, "search")

    @replies
    async def load(self, index: str) -> None:
        """Load the shards of `index/NAME@VERSION`. Raises `RaylevanceError` when a file is missing or damaged."""
        await self._indexes.get(index)

    @replies
    async def nearest(self, index: str, shard: int, queries: Packed, k: int, allowed: Packed | None) -> Answer:
        """Search the vectors of a shard, as `Shards.nearest`."""
        held = await self._held(index, shard)
        return await self._ranked(held.vectors.search, unpack(queries), k, allowed)

    @replies
    async def matching(self, index: str, shard: int, queries: list[str], k: int, allowed: Packed | None) -> Answer:
        """Search the words of a shard, as `Shards.matching`."""
        held = await self._held(index, shard)
        return await self._ranked(held.lexical.search, queries, k, allowed)

    @replies
    async def vectors(self, index: str, shard: int, rows: Packed) -> Packed:
        """Return the vectors of rows of a shard, as `Shards.vectors`."""
        held = await self._held(index, shard)
        return pack(await self._run(held.vectors.vectors, unpack(rows)))

    async def _held(self, index: str, shard: int) -> IndexShard:
        return (await self._indexes.get(index))[shard]

    async def _ranked(self, search: Callable[..., Ranking], queries: Any, k: int, allowed: Packed | None) -> Answer:
        scores, rows = await self._run(search, queries, k, None if allowed is None else unpack(allowed))
        return pack(scores), pack(rows)

    async def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _read(self, index: str) -> dict[int, IndexShard]:
        shards = index_shards.load(self._store, index, self._number, self._processes, use_gpu=self._use_gpu)
        if not shards:
            few = f"{index} has fewer shards than shard_processes={self._processes}, so process {self._number} is idle"
            log.warning("%s; set shard_processes to the number of shards, or build the index with more", few)
        return shards


class ShardProcesses:
    """The handles of the processes that hold shards."""

    def __init__(self, handles: Sequence[Any], timeout_s: float) -> None:
        """Ask by `handles`, process 0 first, from the event loop that runs now; wait `timeout_s` for an answer."""
        self._handles = [by_value(handle) for handle in handles]
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s

    async def load(self, index: str) -> None:
        """Make every process load its shards of an index. Raises `RaylevanceError` when a file is damaged."""
        await asyncio.gather(*(tell_all(handle, "load", (index,), SHARDS) for handle in self._handles))

    def opened(self, index: str, sizes: Sequence[int]) -> Shards:
        """Return the shards of an index, whose numbers of rows are `sizes`."""
        return RemoteShards(self, index, sizes)

    def ask(self, method: str, index: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a method of `HeldShards` for each shard, at once, and return the results. Blocks the thread.

        Raises `Unavailable` where a process does not answer in time.
        """
        call = asyncio.run_coroutine_threadsafe(self._ask(method, index, arguments), self._loop)
        try:
            return call.result(self._timeout_s)
        except TimeoutError:
            call.cancel()  # the processes should not work on what nobody waits for
            raise Unavailable(f"{SHARDS} do not answer within {self._timeout_s:g} s") from None

    async def _ask(self, method: str, index: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        calls: list[Coroutine[Any, Any, Any]] = []
        for shard, given in enumerate(arguments):
            handle = self._handles[shard % len(self._handles)]
            response = getattr(handle, method).remote(index, shard, *given)
            calls.append(answer_of(response, SHARDS))
        return await asyncio.gather(*calls)


class RemoteShards:
    """The shards of an index in other processes."""

    def __init__(self, processes: ShardProcesses, index: str, sizes: Sequence[int]) -> None:
        """Search the shards of `index/NAME@VERSION` in `processes`."""
        self._processes, self._index, self._sizes = processes, index, list(sizes)

    @property
    def sizes(self) -> Sequence[int]:
        """The number of rows of each shard."""
        return self._sizes

    def nearest(self, queries: Vectors, k: int, allowed: Sequence[Allowed | None]) -> list[Ranking]:
        """Search for the nearest vectors, as `Shards.nearest`."""
        packed = pack(queries)
        return self._rankings("nearest", [(packed, k, mask) for mask in map(_pack_mask, allowed)])

    def matching(self, queries: Sequence[str], k: int, allowed: Sequence[Allowed | None]) -> list[Ranking]:
        """Search by BM25, as `Shards.matching`."""
        return self._rankings("matching", [(list(queries), k, mask) for mask in map(_pack_mask, allowed)])

    def vectors(self, rows: Sequence[Rows]) -> list[Vectors]:
        """Return the vectors of rows, as `Shards.vectors`."""
        return [unpack(part) for part in self._processes.ask("vectors", self._index, [(pack(part),) for part in rows])]

    def _rankings(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Ranking]:
        answers = self._processes.ask(method, self._index, arguments)
        return [(unpack(scores), unpack(rows)) for scores, rows in answers]


def _pack_mask(allowed: Allowed | None) -> Packed | None:
    return None if allowed is None else pack(allowed)
