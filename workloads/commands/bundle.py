"""`raylevance bundle`: publish what servers answer from as one, and go back."""

from typing import Annotated

import typer

from raylevance.terminal import quiet, results_console
from workloads.commands.options import DEFAULT_STORE, AsJson, StoreRoot, bare_name, print_summary

app = typer.Typer(no_args_is_help=True, help="Publish what servers answer from as one, and go back.")
Name = Annotated[str, typer.Argument(help="The bundle, as NAME or bundle/NAME.")]


@app.command("publish")
@quiet
def publish(
    name: Name,
    index: Annotated[str, typer.Option(help="index/NAME\\[@VERSION]; its encoder and tables come with it.")],
    classifier: Annotated[str | None, typer.Option(help="classifier/NAME\\[@VERSION].")] = None,
    scorer: Annotated[str | None, typer.Option(help="scorer/NAME\\[@VERSION].")] = None,
    items: Annotated[str | None, typer.Option(help="table/NAME\\[@VERSION].")] = None,
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Publish the newest (or the named) versions as bundle/NAME. Servers that follow it take them within seconds."""
    from raylevance.artifacts import Store
    from raylevance.inference import bundle as bundles

    opened = Store(store)
    versions = bundles.pin(opened, index, classifier, scorer, items)
    published = bundles.publish(opened, bare_name("bundle", name), versions)
    with results_console() as results:
        print_summary(results, {"bundle": published.ref, **versions.model_dump(exclude_none=True)}, as_json)


@app.command("rollback")
@quiet
def rollback(
    name: Name,
    version: Annotated[str | None, typer.Option("--to", help="The version to go back to.")] = None,
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Make the bundle before the newest one the newest again. Servers that follow it take it within seconds."""
    from raylevance.artifacts import Store
    from raylevance.inference import bundle as bundles

    left, now = bundles.rollback(Store(store), bare_name("bundle", name), version)
    with results_console() as results:
        print_summary(results, {"bundle": now.ref, "before": left.ref}, as_json)
