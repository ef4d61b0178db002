"""What a process has loaded: models and shards, each loaded once, when it is first asked for."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from serve.memory import return_memory

Key = TypeVar("Key")
Value = TypeVar("Value")


class Loaded(Generic[Key, Value]):
    """Values by their keys. They are loaded one at a time, on a thread of their own, so that those that are there can
    be used while another is loaded. Used from one thread, the event loop's."""

    def __init__(self, load: Callable[[Key], Value], most: int | None = None, idle_s: float | None = None) -> None:
        """Load by `load`. With `most`, the value that was not used for the longest time goes when there are more.

        With `idle_s`, those that nobody used for that time go too, but for the one that was used last.
        """
        self._load = load
        self._most = most
        self._idle_s = idle_s
        self._used: dict[Key, float] = {}
        self._tasks: OrderedDict[Key, asyncio.Task[Value]] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, "load")

    async def get(self, key: Key) -> Value:
        """Return the value of `key`, and load it if need be. Raises what `load` raises; the next call tries anew."""
        task = self._tasks.get(key)
        if task is None or _failed(task):
            task = self._tasks[key] = asyncio.create_task(self._loaded(key))
            if self._idle_s is not None:
                asyncio.get_running_loop().call_later(self._idle_s, self._drop_idle, self._idle_s)
        self._tasks.move_to_end(key)
        self._used[key] = time.monotonic()
        if self._most is not None and len(self._tasks) > self._most:
            self._drop(next(iter(self._tasks)))
        try:
            # A request that is given up must not cancel the loading that others wait for.
            return await asyncio.shield(task)
        finally:
            if self._tasks.get(key) is task and _failed(task):
                self._drop(key)  # what can't be loaded takes no place

    def drop(self, keys: Collection[Key]) -> None:
        """Drop the values of `keys`; who uses one keeps it to the end."""
        for key in self._tasks.keys() & set(keys):
            self._drop(key)

    def _drop(self, key: Key) -> None:
        del self._tasks[key], self._used[key]

    def _drop_idle(self, idle_s: float) -> None:
        """Drop the values that were not used for `idle_s`, and look again later while there is more than one."""
        idle = [key for key in list(self._tasks)[:-1] if time.monotonic() - self._used[key] >= idle_s]
        for key in idle:
            self._drop(key)
        loop = asyncio.get_running_loop()
        if idle:
            loop.run_in_executor(self._thread, return_memory)
        if len(self._tasks) > 1:
            loop.call_later(idle_s, self._drop_idle, idle_s)

    async def _loaded(self, key: Key) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._load, key)


def _failed(task: "asyncio.Task[Value]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
