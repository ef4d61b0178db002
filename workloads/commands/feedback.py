"""`raylevance feedback`: the files of events that servers keep in the store."""

from dataclasses import asdict

import typer

from raylevance.terminal import quiet, results_console
from workloads.commands.options import DEFAULT_STORE, AsJson, StoreRoot, print_summary

app = typer.Typer(no_args_is_help=True, help="Compact the files of events that servers keep in the store.")


@app.callback()
def feedback() -> None:
    """Compact the files of events that servers keep in the store."""


@app.command("compact")
@quiet
def compact(store: StoreRoot = DEFAULT_STORE, as_json: AsJson = False) -> None:
    """Make one file of the files of each day before today (UTC). Servers may run meanwhile; imports must not."""
    from raylevance.artifacts import Store
    from raylevance.data.feedback_files import compact
    from workloads.run import exclusive

    with exclusive(Store(store), "feedback-compaction", "feedback"), results_console() as results:
        print_summary(results, asdict(compact(store)), as_json)
