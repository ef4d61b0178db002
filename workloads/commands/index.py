"""`raylevance index`: build an index over products."""

from typing import Annotated

import typer

from raylevance.errors import UsageError
from raylevance.terminal import quiet, results_console
from workloads.commands.options import (
    DEFAULT_STORE,
    AsJson,
    ConfigFile,
    StoreRoot,
    bare_name,
    print_summary,
)

app = typer.Typer(no_args_is_help=True, help="Build an index over products.")


@app.callback()
def index() -> None:
    """Build an index over products."""


@app.command("build")
@quiet
def build(
    encoder: Annotated[
        str,
        typer.Option(help="encoder/NAME\\[@VERSION], or a Hugging Face path, which is published as encoder/NAME."),
    ],
    products: Annotated[str, typer.Option(help="tables/NAME\\[@VERSION]; judgements in it give the hits grades.")],
    name: Annotated[str | None, typer.Option(help="The name of the index; that of the encoder by default.")] = None,
    config: ConfigFile = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, such as kind=hnsw. Repeatable.")
    ] = None,
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Encode products and publish index/NAME: vectors, BM25, ids and text."""
    from workloads.commands.early_checks import require_artifacts

    bare = bare_name("index", name) if name else None
    if not products.startswith("tables/"):
        raise UsageError(f"--products {products}: expected tables/NAME; import the file first (raylevance data import)")
    require_artifacts(store, encoder=encoder, tables=products)
    from workloads.steps.indexing import build_index

    with results_console() as results:
        artifact = build_index(encoder, products, store, config, overrides or [], bare)
        summary = {"ref": artifact.ref, **artifact.metrics}
        print_summary(results, summary, as_json)
