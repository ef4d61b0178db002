"""What a process has loaded: models and shards, each loaded once, when it is first asked for."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Loaded(Generic[Key, Value]):
    """Values by their keys. They are loaded one at a time, on a thread of their own, so that those that are there can
    be used while another is loaded. Used from one thread, the event loop's."""

    def __init__(self, load: Callable[[Key], Value], most: int | None = None) -> None:
        """Load by `load`. With `most`, the value that was not used for the longest time goes when there are more."""
        self._load = load
        self._most = most
        self._tasks: OrderedDict[Key, asyncio.Task[Value]] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, "load")

    async def get(self, key: Key) -> Value:
        """Return the value of `key`, and load it if need be. Raises what `load` raises; the next call tries anew."""
        task = self._tasks.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._tasks[key] = asyncio.create_task(self._loaded(key))
        self._tasks.move_to_end(key)
        if self._most is not None and len(self._tasks) > self._most:
            self._tasks.popitem(last=False)
        # A request that is given up must not cancel the loading that others wait for.
        return await asyncio.shield(task)

    def keep(self, keys: Collection[Key]) -> None:
        """Drop the values of all other keys; who uses one keeps it to the end."""
        for key in self._tasks.keys() - set(keys):
            del self._tasks[key]

    async def _loaded(self, key: Key) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._load, key)
