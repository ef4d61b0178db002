"""`python -m serve`: answer searches over HTTP until interrupted, or try a few queries and stop.

Results go to stdout, everything else to stderr. Exit codes: 0 finished or interrupted, 1 failed, 2 wrong usage.
"""

import json
import os
import signal
import time
import webbrowser
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, NoReturn

import typer

from raylevance.artifacts import Store, parse_reference
from raylevance.client import Client
from raylevance.config import load_settings
from raylevance.errors import UsageError
from raylevance.progress import status
from raylevance.terminal import quiet, results_console
from raylevance.tokens import Tokens
from serve.settings import ServeSettings
from serve.tls import tls_options

cli = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
DEFAULTS = ServeSettings()
HITS = 5
TIMEOUT_S = 60.0
TOKEN_VARIABLE = "RAYLEVANCE_TOKEN"
"""The environment variable with the token that `--try` sends."""


@cli.command(help=__doc__)
@quiet
def serve_from_store(
    store: Annotated[
        str, typer.Option(envvar="RAYLEVANCE_STORE", help="Folder or URI of the artifact store.")
    ] = "./store",
    bundle: Annotated[
        str | None, typer.Option(help="bundle/NAME: its newest version, also while the server runs.")
    ] = DEFAULTS.bundle,
    index: Annotated[
        str | None, typer.Option(help=f"index/NAME\\[@VERSION]; {DEFAULTS.index} by default, at its newest version.")
    ] = None,
    classifier: Annotated[str | None, typer.Option(help="classifier/NAME\\[@VERSION], for `classify`.")] = None,
    scorer: Annotated[str | None, typer.Option(help="scorer/NAME\\[@VERSION], for `relevance`.")] = None,
    items: Annotated[str | None, typer.Option(help="table/NAME\\[@VERSION], for `recommend`.")] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 for all, which needs --tokens.")
    ] = DEFAULTS.host,
    port: Annotated[int, typer.Option(help="The port to listen on; 0 for any free port.")] = DEFAULTS.port,
    tokens: Annotated[
        str | None, typer.Option(help="File of the tokens that clients must send; `raylevance token add` makes it.")
    ] = None,
    replicas: Annotated[int, typer.Option(help="The number of replicas.")] = DEFAULTS.replicas,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change another setting, such as events=true. Repeatable.")
    ] = None,
    queries: Annotated[list[str] | None, typer.Option("--try", help="Search for this, then stop. Repeatable.")] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the search page in a browser.")] = False,
) -> None:
    """Run the server with the options of the command line."""
    options: dict[str, object] = {"store": store, "host": host, "port": port, "replicas": replicas}
    parts = {
        "bundle": bundle,
        "index": index,
        "classifier": classifier,
        "scorer": scorer,
        "items": items,
        "tokens": tokens,
    }
    options |= {name: value for name, value in parts.items() if value is not None}
    given = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in options.items()]
    serve(load_settings(ServeSettings, overrides=[*given, *(overrides or [])]), queries or [], open_page=open_page)


def serve(settings: ServeSettings, queries: Sequence[str], *, open_page: bool = False) -> None:
    """Start a server, print its answers to `queries` and stop; without queries, serve until SIGINT or SIGTERM."""
    if settings.tls_cert:
        os.environ["RAY_SERVE_ENABLE_HA_PROXY"] = "0"  # Ray 2.60's HAProxy does not speak TLS
    check_before_imports(settings, queries)
    status(f"raylevance: starting Ray and loading {settings.bundle or settings.index}")
    from serve.server import log_folder, metrics_urls, running

    _exit_on_signals()
    with running(settings) as (server, versions):
        where = f"search page: {server}/, API: {server}/docs"
        status(f"raylevance: serving {settings.bundle or versions.index} at {server} ({where})")
        if open_page:
            webbrowser.open(f"{server}/")
        if not queries:
            status(f"raylevance: metrics for Prometheus at {', '.join(metrics_urls())}")
            status(f"raylevance: log of each request in {log_folder()}/replica_*.log")
            status("raylevance: press Ctrl-C to stop")
            while True:
                signal.pause()
        _print_answers(server, queries, min(HITS, settings.max_k))


def check_before_imports(settings: ServeSettings, queries: Sequence[str]) -> None:
    """Raise for what can be seen to be wrong before Ray and torch are imported, which takes ten seconds."""
    if settings.tls_cert and queries:
        raise UsageError("--try: can't check a certificate for 127.0.0.1; leave it out, or tls_cert")
    if settings.tokens:
        Tokens(settings.tokens)
    tls_options(settings)
    store = Store(settings.store)
    if settings.bundle is not None:
        found, _ = store.versions(parse_reference(settings.bundle)[0])
        if not found:
            store.get(settings.bundle)  # raises, and names the nearest
        return
    for reference in (settings.index, settings.classifier, settings.scorer, settings.items):
        if reference is not None:
            store.get(reference)


def _print_answers(server: str, queries: Sequence[str], most: int) -> None:
    from serve.answer_table import format_answer

    with results_console() as console, Client(server, os.environ.get(TOKEN_VARIABLE), TIMEOUT_S) as client:
        for query in queries:
            started = time.perf_counter()
            answer = client.search(query, k=most)
            console.print(format_answer(answer, 1000 * (time.perf_counter() - started)))
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
