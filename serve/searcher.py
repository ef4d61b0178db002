"""Answers search requests: encodes the query, then searches without blocking the event loop."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from serve.bundle import Bundle, Vector
from serve.messages import Answer, SearchRequest

Encode = Callable[[str], Awaitable[Vector]]
"""Encodes a query text as a unit vector float32 [d]."""

PROBE_QUERY = "ready"
PROBE_TIMEOUT_S = 2.0


class Searcher:
    """Answers search requests from a bundle, one search at a time on a thread of its own."""

    def __init__(self, bundle: Bundle, encode: Encode) -> None:
        """Answer from `bundle`, with query vectors from `encode`."""
        self.bundle = bundle
        self.encode = encode
        self._thread = ThreadPoolExecutor(1, "search")

    async def answer(self, request: SearchRequest) -> Answer:
        """Encode the query and search for it. `took_ms` of the answer is the time of both, in milliseconds."""
        started = time.perf_counter()
        bundle = self.bundle
        vector = await self.encode(request.query)
        hits = await asyncio.get_running_loop().run_in_executor(self._thread, bundle.search, request, vector)
        return Answer(
            query=request.query,
            mode=request.mode,
            took_ms=round(1000 * (time.perf_counter() - started), 1),
            hits=hits,
            versions=bundle.versions,
        )

    async def is_ready(self) -> bool:
        """Return whether the encoder answers within `PROBE_TIMEOUT_S` seconds; the bundle is loaded already."""
        try:
            await asyncio.wait_for(_await(self.encode(PROBE_QUERY)), PROBE_TIMEOUT_S)
        except Exception:
            return False
        return True


async def _await(vector: Awaitable[Vector]) -> Vector:
    """Wrap an awaitable in a coroutine, which `wait_for` requires; a response of Ray Serve is not one."""
    return await vector
