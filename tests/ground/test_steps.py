"""Steps: what was made is found, what changed is made again, what was killed goes on."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from raylevance.artifacts import Draft, Store
from workloads.steps import Run


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
        Run(Store(tmp_path), fresh=True, cluster=nullcontext).step("tables/x", counting(calls), settings={})
    assert calls == ["w", "w"]


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
    run = Run(Store(tmp_path), cluster=nullcontext)
    with pytest.raises(KeyboardInterrupt), run.work_folder("encoder/x", 1) as folder:
        (folder / "checkpoint").write_text("half")
        raise KeyboardInterrupt
    with run.work_folder("encoder/x", 1) as folder:
        assert (folder / "checkpoint").read_text() == "half"
    assert not folder.exists()
    assert run.store.names() == []


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
