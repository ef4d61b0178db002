"""`raylevance store`: look into the artifact store."""

import typer
from rich.console import Console

from raylevance.artifacts import Artifact
from raylevance.progress import status
from raylevance.terminal import quiet, results_console
from workloads.commands.options import DEFAULT_STORE, AsJson, StoreRoot, plain_table, print_json

app = typer.Typer(no_args_is_help=True, help="Look into the artifact store.")


@app.command("list")
@quiet
def list_versions(store: StoreRoot = DEFAULT_STORE, as_json: AsJson = False) -> None:
    """Every published version, oldest first; then, with exit code 1, those that can't be read."""
    from raylevance.artifacts import Store

    opened = Store(store)
    of_names = [opened.versions(name) for name in opened.names()]
    versions = sorted((made for found, _ in of_names for made in found), key=lambda made: (made.created, made.name))
    faults = [fault for _, found in of_names for fault in found]
    with results_console() as results:
        _print_versions(results, str(opened), versions, as_json=as_json)
    for fault in faults:
        status(f"raylevance: {fault}")
    if faults:
        raise typer.Exit(1)


def _print_versions(results: Console, store: str, versions: list[Artifact], *, as_json: bool) -> None:
    if as_json:
        listed = [artifact.model_dump(mode="json", exclude={"files", "settings"}) for artifact in versions]
        print_json(results, {"store": store, "artifacts": listed})
    else:
        sizes = [sum(file.bytes for file in artifact.files) for artifact in versions]
        rows = [
            [artifact.ref, f"{artifact.created:%Y-%m-%d %H:%M:%S}", f"{size / 1e6:.1f} MB"]
            for artifact, size in zip(versions, sizes, strict=True)
        ]
        results.print(plain_table(["artifact", "created (UTC)", "size"], rows))


@app.command("show")
@quiet
def show(reference: str, store: StoreRoot = DEFAULT_STORE, as_json: AsJson = False) -> None:
    """The manifest of one version, as JSON with `--json` and without: files, hashes, parents, settings, metrics."""
    from raylevance.artifacts import Store

    with results_console() as results:
        print_json(results, Store(store).get(reference).model_dump(mode="json"))
