"""`raylevance recommend`."""

from pathlib import Path
from typing import Annotated

import typer

from raylevance.errors import UsageError
from raylevance.terminal import quiet, results_console
from workloads.commands.options import DEFAULT_STORE, AsJson, StoreRoot, print_summary


@quiet
def recommend(
    table: Annotated[str, typer.Option(help="table/NAME\\[@VERSION].")],
    triggers: Annotated[Path, typer.Option(help="Parquet: request_id, product_id and, optional, weight and category.")],
    output: Annotated[Path, typer.Option(help="request_id, rank, product_id, score and trigger, as Parquet.")],
    k: Annotated[int, typer.Option(help="The most items of a request.", min=1)] = 200,
    most_per_category: Annotated[int | None, typer.Option(help="The most items of one category.", min=1)] = None,
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Write the items recommended for lists of triggers. The triggers of a request are never recommended to it."""
    from workloads.commands import early_checks

    early_checks.require_parquet(triggers=triggers, output=output)
    early_checks.refuse_same_file(output, triggers=triggers)
    if not table.startswith("table/"):
        raise UsageError(f"--table {table}: expected table/NAME, such as table/items of run item-retrieval")
    early_checks.require_artifacts(store, table=table)
    early_checks.require_files(triggers)
    early_checks.require_folder_of(output)
    from workloads.commands.recommend_file import recommend_file

    with results_console() as results:
        print_summary(results, recommend_file(table, store, triggers, output, k, most_per_category), as_json)
