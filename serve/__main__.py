"""`python -m serve`: answer searches over HTTP until interrupted, or try a few queries and stop.

Results go to stdout, everything else to stderr. Exit codes: 0 finished or interrupted, 1 failed, 2 wrong usage.
"""

import json
import signal
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, NoReturn

import typer

from raylevance.config import load_settings
from raylevance.progress import status
from raylevance.terminal import quiet, results_console
from serve.settings import ServeSettings

cli = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
DEFAULTS = ServeSettings()


@cli.command(help=__doc__)
@quiet
def serve_from_store(
    store: Annotated[
        str, typer.Option(envvar="RAYLEVANCE_STORE", help="Folder or URI of the artifact store.")
    ] = "./store",
    index: Annotated[str, typer.Option(help="index/NAME\\[@VERSION]; the newest version by default.")] = DEFAULTS.index,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all.")] = DEFAULTS.host,
    port: Annotated[int, typer.Option(help="The port to listen on; 0 for any free port.")] = DEFAULTS.port,
    replicas: Annotated[int, typer.Option(help="The number of searchers, and of encoders.")] = DEFAULTS.replicas,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change another setting, such as batch_size=64. Repeatable.")
    ] = None,
    queries: Annotated[list[str] | None, typer.Option("--try", help="Search for this, then stop. Repeatable.")] = None,
) -> None:
    """Run the server with the options of the command line."""
    options = {"store": store, "index": index, "host": host, "port": port, "replicas": replicas}
    option_overrides = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in options.items()]
    serve(load_settings(ServeSettings, overrides=[*option_overrides, *(overrides or [])]), queries or [])


def serve(settings: ServeSettings, queries: Sequence[str]) -> None:
    """Start a server, print its answers to `queries` and stop; without queries, serve until SIGINT or SIGTERM."""
    from serve.server import running

    _exit_on_signals()
    with running(settings) as server:
        status(f"raylevance: serving {settings.index} at {server} (API documentation: {server}/docs)")
        if not queries:
            status("raylevance: press Ctrl-C to stop")
            while True:
                signal.pause()
        _print_answers(server, queries)


def _print_answers(server: str, queries: Sequence[str]) -> None:
    from serve.client import format_answer, send_query

    with results_console() as console:
        for query in queries:
            console.print(format_answer(*send_query(server, query)))
            console.print()


def _exit_on_signals() -> None:
    def exit_cleanly(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, exit_cleanly)


def main() -> None:
    """Run the command with the arguments of the process."""
    cli()


if __name__ == "__main__":
    main()
