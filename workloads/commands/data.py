"""`raylevance data`: import, generate and fetch tables."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from raylevance.terminal import quiet, results_console
from workloads.commands.options import DEFAULT_STORE, AsJson, StoreRoot, plain_table, print_json, print_summary

app = typer.Typer(no_args_is_help=True, help="Import, generate and fetch tables.")


@app.command("import")
@quiet
def import_files(
    source: Annotated[str, typer.Argument(help="esci, wands, ubi, uci, alibaba or tables.")],
    folder: Annotated[Path, typer.Option("--from", help="Where its files are.")],
    on_bad_row: Annotated[str, typer.Option(help="stop, or quarantine and continue.")] = "stop",
    locale: Annotated[str | None, typer.Option(help="ESCI only: us, es or jp; by default us.")] = None,
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Read files into checked tables and publish them as tables/SOURCE."""
    from workloads.steps.tables import import_source

    with results_console() as results:
        artifact = import_source(source, folder, store, on_bad_row=on_bad_row, locale=locale)
        summary = {"ref": artifact.ref, **artifact.metrics}
        print_json(results, summary) if as_json else results.print(_import_table(summary))


@app.command("demo")
@quiet
def demo(
    products: int = 5000,
    events: int = 50_000,
    queries: int = 500,
    seed: int = 0,
    locales: Annotated[str, typer.Option(help="Any of us, es and jp, with commas: English, Spanish, Japanese.")] = "us",
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Generate a shop (products, queries, graded judgements, simulated events) and publish it as tables/demo."""
    from raylevance.config import load_settings
    from raylevance.demo import DemoSettings
    from workloads.steps.tables import generate_demo

    sizes = {"products": products, "events": events, "queries": queries, "seed": seed, "locales": f"[{locales}]"}
    settings = load_settings(DemoSettings, None, [f"{name}={value}" for name, value in sizes.items()])
    with results_console() as results:
        artifact = generate_demo(store, settings)
        summary = {"ref": artifact.ref, **artifact.metrics}
        print_summary(results, summary, as_json)


@app.command("download")
@quiet
def download(
    name: Annotated[str, typer.Argument(help="esci")],
    to: Annotated[Path, typer.Option(help="The folder to fetch into.")],
) -> None:
    """Fetch a public data set's files, where a network allows."""
    from raylevance.data.download import download as fetch
    from raylevance.progress import status

    for path in fetch(name, to):
        status(str(path))


def _import_table(summary: dict[str, Any]) -> Table:
    """Return one table of an import: its files, and its rows by table and reason."""
    from raylevance.data.schema import REPEATED_QUERY

    in_words = {REPEATED_QUERY: "an earlier row has the same query; each query is kept once"}
    lines: list[tuple[str, str, int | str, str]] = [("published", summary["ref"], "", "")]
    lines += [("file read", file, "", "") for file in summary.get("files", ())]
    lines += [("file not read", file, "", "") for file in summary.get("files_not_read", ())]
    lines += [("rows read", table, rows, "") for table, rows in summary.get("read", {}).items()]
    lines += [("rows kept", table, rows, "") for table, rows in summary["rows"].items()]
    for outcome in ("quarantined", "dropped"):
        for table, reasons in summary.get(outcome, {}).items():
            lines += [
                (f"rows {outcome}", table, rows, in_words.get(reason, reason)) for reason, rows in reasons.items()
            ]
    if repeated := summary.get("repeated_events"):
        lines.append(("rows repeated", "events", repeated, "equal an earlier event in all columns; kept"))
    return plain_table(["", "", "rows", "reason"], lines)
