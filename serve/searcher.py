"""Answers search requests: encodes the queries in batches, then searches without blocking the event loop."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from raylevance.inference.search import needs_vector
from serve.batching import Batcher
from serve.bundle import Bundle, Vectors
from serve.messages import Answer, SearchRequest

Encode = Callable[[list[str]], Awaitable[Vectors]]
"""Encodes n query texts as unit vectors float32 [n, d]."""

PROBE_QUERY = "ready"
PROBE_TIMEOUT_S = 2.0


class Searcher:
    """Answers search requests from a bundle, one search at a time on a thread of its own.

    Queries that arrive while others are encoded are encoded together: one call of the encoder for all of them, so that
    the call, too, is paid once.
    """

    def __init__(self, bundle: Bundle, encode: Encode, batch_size: int = 32, batch_wait_s: float = 0.0) -> None:
        """Answer from `bundle`, with vectors from `encode`, which gets at most `batch_size` queries at a time."""

        async def encode_rows(queries: list[str]) -> list[Vectors]:
            return list(await encode(queries))

        self.bundle = bundle
        self._encode = Batcher(encode_rows, batch_size, batch_wait_s)
        self._thread = ThreadPoolExecutor(1, "search")

    async def answer(self, request: SearchRequest) -> Answer:
        """Encode the query if need be, and search for it. `took_ms` of the answer is the time of both, in ms."""
        started = time.perf_counter()
        bundle = self.bundle
        vector = await self._encode(request.query) if needs_vector(request.mode, request.minimum_grade) else None
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
            await asyncio.wait_for(self._encode(PROBE_QUERY), PROBE_TIMEOUT_S)
        except Exception:
            return False
        return True
