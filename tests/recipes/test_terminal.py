"""The terminal output of real commands: our own lines only; the rest is in a log that is named when something fails."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylevance.terminal import shows_everything
from tests.conftest import Ended

Command = Callable[..., Ended]
ROOT = Path(__file__).parents[2]
NAME = r"[a-z0-9-]+/[a-z0-9._-]+"
BAR = r"(training|encoding|labelling) +[━╸╺ ]+ *(\d+%, \d+ of )?\d+ [a-z]+(, [^\r\n]*)?"
LINES = [
    r"",
    rf"{NAME}: working",
    rf"{NAME}@[0-9a-f]{{12}}: (done in \d+ s|unchanged)",
    r"data: .+",
    r"mining: .+",
    r"weak pairs: .+",
    r"(training|encoding|labelling): .+",
    r"raylevance: .+",
    BAR,
]
"""The shapes of all lines that a run writes to stderr, as regular expressions."""
CHATTER = "Progress bars disabled"
"""A line that Ray Data logs in each run."""


def call(*arguments: object, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with pipes."""
    command = [sys.executable, "-m", "workloads.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout)


def call_on_terminal(*arguments: object, interrupt_at: str | None = None) -> tuple[int, str]:
    """Run the command on a pseudo-terminal, and press Ctrl-C when `interrupt_at` is shown. Return code and output."""
    command = [sys.executable, "-m", "workloads.cli", *map(str, arguments)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(sys.executable, command, os.environ | {"TERM": "xterm", "COLUMNS": "160"})
    shown = b""
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # the other side is closed
            break
        shown += part
        if interrupt_at is not None and interrupt_at in shown.decode(errors="replace"):
            os.write(terminal, b"\x03")
            interrupt_at = None
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode()


def foreign_lines(output: str) -> list[str]:
    """Return the lines of the output that none of `LINES` describes, without escape sequences."""
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output)
    return [line for line in re.split(r"[\r\n]+", plain) if not any(re.fullmatch(shape, line) for shape in LINES)]


def logs(store: Path) -> list[Path]:
    """Return the logs in a store, oldest first."""
    return sorted((store / ".work" / "logs").glob("*.log"))


def named_log(line: str) -> Path:
    """Return the log that an error line names."""
    named = re.search(r" \(log: (.+\.log)\)$", line)
    assert named, line
    return Path(named[1])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.mark.ray
@pytest.mark.long
def test_a_command_shows_our_lines_only(store: Path) -> None:
    demo = ("data", "demo", "--products", 120, "--queries", 8, "--events", 100, "--store", store)
    done = call(*demo, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ref"].startswith("tables/demo@")
    assert foreign_lines(done.stderr) == []
    (log,) = logs(store)
    assert CHATTER in log.read_text() and re.fullmatch(r"\d{8}-\d{6}-demo-\d+\.log", log.name)

    shown = call("--verbose", *demo, "--seed", 1)
    assert shown.returncode == 0 and CHATTER in shown.stderr
    assert CHATTER not in shown.stdout and "tables/demo@" in shown.stdout
    assert logs(store) == [log]


@pytest.mark.long
@pytest.mark.ray
def test_a_run_shows_our_lines_only(store: Path, tiny_backbone: Path, small_recipe: Path) -> None:
    """On a terminal, where the progress bars are drawn in place."""
    backbone = f"encoder.backbone={tiny_backbone}"
    code, shown = call_on_terminal(
        *("run", "mine-and-refine", "--config", small_recipe, "--set", backbone, "--store", store, "--json")
    )
    progress, result = shown.split("\r\n{\r\n")
    assert code == 0
    assert json.loads("{" + result)
    assert foreign_lines(progress) == []
    assert re.search(r"training.*\d of \d steps", progress)
    (log,) = logs(store)
    assert CHATTER in log.read_text() and "encoder/stage2: working" in log.read_text()


@pytest.mark.long
@pytest.mark.ray
def test_ctrl_c_leaves_the_terminal_intact(store: Path, tiny_backbone: Path, small_recipe: Path) -> None:
    backbone = f"encoder.backbone={tiny_backbone}"
    code, shown = call_on_terminal(
        *("run", "mine-and-refine", "--config", small_recipe, "--set", backbone, "--store", store),
        interrupt_at="steps",
    )
    assert code == 130, shown
    assert foreign_lines(shown.replace("^C", "")) == []
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l"), "the cursor is shown"


def test_a_mistake_names_the_log(raylevance: Command, tmp_path: Path) -> None:
    texts, store = tmp_path / "texts.parquet", tmp_path / "absent"
    pq.write_table(pa.table({"title": ["red kettle"]}), texts)
    encoder = ("--encoder", tmp_path / "nowhere", "--store", store)
    ended = raylevance("encode", *encoder, "--input", texts, "--column", "title", "--output", tmp_path / "vectors.npy")
    assert (ended.code, ended.out) == (1, "")
    (line,) = ended.err.splitlines()
    assert re.match(r"raylevance: .*/nowhere: no such folder", line)
    log = named_log(line)
    assert "Traceback" in log.read_text()
    assert not store.exists(), "a command that reads a store does not make one"
    log.unlink()


def test_wrong_usage_is_one_line(raylevance: Command, store: Path) -> None:
    ended = raylevance("run", "mine-and-refin", "--store", store)
    assert ended.code == 2
    assert re.fullmatch(r"raylevance: unknown recipe 'mine-and-refin'; did you mean .*\n", ended.err), ended.err


UNEXPECTED = """
import os, subprocess, sys
import typer
from raylevance.progress import status
from raylevance.terminal import quiet

app = typer.Typer(pretty_exceptions_enable=False)

@app.command()
@quiet
def fail(how: str, store: str) -> None:
    status("ours: working")
    print("from Python")
    os.write(2, b"from C++\\n")
    subprocess.run(["echo", "from a child"], check=True)
    if how == "raise":
        raise KeyError("grade")
    os.abort()

app()
"""


def fail(how: str, store: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", UNEXPECTED, how, str(store), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_an_unexpected_exception_names_the_log(store: Path) -> None:
    done = fail("raise", store)
    ours, line = done.stderr.splitlines()
    assert (done.returncode, done.stdout, ours) == (1, "", "ours: working")
    assert line.startswith("raylevance: unexpected error: KeyError: 'grade' (log: ")
    text = named_log(line).read_text()
    assert text.startswith("ours: working\nfrom Python\nfrom C++\nfrom a child\nTraceback ")
    assert logs(store) == [named_log(line)]


def test_an_unexpected_exception_with_verbose(store: Path) -> None:
    done = fail("raise", store, "--verbose")
    assert (done.returncode, done.stdout, logs(store)) == (1, "", [])
    lines = done.stderr.splitlines()
    assert lines[:5] == [
        "ours: working",
        "from Python",
        "from C++",
        "from a child",
        "Traceback (most recent call last):",
    ]
    assert lines[-1] == "raylevance: unexpected error: KeyError: 'grade'"


def test_a_process_that_dies_names_the_log(store: Path) -> None:
    done = fail("die", store)
    assert (done.returncode, done.stdout) == (-signal.SIGABRT, "")
    ours, line = done.stderr.splitlines()
    assert ours == "ours: working" and line.startswith("raylevance: the process died (log: ")
    assert "from C++" in named_log(line).read_text()


def test_old_logs_are_removed(store: Path) -> None:
    folder = store / ".work" / "logs"
    folder.mkdir(parents=True)
    for day in range(10, 31):
        (folder / f"202601{day}-120000-run-4194305.log").write_text("old")
    running = folder / f"20250101-120000-run-{os.getpid()}.log"
    running.write_text("of a process that is alive")
    fail("raise", store)
    names = [log.name for log in logs(store)]
    assert running.name in names and "20260111-120000-run-4194305.log" not in names
    assert 19 <= len(names) <= 21


def test_empty_logs_are_removed(raylevance: Command, store: Path) -> None:
    ended = raylevance("store", "list", "--store", store)
    assert (ended.code, ended.err) == (0, "") and ended.out.startswith("artifact")
    assert logs(store) == []


@pytest.mark.parametrize("arguments", [("-v", "store", "list"), ("store", "list", "-v")])
def test_verbose_may_stand_before_or_after_the_command(raylevance: Command, store: Path, arguments: list[str]) -> None:
    ended = raylevance(*arguments, "--store", store)
    assert (ended.code, ended.err) == (0, "") and ended.out.startswith("artifact")
    raylevance("store", "list", "--store", store)
    assert not shows_everything(), "one command's --verbose is not the next one's"
