"""The ledger under the ways it can be hurt: killed writers, several at once, and files that are something else."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from raylevance.errors import RaylevanceError
from raylevance.llm.backends import LanguageModelSettings, open_language_model
from raylevance.llm.ledger import Ledger

WRITER = """
import sys
import threading
from contextlib import closing
from pathlib import Path
from raylevance.llm.ledger import Ledger

file, name, batches = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
with Ledger(file) as ledger:
    for batch in range(batches):
        ledger.put((f"{name}{batch}-{row}", f"answer {row}") for row in range(50))
        ledger.put([(f"shared {batch}", name)])
        print(batch, flush=True)
"""


def writer(file: Path, name: str, batches: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(file), name, str(batches)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_killed_writer_leaves_all_that_it_committed(tmp_path: Path) -> None:
    with writer(tmp_path / "ledger", "a", 1_000_000) as process:
        start(process)
        assert process.stdout is not None
        committed = [int(process.stdout.readline()) for _ in range(40)][-1]
        os.kill(process.pid, signal.SIGKILL)
        committed = max([committed, *map(int, process.stdout.read().split())])
    with Ledger(tmp_path / "ledger") as ledger:
        keys = [f"a{batch}-{row}" for batch in range(committed + 1) for row in range(50)]
        answers = ledger.get(keys)
        assert list(map(answers.get, keys)) == [f"answer {row}" for _ in range(committed + 1) for row in range(50)]
        torn = ledger.get([f"a{committed + 1}-{row}" for row in range(50)])
        assert len(torn) in (0, 50)
        ledger.put([("after", "fine")])
        assert ledger.get(["after"]) == {"after": "fine"}


def test_several_processes_write_at_once_and_the_first_answer_stays(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    writers = [writer(tmp_path / "ledger", name, 30) for name in names]
    for process in writers:
        start(process)
    for process in writers:
        process.communicate()
        assert process.returncode == 0
    with Ledger(tmp_path / "ledger") as ledger:
        assert len(ledger) == 3 * 30 * 50 + 30
        shared = ledger.get([f"shared {batch}" for batch in range(30)])
        assert set(shared.values()) <= set(names)
        ledger.put([(key, "late") for key in shared])
        assert ledger.get(list(shared)) == shared


def test_a_batch_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    def failing() -> object:
        yield "a", "1"
        raise KeyError("the second answer")

    with Ledger(tmp_path / "ledger") as ledger:
        with pytest.raises(KeyError):
            ledger.put(failing())  # type: ignore[arg-type]
        assert len(ledger) == 0


def test_many_keys_at_once(tmp_path: Path) -> None:
    with Ledger(tmp_path / "deep" / "folder" / "ledger") as ledger:
        ledger.put((f"k{number}", f"{number} \N{SNOWMAN}\n") for number in range(0, 40_000, 2))
        found = ledger.get([f"k{number}" for number in range(40_000)])
        assert found == {f"k{number}": f"{number} \N{SNOWMAN}\n" for number in range(0, 40_000, 2)}
        assert ledger.get([]) == {}


@pytest.mark.parametrize("content", [b"query,product\n" * 400, b"SQLite format 3\0" + bytes(4000)])
def test_a_file_that_is_no_ledger(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "ledger"
    file.write_bytes(content)
    with pytest.raises(RaylevanceError, match=r"ledger: not a ledger of answers .*: move it away") as raised:
        Ledger(file)
    assert "\n" not in str(raised.value)
    assert file.read_bytes() == content


def test_places_where_no_ledger_can_be(tmp_path: Path) -> None:
    with pytest.raises(RaylevanceError, match="can't be used: unable to open database file"):
        Ledger(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RaylevanceError, match="file: not a folder for a ledger"):
        Ledger(tmp_path / "file" / "ledger")


def test_a_ledger_that_is_spoiled_later(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.put((f"k{number}", "answer" * 100) for number in range(5000))
    size = (tmp_path / "ledger").stat().st_size
    with (tmp_path / "ledger").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with Ledger(tmp_path / "ledger") as ledger:
        for use in (lambda: ledger.get(["k77"]), lambda: ledger.put([("new", "")]), lambda: len(ledger)):
            with pytest.raises(
                RaylevanceError, match=r"ledger: not a ledger of answers \(database disk image is malformed\)"
            ):
                use()


def test_a_new_ledger_that_another_process_is_making(tmp_path: Path) -> None:
    """SQLite refuses to make a file a write-ahead log, without waiting, while another connection writes to it."""
    other = sqlite3.connect(tmp_path / "ledger", isolation_level=None, check_same_thread=False)
    with closing(other):
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.2, other.rollback)
        release.start()
        with Ledger(tmp_path / "ledger") as ledger:
            ledger.put([("key", "answer")])
            assert len(ledger) == 1
        release.join()


def test_a_ledger_in_wal_mode_becomes_one_file(tmp_path: Path) -> None:
    """SQLite's write-ahead log is in the memory of one machine, and the store is a mount of several."""
    with closing(sqlite3.connect(tmp_path / "ledger")) as before:
        before.execute("PRAGMA journal_mode=WAL")
        before.execute("CREATE TABLE other (x)")
    with Ledger(tmp_path / "ledger") as ledger, Ledger(tmp_path / "ledger") as another:
        ledger.put([("a", "1")])
        another.put([("b", "2")])
        assert ledger.get(["a", "b"]) == another.get(["a", "b"]) == {"a": "1", "b": "2"}
        assert [file.name for file in tmp_path.iterdir()] == ["ledger"]


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        ({}, False),
        ({"engines": 4, "max_num_seqs": 8, "stuck_after_s": 9, "started_within_s": 9}, False),
        ({"engine": {"quantization": "fp8"}}, True),
        ({"max_model_len": 512}, True),
        ({"gpus": 1}, True),
    ],
)
def test_texts_of_an_engine_that_may_write_otherwise_have_other_keys(
    changes: dict[str, Any], other: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same model in another folder has the same keys."""
    monkeypatch.setattr("raylevance.llm.vllm_engine.check_vllm_installed", lambda: None)
    versions = []
    for folder, settings in (("one", {}), ("two", changes)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "weights").write_text("same")
        given = LanguageModelSettings.model_validate({"vllm": {"model": str(tmp_path / folder), **settings}})
        versions.append(open_language_model(given)[1])
    assert (versions[0] != versions[1]) == other
