"""The bundle in service: answers are made from it, and a newer one takes its place once it has been probed.

A replica that follows `bundle/NAME` looks for a newer version every few seconds. It loads the newer one beside the one
in service, checks every file, answers a probe of each kind from it, and then replaces one reference. A request holds
the answers of one bundle from its first line to its last, so it can't meet two. A bundle that fails at any point is
refused, with the reason in `GET /v1/versions`, and the one in service stays.
"""

import asyncio
import ctypes
import logging
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime

from raylevance.artifacts import Artifact, Store, parse_reference
from raylevance.client.messages import Refused, Versions
from serve.answers import Answers
from serve.bundle import Bundle, read_versions
from serve.metrics import Metrics
from serve.models import Models
from serve.settings import ServeSettings

log = logging.getLogger("ray.serve")

KEPT_REFUSALS = 20
PROBE_TIMEOUT_S = 60.0
READY_TIMEOUT_S = 2.0


class Service:
    """The answers of a replica, of the bundle that is in service."""

    def __init__(self, settings: ServeSettings, versions: Versions, models: Models, metrics: Metrics) -> None:
        """Load the artifacts at `versions`. Raises `RaylevanceError` when one is missing or damaged."""
        self._settings, self._models, self._metrics = settings, models, metrics
        self.max_k = settings.max_k
        self._store = Store(settings.store)
        self.answers = self._load(versions)
        self.loaded = datetime.now(UTC)
        metrics.serving(versions)
        self.refused: deque[Refused] = deque(maxlen=KEPT_REFUSALS)
        self._judged: set[tuple[str, datetime]] = set()
        self._lock = asyncio.Lock()
        self._follower: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow the bundle, if the settings name one without a version. Called on the event loop."""
        bundle = self._settings.bundle
        if bundle and parse_reference(bundle)[1] is None and self._follower is None:
            self._follower = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """End the following."""
        if self._follower:
            self._follower.cancel()
            with suppress(asyncio.CancelledError):
                await self._follower

    async def is_ready(self) -> bool:
        """Return whether the encoder answers within `READY_TIMEOUT_S` seconds; the bundle is loaded already."""
        try:
            await asyncio.wait_for(self.answers.probe(), READY_TIMEOUT_S)
        except Exception:
            return False
        return True

    async def update(self) -> bool:
        """Take the newest version of the bundle into service if it can answer; return whether it was taken."""
        bundle = self._settings.bundle
        if bundle is None:
            return False
        async with self._lock:
            newest = await asyncio.to_thread(self._newest, bundle)
            if newest is None or newest.ref == self.answers.bundle.versions.bundle:
                return False
            key = newest.ref, newest.created
            if key in self._judged:
                return False
            self._judged.add(key)
            try:
                await self._take(newest.ref)
            except Exception as error:
                self._refuse(newest.ref, error)
                return False
            return True

    async def _take(self, reference: str) -> None:
        """Load a bundle beside the one in service, probe it, and replace the one in service by it."""
        versions = await asyncio.to_thread(read_versions, self._store, reference)
        new = await asyncio.to_thread(self._load, versions)
        await asyncio.wait_for(new.probe(), PROBE_TIMEOUT_S)
        before = self.answers.bundle.versions
        self.answers, self.loaded = new, datetime.now(UTC)
        self._metrics.serving(versions, before)
        self._metrics.bundle("taken")
        log.info("bundle %s is in service", reference)
        await asyncio.to_thread(_return_memory)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._settings.refresh_s)
            try:
                await self.update()
            except Exception:
                log.exception("the bundle could not be looked for; trying again")

    def _newest(self, bundle: str) -> Artifact | None:
        """Return the newest version of the bundle, None if the store can't say; it may be written at this moment."""
        try:
            return self._store.get(bundle)
        except Exception as error:
            self._refuse_once(bundle, error)
            return None

    def _refuse_once(self, bundle: str, error: Exception) -> None:
        if not self.refused or self.refused[0].reason != str(error):
            self._refuse(bundle, error)

    def _refuse(self, reference: str, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        self.refused.appendleft(Refused(bundle=reference, reason=reason.splitlines()[0], time=datetime.now(UTC)))
        self._metrics.bundle("refused")
        log.error("bundle %s is refused: %s", reference, reason)

    def _load(self, versions: Versions) -> Answers:
        bundle = Bundle.load(self._store, versions, use_gpu=self._settings.search_gpus > 0)
        return Answers(bundle, self._models, self._settings, self._metrics)


def _return_memory() -> None:
    """Give the memory of the bundle that left back to the system; glibc would keep it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
