"""Progress for a person at the terminal: status lines, and one progress bar that shows the time left.

Both go to stderr, because stdout is for results. `raylevance.terminal` sends them elsewhere while a command runs.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

INTERVAL_S = 15.0
"""Seconds between two lines of a progress bar where stderr is not a terminal."""
DELAY_S = 1.0
"""Seconds before a bar is drawn: a step that ends sooner needs none."""


@dataclass(frozen=True)
class Output:
    """The place that status lines and progress bars are written to."""

    stream: TextIO | None = None
    """The stream to write to; None is `sys.stderr` at the time of writing."""
    transcript: TextIO | None = None
    """A second stream that also gets the status lines, but no progress bars."""
    live_bars: bool = True
    """Redraw a progress bar in place where the stream is a terminal, instead of writing a line now and then."""


_lock = threading.RLock()
_output = Output()
_shown: "ProgressBar | None" = None


@contextmanager
def output_to(output: Output) -> Iterator[None]:
    """Write status lines and progress bars to `output` for the block."""
    global _output
    before, _output = _output, output
    try:
        yield
    finally:
        _output = before


def status(line: str) -> None:
    """Write one line to stderr at once, above the progress bar if there is one."""
    write(f"{line}\n")


def write(text: str) -> None:
    """Write `text` to stderr at once, as it is; it should consist of whole lines."""
    with _lock:
        if _shown is not None and _shown.live is not None:
            _shown.live.console.out(text, end="", highlight=False)
        else:
            stream = _stream()
            stream.write(text)
            stream.flush()
        if _output.transcript is not None:
            with suppress(OSError):  # a full disk must not stop the work
                _output.transcript.write(text)


class ProgressBar:
    """The progress of a long step. `progress_bar` makes one; its methods may be called from any thread."""

    def __init__(self, description: str, unit: str, total: int | None, live: Progress | None, hidden: bool) -> None:
        """Start at 0 of `total` units. `live` draws the bar in place; without it, lines are written unless `hidden`."""
        self.live = live
        self._description, self._unit, self._hidden = description, unit, hidden
        self._row = live.add_task(description, total=None, text="") if live else None
        self._line_due = time.monotonic() + INTERVAL_S
        self._bar_due = time.monotonic() + DELAY_S
        self.restart(total)

    def restart(self, total: int | None, completed: int = 0) -> None:
        """Set the number of units, None where it is not known yet, and measure the time left from now on."""
        with _lock:
            self._total, self._started, self._completed_before = total, time.monotonic(), completed
            self.update(completed)

    def advance(self, count: int, details: str = "") -> None:
        """Count `count` more units as completed. `details` are shown after the time left, such as "loss 0.41"."""
        with _lock:
            self.update(self.completed + count, details)

    def update(self, completed: int, details: str = "") -> None:
        """Set the number of units completed so far. `details` are shown after the time left, such as "loss 0.41"."""
        with _lock:
            self.completed = completed
            if self.live is not None and self._row is not None:
                if not self.live.live.is_started and time.monotonic() >= self._bar_due:
                    self.live.start()
                self.live.update(self._row, total=self._total, completed=completed, text=self._text(details))
            elif not self._hidden and time.monotonic() >= self._line_due:
                self._line_due = time.monotonic() + INTERVAL_S
                status(f"{self._description}: {self._text(details)}")

    def _text(self, details: str) -> str:
        if not self._total:
            parts = [f"{self.completed} {self._unit}", details]
        else:
            percent = min(100, 100 * self.completed // self._total)
            parts = [f"{percent}%", f"{self.completed} of {self._total} {self._unit}", self._time_left(), details]
        return ", ".join(part for part in parts if part)

    def _time_left(self) -> str:
        done, remaining = self.completed - self._completed_before, (self._total or 0) - self.completed
        if done <= 0 or remaining <= 0:
            return ""
        return f"{duration(remaining * (time.monotonic() - self._started) / done)} left"


@contextmanager
def progress_bar(description: str, unit: str, total: int | None = None) -> Iterator[ProgressBar]:
    """Show a bar on stderr for the block, with the time left and the number of completed units, such as "steps".

    Where stderr is not a terminal, a plain line is written every 15 s instead. There is one bar at a time: inside of
    a block that shows a bar already, nothing is shown.
    """
    global _shown
    with _lock:
        outer, stream = _shown, _stream()
        live = _live_display(stream) if outer is None and _output.live_bars and _redraws(stream) else None
        bar = ProgressBar(description, unit, total, live, hidden=outer is not None)
        if outer is None:
            _shown = bar
    try:
        yield bar
    finally:
        if outer is None:
            if live is not None:
                live.stop()
            with _lock:
                # A late update, from another thread, must not draw the bar again.
                bar.live, bar._hidden = None, True
                _shown = None


def duration(seconds: float) -> str:
    """Write a duration for a reader: "45 s", "12 min" or "3 h 05 min"."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _stream() -> TextIO:
    return sys.stderr if _output.stream is None else _output.stream


def _redraws(stream: TextIO) -> bool:
    return stream.isatty() and not Console(file=stream).is_dumb_terminal


def _live_display(stream: TextIO) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}", markup=False)
    ours = _output.stream is None
    return Progress(
        *columns,
        console=Console(file=stream),
        transient=True,
        refresh_per_second=4,
        # While a command runs, sys.stdout and sys.stderr lead to its log file, where they must stay.
        redirect_stdout=ours,
        redirect_stderr=ours,
    )
