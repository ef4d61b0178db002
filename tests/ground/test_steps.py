"""Steps: what was made is found, what changed is made again, what was killed goes on."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import pytest

from raylevance.artifacts import Draft, Store
from raylevance.errors import RaylevanceError
from workloads.run import Run


def counting(calls: list[str], content: str = "w") -> Callable[[Draft], None]:
    def build(draft: Draft) -> None:
        calls.append(content)
        (draft.path / "file").write_text(content)

    return build


def test_a_second_run_makes_nothing(tmp_path: Path) -> None:
    calls: list[str] = []
    for _ in range(2):
        run = Run(Store(tmp_path), cluster=nullcontext)
        first = run.step("tables/x", counting(calls), settings={"rows": 1})
        run.step("encoder/x", counting(calls, "e"), settings={}, inputs=[first])
    assert calls == ["w", "e"]


def test_a_changed_setting_or_input_is_made_again(tmp_path: Path) -> None:
    calls: list[str] = []
    run = Run(Store(tmp_path), cluster=nullcontext)
    first = run.step("tables/x", counting(calls, "1"), settings={"rows": 1})
    other = run.step("tables/x", counting(calls, "2"), settings={"rows": 2})
    run.step("encoder/x", counting(calls, "a"), settings={}, inputs=[first])
    run.step("encoder/x", counting(calls, "b"), settings={}, inputs=[other])
    run.step("encoder/x", counting(calls, "c"), settings={}, inputs=[other], seed=1)
    assert calls == ["1", "2", "a", "b", "c"]


def test_fresh_makes_every_step(tmp_path: Path) -> None:
    calls: list[str] = []
    for _ in range(2):
        run = Run(Store(tmp_path), fresh=True, cluster=nullcontext)
        for _ in range(2):
            run.step("tables/x", counting(calls), settings={})
    assert calls == ["w", "w"], "and what it has made itself it does not make again"


def test_two_runs_make_a_step_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The second waits for the first, and takes what that has made."""
    calls: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def slow(draft: Draft) -> None:
        begun.set()
        assert go_on.wait(10)
        counting(calls)(draft)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(Run(Store(tmp_path), cluster=nullcontext).step, "tables/x", slow, settings={})
        assert begun.wait(10)
        second = threads.submit(Run(Store(tmp_path), cluster=nullcontext).step, "tables/x", slow, settings={})
        with pytest.raises(TimeoutError):
            second.result(timeout=0.5)
        go_on.set()
        assert first.result(10).ref == second.result(10).ref
    assert calls == ["w"]
    assert "tables/x: another run is making it; waiting" in capfd.readouterr().err


def test_unfinished_work_outlives_a_killed_step(tmp_path: Path) -> None:
    """It goes when the step is published, and no sooner: the disk may be full just then."""
    run = Run(Store(tmp_path), cluster=nullcontext)
    folders = []

    def build(draft: Draft, *, writes: bool = True, killed: bool = False) -> None:
        with run.work_folder() as folder:
            folders.append(folder)
            with (folder / "checkpoint").open("a") as checkpoint:
                checkpoint.write("half")
            if killed:
                raise KeyboardInterrupt
        if writes:
            (draft.path / "weights").write_text((folder / "checkpoint").read_text())

    for lost in (partial(build, killed=True), partial(build, writes=False)):
        with pytest.raises((KeyboardInterrupt, RaylevanceError)):
            run.step("encoder/x", lost, settings={})
        assert run.store.names() == []
    artifact = run.step("encoder/x", build, settings={})
    assert (run.store.path(artifact.ref) / "weights").read_text() == "half" * 3
    assert len(set(folders)) == 1 and not folders[0].exists()
    assert [path.name for path in folders[0].parent.iterdir()] == ["locks"]


def test_a_run_that_finds_everything_starts_no_cluster(tmp_path: Path) -> None:
    started: list[str] = []

    def cluster() -> AbstractContextManager[None]:
        started.append("ray")
        return nullcontext()

    for _ in range(2):
        with Run(Store(tmp_path), cluster=cluster) as run:
            run.step("tables/x", counting([]), settings={})
            run.step("tables/y", counting([]), settings={})
    assert started == ["ray"]
