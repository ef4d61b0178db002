"""`python -m serve`: answer over HTTP from the store until interrupted, or ask a few queries and end.

Results go to stdout, everything else to stderr. Exit codes: 0 done or interrupted, 1 failed, 2 wrong usage.
"""

import json
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from raylevance.config import load_settings
from raylevance.errors import RaylevanceError, UsageError
from serve.settings import ServeSettings

cli = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
DEFAULTS = ServeSettings()
WIDTH_IN_A_PIPE = 120


@cli.command(help=__doc__)
def command(
    store: Annotated[
        str, typer.Option(envvar="RAYLEVANCE_STORE", help="Folder or URI of the artifact store.")
    ] = "./store",
    index: Annotated[str, typer.Option(help="index/NAME[@VERSION], the newest version unless given.")] = DEFAULTS.index,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 is all of them.")] = DEFAULTS.host,
    port: Annotated[int, typer.Option(help="The port to listen on; 0 is any free one.")] = DEFAULTS.port,
    replicas: Annotated[int, typer.Option(help="Searchers, and as many encoders.")] = DEFAULTS.replicas,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Another setting, such as batch_size=64. Repeatable.")
    ] = None,
    queries: Annotated[list[str] | None, typer.Option("--try", help="Ask this, then end. Repeatable.")] = None,
) -> None:
    options = {"store": store, "index": index, "host": host, "port": port, "replicas": replicas}
    given = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in options.items()]
    serve(load_settings(ServeSettings, overrides=[*given, *(overrides or [])]), queries or [])


def serve(settings: ServeSettings, queries: Sequence[str]) -> None:
    """Serve from `settings` and print the answers to `queries`; with none, serve until SIGINT or SIGTERM."""
    from serve.server import running

    _end_on_signals()
    with running(settings) as server:
        sys.stderr.write(f"raylevance: {settings.index} at {server}, its routes at {server}/docs\n")
        if not queries:
            sys.stderr.write("raylevance: Ctrl-C ends it\n")
            while True:
                signal.pause()
        _print_answers(server, queries)


def _print_answers(server: str, queries: Sequence[str]) -> None:
    from serve.ask import as_table, ask

    console = Console(width=None if os.isatty(1) else WIDTH_IN_A_PIPE)
    for query in queries:
        console.print(as_table(*ask(server, query)))
        console.print()


def _end_on_signals() -> None:
    def end(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def main() -> None:
    """Run the command; a user's mistake is one line on stderr."""
    try:
        cli()
    except RaylevanceError as error:
        sys.stderr.write(f"raylevance: {' '.join(str(error).split())}\n")
        raise SystemExit(2 if isinstance(error, UsageError) else 1) from None


if __name__ == "__main__":
    main()
