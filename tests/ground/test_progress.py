"""Status lines and the progress bar, on a terminal and in a pipe."""

import errno
import io
import re
import sys
import time

import pytest

from raylevance.progress import Output, duration, output_to, progress_bar, status


class FakeTerminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds that progress bars read, as a list of one number to change."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setenv("TERM", "xterm")
    return now


def visible(text: str) -> str:
    """Remove the escape sequences of colours and of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def test_a_status_line_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    status("tables/demo: working")
    assert capsys.readouterr() == ("", "tables/demo: working\n")


def test_output_can_be_sent_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    stream, transcript = io.StringIO(), io.StringIO()
    with output_to(Output(stream, transcript)):
        status("one")
    status("two")
    assert stream.getvalue() == transcript.getvalue() == "one\n"
    assert capsys.readouterr().err == "two\n"


def test_a_pipe_gets_a_line_every_15_seconds(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("training", "steps", 200) as bar:
        for _ in range(40):
            clock[0] += 1
            bar.advance(1, "loss 0.4321")
    assert capsys.readouterr().err.splitlines() == [
        "training: 7%, 15 of 200 steps, 3 min left, loss 0.4321",
        "training: 15%, 30 of 200 steps, 3 min left, loss 0.4321",
    ]


def test_a_resumed_step_is_timed_from_where_it_resumed(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("training", "steps") as bar:
        clock[0] += 60  # the workers start
        bar.restart(200, 100)
        clock[0] += 10
        bar.update(150)
    assert capsys.readouterr().err.splitlines() == [
        "training: 50%, 100 of 200 steps",
    ]
    with progress_bar("training", "steps") as bar:
        bar.restart(200, 100)
        clock[0] += 20
        bar.update(150)
    assert capsys.readouterr().err == "training: 75%, 150 of 200 steps, 20 s left\n"


def test_a_total_that_is_not_known(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("labelling", "pairs") as bar:
        clock[0] += 15
        bar.advance(3)
    assert capsys.readouterr().err == "labelling: 3 pairs\n"


def test_a_terminal_gets_a_bar_that_goes_away(clock: list[float]) -> None:
    terminal = FakeTerminal()
    with output_to(Output(terminal)), progress_bar("training", "steps", 4) as bar:
        clock[0] += 2
        bar.advance(1, "loss 0.5000")
        status("a line above it")
    text = terminal.getvalue()
    assert "training" in text and "25%, 1 of 4 steps, 6 s left, loss 0.5000" in visible(text)
    assert "\na line above it\n" in visible(text).replace("\r", "\n")
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is shown again"
    assert text.rstrip("\r\n").endswith("\x1b[2K"), "the bar's own line is erased"


def test_a_short_step_shows_no_bar(clock: list[float]) -> None:
    terminal = FakeTerminal()
    with output_to(Output(terminal)), progress_bar("training", "steps", 4) as bar:
        bar.advance(4)
    assert terminal.getvalue() == ""


def test_the_terminal_is_intact_after_an_interrupt(clock: list[float]) -> None:
    terminal = FakeTerminal()
    with pytest.raises(KeyboardInterrupt), output_to(Output(terminal)), progress_bar("training", "steps", 4) as bar:
        clock[0] += 2
        bar.advance(1)
        raise KeyboardInterrupt
    text = terminal.getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_one_bar_at_a_time(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("outer", "steps", 10), progress_bar("inner", "texts", 10) as inner:
        clock[0] += 20
        inner.advance(1)
    with progress_bar("next", "steps", 10) as bar:
        clock[0] += 20
        bar.advance(1)
    assert capsys.readouterr().err == "next: 10%, 1 of 10 steps, 3 min left\n"


def test_bars_can_be_plain_on_a_terminal(clock: list[float]) -> None:
    terminal = FakeTerminal()
    with output_to(Output(terminal, live_bars=False)), progress_bar("training", "steps", 10) as bar:
        clock[0] += 20
        bar.advance(5)
    assert terminal.getvalue() == "training: 50%, 5 of 10 steps, 20 s left\n"


def test_a_full_disk_does_not_stop_a_status_line(capsys: pytest.CaptureFixture[str]) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with output_to(Output(sys.stderr, Full())):
        status("still here")
    assert capsys.readouterr().err == "still here\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (59.4, "59 s"), (90, "2 min"), (3599, "1 h 00 min"), (11_100, "3 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
