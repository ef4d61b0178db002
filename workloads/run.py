"""Run the steps of a recipe: the inputs and settings of a step name its output, so nothing is made twice."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from raylevance.artifacts import Artifact, Draft, Store, fingerprint
from raylevance.cluster import alive_nodes, check_shared_folder, connected
from raylevance.errors import RaylevanceError
from raylevance.progress import status

Build = Callable[[Draft], None]
StepSettings = BaseModel | Mapping[str, Any]
"""The settings that decide the output of a step: one settings object, or several by name."""


@dataclass
class Run:
    """One run of a recipe against a store."""

    store: Store
    fresh: bool = False
    """Make every step again, also those whose output is in the store."""
    cluster: Callable[[], AbstractContextManager[None]] = connected
    """Entered before the first step that has something to make; a run that finds everything starts no Ray."""
    check: Callable[[], object] = lambda: None
    """Called on the cluster before the first step that has something to make, to refuse bad settings early."""
    made: list[Artifact] = field(default_factory=list)
    """The outputs of the steps so far, whether made or found."""
    _step_key: str | None = None
    _finished_folders: list[Path] = field(default_factory=list)
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
        settings: StepSettings,
        inputs: Sequence[Artifact] = (),
        seed: int = 0,
    ) -> Artifact:
        """Return the artifact `name` that `build` makes from `inputs` and `settings`, or find it in the store.

        The fingerprint of a step is its name, the versions of its inputs, its settings and its seed, and nothing else:
        whatever decides the result must be among them. A step that was killed leaves no artifact, so the next run
        builds it again and continues from what is in its work folder, such as checkpoints. When two runs need the same
        step, the second waits for the first.
        """
        values = to_jsonable_python(settings)
        parents = [parent.ref for parent in inputs]
        key = fingerprint(name, parents, values, seed)
        artifact = self._find(name, key)
        if artifact is not None:
            status(f"{artifact.ref}: unchanged")
        else:
            self._connect()
            manifest = {"fingerprint": key, "parents": parents, "settings": values, "seed": seed}
            with exclusive(self.store, key, name):
                # Another run may have made it while this one waited.
                artifact = self._find(name, key) or self._make(name, build, manifest)
        self.made.append(artifact)
        return artifact

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """Give the current step a folder that outlives a killed run and is removed when the step is published.

        Use it inside a step's `build`. A `fresh` run starts with an empty folder.
        """
        assert self._step_key is not None, "work_folder is used inside a step's build"
        if self.fresh:
            _remove(self.store.work_folder(self._step_key))
        folder = self.store.work_folder(self._step_key)
        yield folder
        self._finished_folders.append(folder)

    def _connect(self) -> None:
        if self._session is None:
            self._session = ExitStack()
            self._session.enter_context(self.cluster())
            if self.cluster is connected:
                check_shared_store(self.store)
            self.check()

    def _make(self, name: str, build: Build, manifest: dict[str, Any]) -> Artifact:
        started = time.monotonic()
        status(f"{name}: working")
        self._finished_folders.clear()
        self._step_key = manifest["fingerprint"]
        with self.store.publish(name, **manifest) as draft:
            build(draft)
        assert draft.artifact is not None
        while self._finished_folders:
            _remove(self._finished_folders.pop())
        status(f"{draft.artifact.ref}: done in {time.monotonic() - started:.0f} s")
        return draft.artifact

    def _find(self, name: str, key: str) -> Artifact | None:
        if self.fresh:
            return next((made for made in self.made if (made.name, made.fingerprint) == (name, key)), None)
        return self.store.find(name, key)


def check_shared_store(store: Store) -> None:
    """Raise `RaylevanceError` if not every node of the cluster sees the folder of `store`."""
    if store.is_local:
        check_shared_folder(store.work_folder("locks"), f"store {store}")
    elif len(alive_nodes()) > 1:
        raise RaylevanceError(
            f"store {store}: a cluster of several machines needs a store in a folder that all of them mount, not an "
            "object store"
        )


@contextmanager
def exclusive(store: Store, key: str, what: str) -> Iterator[None]:
    """Hold a lock on the work named `key`, so that no other command on this store does it at the same time.

    Two commands doing the same work would write to one work folder. `what` names the work in the line that says that
    this command waits.
    """
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


def _remove(folder: Path) -> None:
    """Rename the folder before it is deleted, so that a killed run leaves no half-deleted folder to continue from."""
    gone = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
