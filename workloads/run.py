"""A recipe's steps: each one's inputs and settings name its output, so what exists is not made again."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout
from pydantic import BaseModel

from raylevance.artifacts import Artifact, Draft, Store, fingerprint
from raylevance.cluster import connected
from raylevance.progress import status

Build = Callable[[Draft], None]


@dataclass
class Run:
    """One run of a recipe against a store. `fresh` makes every step anew.

    `cluster` is entered before the first step that has something to make: a run that finds everything starts no Ray.
    """

    store: Store
    fresh: bool = False
    cluster: Callable[[], AbstractContextManager[None]] = connected
    check: Callable[[], object] = lambda: None
    """Called on the cluster before the first step that has something to make: what can be refused then, is."""
    made: list[Artifact] = field(default_factory=list)
    _spent: list[Path] = field(default_factory=list)
    """Work folders of the step that is being made, which go when it is published."""
    _session: ExitStack | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._session is not None:
            self._session.close()

    def step(
        self,
        name: str,
        build: Build,
        *,
        settings: BaseModel | dict[str, Any],
        inputs: Sequence[Artifact] = (),
        seed: int = 0,
    ) -> Artifact:
        """The artifact `name` made by `build` from `inputs` and `settings`; found in the store when it is there.

        A step that was killed leaves no artifact, so the next run builds it; what it keeps in its work folder
        (training checkpoints) it goes on from. Of two runs that need the same step the second waits for the first.
        """
        values = settings.model_dump(mode="json") if isinstance(settings, BaseModel) else settings
        key = fingerprint(name, [parent.ref for parent in inputs], values, seed)
        artifact = self._find(name, key)
        if artifact is not None:
            status(f"{artifact.ref}: unchanged")
        else:
            if self._session is None:
                self._session = ExitStack()
                self._session.enter_context(self.cluster())
                self.check()
            made_from = {"fingerprint": key, "parents": [parent.ref for parent in inputs], "settings": values}
            with alone(self.store, key, name):
                # Another run may have made it while this one waited.
                artifact = self._find(name, key) or self._make(name, build, {**made_from, "seed": seed})
        self.made.append(artifact)
        return artifact

    def _make(self, name: str, build: Build, made_from: dict[str, Any]) -> Artifact:
        started = time.monotonic()
        status(f"{name}: working")
        self._spent.clear()
        with self.store.publish(name, **made_from) as draft:
            build(draft)
        assert draft.artifact is not None
        while self._spent:
            _remove(self._spent.pop())
        status(f"{draft.artifact.ref}: done in {time.monotonic() - started:.0f} s")
        return draft.artifact

    def _find(self, name: str, key: str) -> Artifact | None:
        if self.fresh:
            return next((made for made in self.made if (made.name, made.fingerprint) == (name, key)), None)
        return self.store.find(name, key)

    @contextmanager
    def work_folder(self, *key: object) -> Iterator[Path]:
        """A folder that outlives a killed run and goes when the step that uses it is published.

        To be entered within a step's `build`; `fresh` starts it empty.
        """
        name = fingerprint(*key)
        if self.fresh:
            _remove(self.store.work_folder(name))
        folder = self.store.work_folder(name)
        yield folder
        self._spent.append(folder)


def _remove(folder: Path) -> None:
    """Under its own name it is whole or not there: a run that is killed meanwhile leaves no half to go on from."""
    gone = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def alone(store: Store, key: str, what: str) -> Iterator[None]:
    """No other command on this store makes `what`, named by `key`, meanwhile: both would write to one work folder."""
    lock = FileLock(store.work_folder("locks") / key)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        status(f"{what}: another run is making it; waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
