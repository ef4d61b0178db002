"""The bundle in service: answers are made from it, and a newer one takes its place once it has been probed.

A replica that follows `bundle/NAME` looks for a newer version every few seconds. It loads the newer one beside the one
in service, checks every file, answers a probe of each kind from it, and then replaces one reference. A request holds
the answers of one bundle from its first line to its last, so it can't meet two. A bundle that fails at any point is
refused, with the reason in `GET /v1/versions`, and is tried again after a pause that doubles. Meanwhile the newest good
one that was published after the one in service is taken; where there is none, the one in service stays. A replica that
starts takes the newest version that can be served.
"""

import asyncio
import contextvars
import logging
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime

from raylevance.artifacts import Artifact, Store, parse_reference
from raylevance.client.messages import Refused, Versions
from raylevance.errors import RaylevanceError
from serve.answers import Answers
from serve.bundle import Bundle, read_versions
from serve.memory import return_memory
from serve.metrics import Metrics
from serve.models import Models, models_of
from serve.settings import ServeSettings
from serve.shards import ShardProcesses

log = logging.getLogger("ray.serve")

KEPT_REFUSALS = 20
LONGEST_PAUSE_S = 600.0
PROBE_TIMEOUT_S = 60.0
READY_TIMEOUT_S = 5.0
READY_FOR_S = 2.0
"""How long an answer, or a probe, counts as a sign that searches work."""
FREED_AFTER_S = 5.0
"""How long after the time limit of its last requests the memory of a bundle that left is given back."""


class Service:
    """The answers of a replica, of the bundle that is in service."""

    def __init__(
        self,
        settings: ServeSettings,
        versions: Versions,
        models: Models,
        metrics: Metrics,
        processes: ShardProcesses | None = None,
    ) -> None:
        """Load the artifacts at `versions`; those of the bundle before where a bundle is followed that can't be loaded.

        With `processes`, these hold the shards of the index. Raises `RaylevanceError` when nothing can be served.
        """
        self._settings, self._models, self._metrics, self._processes = settings, models, metrics, processes
        self._store = Store(settings.store)
        self.refused: deque[Refused] = deque(maxlen=KEPT_REFUSALS)
        self._attempts: dict[tuple[str, datetime], tuple[int, float]] = {}
        self._updating: asyncio.Task[bool] | None = None
        self._follower: asyncio.Task[None] | None = None
        self._ready: tuple[float, asyncio.Task[None]] | None = None
        self._created = datetime.min.replace(tzinfo=UTC)
        """When the bundle in service was published."""
        self.answers = self._load_first(versions)
        self.loaded = datetime.now(UTC)
        metrics.taken(self.loaded)

    @property
    def follows(self) -> bool:
        """Whether newer versions are looked for: where the settings name a bundle without a version."""
        bundle = self._settings.bundle
        return bundle is not None and parse_reference(bundle)[1] is None

    def start(self) -> None:
        """Begin to follow the bundle, if it is followed. Called on the event loop."""
        if self.follows and self._follower is None:
            self._follower = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """End the following."""
        if self._follower:
            self._follower.cancel()
            with suppress(asyncio.CancelledError):
                await self._follower

    async def warm(self) -> None:
        """Probe the first bundle; where it fails and no version was named, take the one before.

        Raises where none can answer.
        """
        while True:
            versions = self.answers.bundle.versions
            try:
                await self._prepare(self.answers)
                return
            except Exception as error:
                if versions.bundle is None or not self.follows:
                    raise
                self._refuse(versions.bundle, error)
                earlier = await asyncio.to_thread(self._earlier, versions.bundle)
                if not earlier:
                    raise
                self.answers = await asyncio.to_thread(self._load_first, earlier)

    async def is_ready(self) -> bool:
        """Return whether searches work: one was answered a moment ago, or a probe is, which all who ask share."""
        now = time.monotonic()
        if now - self.answers.searched_at < READY_FOR_S:
            return True
        if self._ready is None or (self._ready[1].done() and now - self._ready[0] >= READY_FOR_S):
            probe = asyncio.create_task(self.answers.probe(), context=contextvars.Context())
            self._ready = (now, probe)
        try:
            await asyncio.wait_for(asyncio.shield(self._ready[1]), READY_TIMEOUT_S)
        except Exception:
            return False
        return True

    async def update(self, *, retry: bool = False) -> bool:
        """Take the newest version of the bundle that can answer into service; return whether one was taken.

        One that is older than the bundle in service is never taken. The work goes on where the caller gives up. `retry`
        looks after an update that runs already, and tries refused ones again at once.
        """
        if retry:
            following = self._update_after(self._updating)
            self._updating = asyncio.create_task(following, context=contextvars.Context())
        elif self._updating is None or self._updating.done():
            self._updating = asyncio.create_task(self._update(), context=contextvars.Context())
        return await asyncio.shield(self._updating)

    async def _update_after(self, running: asyncio.Task[bool] | None) -> bool:
        """Update once more after the update `running`, which may have looked at the store before this call."""
        if running:
            await asyncio.wait([running])
        self._attempts.clear()
        return await self._update()

    async def _update(self) -> bool:
        bundle = self._settings.bundle
        if bundle is None or not self.follows:
            return False
        for newer in await asyncio.to_thread(self._newer, bundle):
            if await self._try(newer):
                return True
        return False

    async def _try(self, newer: Artifact) -> bool:
        """Take a bundle into service; return False while it pauses, and where it is refused."""
        key = newer.ref, newer.created
        attempts, not_before = self._attempts.get(key, (0, 0.0))
        if time.monotonic() < not_before:
            return False
        try:
            await self._take(newer.ref)
        except Exception as error:
            pause = min(self._settings.refresh_s * 2 ** (attempts + 1), LONGEST_PAUSE_S)
            self._attempts[key] = attempts + 1, time.monotonic() + pause
            self._refuse(newer.ref, error)
            return False
        self._created = newer.created
        self._attempts = {key: attempt for key, attempt in self._attempts.items() if key[1] > newer.created}
        return True

    async def _take(self, reference: str) -> None:
        """Load a bundle beside the one in service, probe it, and replace the one in service by it."""
        versions = await asyncio.to_thread(read_versions, self._store, reference)
        try:
            new = await asyncio.to_thread(self._load, versions)
            await self._prepare(new)
        except Exception:
            self._drop_models(versions)
            raise
        left = self.answers.bundle.versions
        self.answers, self.loaded = new, datetime.now(UTC)
        for known in [known for known in self.refused if known.bundle == reference]:
            self.refused.remove(known)
        self._metrics.taken(self.loaded)
        log.info("bundle %s is in service", reference)
        asyncio.get_running_loop().call_later(self._settings.timeout_s + FREED_AFTER_S, self._free, left)

    def _free(self, versions: Versions) -> None:
        """Give back the memory of the bundle that left."""
        self._drop_models(versions)
        asyncio.get_running_loop().run_in_executor(None, return_memory)

    def _drop_models(self, versions: Versions) -> None:
        """Drop the models of a bundle that the one in service does not have."""
        self._models.drop(set(models_of(versions)) - set(models_of(self.answers.bundle.versions)))

    async def _prepare(self, answers: Answers) -> None:
        """Load what the processes hold that replicas share, in each of them, and probe. Raises what fails."""
        versions = answers.bundle.versions
        await self._models.load(models_of(versions))
        if self._processes:
            await self._processes.load(versions.index)
        await asyncio.wait_for(answers.probe(), PROBE_TIMEOUT_S)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._settings.refresh_s)
            try:
                await self.update()
            except Exception:
                log.exception("the bundle could not be looked for; trying again")

    def _newer(self, bundle: str) -> list[Artifact]:
        """Return the versions of the bundle that can be read and are newer than the one in service, newest first."""
        try:
            found, faults = self._store.versions(parse_reference(bundle)[0])
        except RaylevanceError as error:
            found, faults = [], [str(error)]
        reasons = {self._refuse(bundle, RaylevanceError(fault)) for fault in faults}
        for known in [known for known in self.refused if known.bundle == bundle and known.reason not in reasons]:
            self.refused.remove(known)  # a fault of the store that has passed
        served = self.answers.bundle.versions.bundle
        # Published again, the one in service is newer than before. Where its manifest can't be read, none that is older
        # may take its place.
        self._created = max([self._created, *(made.created for made in found if made.ref == served)])
        return [made for made in found if made.created > self._created]

    def _earlier(self, reference: str) -> Versions | None:
        """Return the versions of the bundle before `reference` that can be read; None where there is none."""
        found, _ = self._store.versions(parse_reference(reference)[0])
        references = [artifact.ref for artifact in found]
        start = references.index(reference) + 1 if reference in references else 0
        for earlier in references[start:]:
            try:
                return read_versions(self._store, earlier)
            except RaylevanceError as error:
                self._refuse(earlier, error)
        return None

    def _load_first(self, versions: Versions) -> Answers:
        """Load `versions` or, where no version was named, those of the bundle before.

        Raises the reason of the first where none can be loaded.
        """
        reason: RaylevanceError | None = None
        following: Versions | None = versions
        while following is not None:
            try:
                if following.bundle is not None and self.follows:
                    self._created = self._store.get(following.bundle).created
                return self._load(following)
            except RaylevanceError as error:
                reason = reason or error
                if following.bundle is None or not self.follows:
                    break
                self._refuse(following.bundle, error)
                following = self._earlier(following.bundle)
        assert reason is not None
        raise reason

    def _refuse(self, reference: str, error: Exception) -> str:
        """Keep, log and return why a bundle is not served; the same reason once, with the time of its last attempt."""
        reason = (str(error) or type(error).__name__).splitlines()[0].replace(f"{self._store}/", "")
        same = [known for known in self.refused if (known.bundle, known.reason) == (reference, reason)]
        for known in same:
            self.refused.remove(known)
        if not same:
            log.error("bundle %s is refused: %s", reference, reason)
            self._metrics.refused()
        self.refused.appendleft(Refused(bundle=reference, reason=reason, time=datetime.now(UTC)))
        return reason

    def _load(self, versions: Versions) -> Answers:
        use_gpu = self._settings.search_gpus > 0
        bundle = Bundle.load(self._store, versions, use_gpu=use_gpu, processes=self._processes)
        return Answers(bundle, self._models, self._settings, self._metrics)
