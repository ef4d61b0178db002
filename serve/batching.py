"""Batches of what arrives while an earlier batch is worked on."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Calls a function with batches: all that wait when its last call ends, up to a limit, in order of arrival.

    A batch closes when work on it starts. `serve.batch` (Ray 2.60) closes a batch a fixed time after its first item
    arrived, also while an earlier batch is worked on; where items take longer than that to arrive one after another,
    batches of one queue up and stay batches of one.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Awaitable[Sequence[Result]]],
        limit: int,
        size: Callable[[Item], int] = lambda _: 1,
        wait_s: float = 0.0,
    ) -> None:
        """Call `work` with batches whose padded size is at most `limit`; it returns a result for each item.

        The padded size of a batch is the number of its items times the largest `size` among them, which for texts is
        what a forward pass computes. An item above the limit is a batch of its own. `wait_s` is the time that an item
        waits for others when no work is going on, in seconds.
        """
        self._work = work
        self._limit = limit
        self._size = size
        self._wait_s = wait_s
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """Return the result of `item`. Raises what `work` raises for its batch."""
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if self._task is None:
            # Not in the context of this request: Ray Serve would cancel the batch together with the request.
            self._task = asyncio.create_task(self._work_on_all(), context=contextvars.Context())
        return await result

    async def _work_on_all(self) -> None:
        """Work until nothing waits. An item whose caller has given up is left out."""
        try:
            await asyncio.sleep(self._wait_s)
            while batch := self._next_batch():
                await self._work_on(batch)
        finally:
            self._task = None

    def _next_batch(self) -> list[tuple[Item, "asyncio.Future[Result]"]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        largest = 0
        while self._waiting:
            item, result = self._waiting[0]
            if not result.done():
                largest = max(largest, self._size(item))
                if batch and (len(batch) + 1) * largest > self._limit:
                    break
                batch.append((item, result))
            self._waiting.popleft()
        return batch

    async def _work_on(self, batch: list[tuple[Item, "asyncio.Future[Result]"]]) -> None:
        try:
            results = await self._work([item for item, _ in batch])
            if len(results) != len(batch):
                raise ValueError(f"{len(results)} results for {len(batch)} items")
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
