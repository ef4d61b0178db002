"""The terminal while a command runs: our own lines and results reach it, everything else goes to a log file."""

import errno
import functools
import inspect
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console

from raylevance.errors import RaylevanceError, UsageError
from raylevance.progress import Output, output_to, write

LOGS_KEPT = 20
WIDTH_IN_A_PIPE = 160
DISK_FULL = "the disk is full; free some space and run the same command"

Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show what the libraries print, instead of logging it.")]

_verbose_for_all = False
_results: TextIO | None = None


def show_everything(verbose: bool) -> None:
    """Set whether the commands called from now on are verbose, for a `--verbose` that stands before the command."""
    global _verbose_for_all
    _verbose_for_all = verbose


def shows_everything() -> bool:
    """Return whether `--verbose` was given before the command."""
    return _verbose_for_all


def quiet(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a Typer command so that only our own lines and its results reach the terminal.

    For the time of the command the file descriptors 1 and 2 lead to a log file, for child processes and C++ code too.
    An option `--verbose` is added, with which they lead to stderr. The log lies in the work folder of the store that
    the command's option `store` names, where that is a local folder, else in the temporary folder. An exception ends
    the command with one line that names the log.
    """

    @functools.wraps(command)
    def quiet_command(*arguments: Any, verbose: bool = False, **options: Any) -> None:
        show_all = verbose or _verbose_for_all
        log_file = None if show_all else _log_file(command.__name__, options.get("store"))
        with _to_stderr() if log_file is None else _to_log(log_file) as log:
            try:
                command(*arguments, **options)
            except (typer.Exit, typer.Abort):
                raise
            except Exception as error:
                raise typer.Exit(_report(error, log)) from None

    signature = inspect.signature(command)
    option = inspect.Parameter("verbose", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Verbose)
    quiet_command.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), option]
    )
    quiet_command.__annotations__ = {**command.__annotations__, "verbose": Verbose}
    return quiet_command


@contextmanager
def results_console() -> Iterator[Console]:
    """Return a console on the command's stdout, for its results; they are written when the block ends."""
    stream = sys.stdout if _results is None else _results
    try:
        yield Console(file=stream, width=None if stream.isatty() else WIDTH_IN_A_PIPE)
        stream.flush()
    except BrokenPipeError:  # its reader, such as `head`, has seen enough
        raise typer.Exit(1) from None


def user_fault(error: BaseException) -> str | None:
    """Return the message of the user's mistake behind `error`, or None where it is none.

    Ray's workers and libraries wrap exceptions, so its causes are searched too.
    """
    if isinstance(error, RaylevanceError):
        return " ".join(str(error).split())
    cause: BaseException | None = error
    while cause is not None:
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or os.strerror(errno.ENOSPC) in str(cause):  # Ray keeps a worker's error as text
            return DISK_FULL
        if isinstance(cause, RaylevanceError) and "\n" not in str(cause):
            return str(cause)
        cause = getattr(cause, "cause", None) or cause.__cause__
    return None


def _report(error: Exception, log: Path | None) -> int:
    """Write one line about `error` to the terminal and its traceback to stderr or the log. Return the exit code."""
    message = user_fault(error)
    if isinstance(error, UsageError):
        write(f"raylevance: {message}\n")
        return 2
    if log is not None or message is None:
        with suppress(OSError):  # the disk may be full
            traceback.print_exception(error, file=sys.stderr)
    if message is None:
        # An exception of a Ray worker has that worker's traceback as its text; the last line says what happened.
        lines = str(error).strip().splitlines() or [""]
        message = f"unexpected error: {type(error).__name__}: {lines[-1].strip()}"
    write(f"raylevance: {message}{f' (log: {log})' if log is not None else ''}\n")
    return 1


@contextmanager
def _to_stderr() -> Iterator[None]:
    """Keep stdout for the results: for the block, what is printed to it goes to stderr."""
    with _original_streams() as (stdout, _):
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr), _results_to(stdout), output_to(Output(live_bars=False)):
            yield


@contextmanager
def _to_log(file: Path) -> Iterator[Path]:
    """Send the file descriptors 1 and 2 to `file` for the block. It is removed where nothing was written to it."""
    with _original_streams() as (stdout, stderr), file.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        # Not closed: a logging handler may hold them. They follow the descriptors afterwards.
        out, err = _text_stream(1, closefd=False), _text_stream(2, closefd=False)
        try:
            with (
                _death_notice(file, stderr),
                redirect_stdout(out),
                redirect_stderr(err),
                _results_to(stdout),
                output_to(Output(stderr, err)),
            ):
                yield file
        finally:
            for stream in (out, err):
                with suppress(OSError):
                    stream.flush()
    with suppress(OSError):
        if not file.stat().st_size:
            file.unlink()


@contextmanager
def _death_notice(log: Path, stderr: TextIO) -> Iterator[None]:
    """Name the log on `stderr` where this process dies in the block, killed or ended by C++ code.

    A shell waits for a line on a pipe; the end of the pipe without one means that the process died. On a terminal it
    shows the cursor again, which a progress bar hides.
    """
    show_cursor = r"if [ -t 2 ]; then printf '\033[?25h\n' >&2; fi"
    script = f'read -r line || {{ {show_cursor}; echo "raylevance: the process died (log: $0)" >&2; }}'
    try:
        # In a session of its own, so that Ctrl-C does not end it first.
        shell = subprocess.Popen(
            ["/bin/sh", "-c", script, str(log)], stdin=subprocess.PIPE, stderr=stderr, start_new_session=True
        )
    except OSError:
        yield
        return
    with shell:
        try:
            yield
        finally:
            with suppress(OSError):
                shell.communicate(b"\n")


@contextmanager
def _original_streams() -> Iterator[tuple[TextIO, TextIO]]:
    """Duplicate stdout and stderr; when the block ends, the file descriptors 1 and 2 lead there again."""
    sys.stdout.flush()
    sys.stderr.flush()
    with _text_stream(os.dup(1), buffering=-1) as stdout, _text_stream(os.dup(2)) as stderr:
        try:
            yield stdout, stderr
        finally:
            sys.stdout.flush()  # what a library wrote must not follow the results
            os.dup2(stdout.fileno(), 1)
            os.dup2(stderr.fileno(), 2)


@contextmanager
def _results_to(stream: TextIO) -> Iterator[None]:
    global _results
    before, _results = _results, stream
    try:
        yield
    finally:
        _results = before


def _text_stream(descriptor: int, buffering: int = 1, closefd: bool = True) -> TextIO:
    return open(descriptor, "w", buffering, "utf-8", "replace", closefd=closefd)


def _log_file(command: str, store: str | None) -> Path | None:
    """Create a new log, after removing all but the newest logs in its folder, and return its path.

    Returns None where no log can be written.
    """
    try:
        folder = _log_folder(store)
        logs = sorted(folder.glob("*.log"), key=lambda log: log.name)
        for old in logs[: max(0, len(logs) - LOGS_KEPT + 1)]:
            if not _is_running(old):
                old.unlink(missing_ok=True)
        log = folder / f"{datetime.now():%Y%m%d-%H%M%S}-{command.replace('_', '-')}-{os.getpid()}.log"
        log.touch()
    except OSError:
        return None
    return log


def _log_folder(store: str | None) -> Path:
    if store is not None and Path(store).is_dir():
        from raylevance.artifacts import Store

        with suppress(RaylevanceError):  # the command itself says that the store can't be written
            folder = Store(store).work_folder("logs")
            if os.access(folder, os.W_OK):
                return folder
    folder = Path(tempfile.gettempdir(), f"raylevance-logs-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    # The folder's name can be guessed: another user must not be the one who made it.
    return folder if folder.stat().st_uid == os.getuid() else Path(tempfile.mkdtemp(prefix="raylevance-logs-"))


def _is_running(log: Path) -> bool:
    pid = re.search(r"-(\d+)$", log.stem)
    return pid is not None and Path("/proc", pid[1]).exists()
