"""`raylevance store`: look into the artifact store."""

import typer

from raylevance.terminal import quiet, results_console
from workloads.commands.options import DEFAULT_STORE, AsJson, StoreRoot, plain_table, print_json

app = typer.Typer(no_args_is_help=True, help="Look into the artifact store.")


@app.command("list")
@quiet
def list_versions(store: StoreRoot = DEFAULT_STORE, as_json: AsJson = False) -> None:
    """Every published version, oldest first."""
    from raylevance.artifacts import Store

    versions = Store(store).artifacts()
    with results_console() as results:
        if as_json:
            listed = [artifact.model_dump(mode="json", exclude={"files", "settings"}) for artifact in versions]
            return print_json(results, {"store": str(Store(store)), "artifacts": listed})
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
