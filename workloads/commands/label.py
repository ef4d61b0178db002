"""`raylevance label`."""

from pathlib import Path
from typing import Annotated

import typer

from raylevance.errors import RaylevanceError
from raylevance.terminal import quiet, results_console
from workloads.commands.options import DEFAULT_STORE, AsJson, StoreRoot, print_summary


@quiet
def label(
    judge: Annotated[str, typer.Option(help="judge/NAME\\[@VERSION], or a YAML file that describes a judge.")],
    pairs: Annotated[Path, typer.Option(help="Parquet: query, product_text, and any other columns.")],
    output: Annotated[Path, typer.Option(help="The pairs with grade, confidence, status, reason and source.")],
    threshold: Annotated[float | None, typer.Option(help="Abstain below this confidence.", min=0, max=1)] = None,
    check: Annotated[Path | None, typer.Option(help="Pairs with a human grade, to measure the judge on first.")] = None,
    minimum_kappa: Annotated[
        float | None, typer.Option(help="Label nothing below this quadratic kappa.", min=-1, max=1)
    ] = None,
    price_per_hour: Annotated[
        float | None, typer.Option(help="Of the machines, to show what labels cost.", min=0)
    ] = None,
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Grade pairs. Pairs that this judge has graded before are not graded again, so a killed run can be continued."""
    from workloads.commands import early_checks

    early_checks.require_parquet(output=output)
    early_checks.refuse_same_file(output, pairs=pairs, check=check)
    early_checks.require_artifacts(store, judge=judge)
    if not pairs.exists():
        raise RaylevanceError(f"{pairs}: no such file")
    early_checks.require_files(check)
    early_checks.require_folder_of(output)
    from workloads.commands.label_file import label_file

    with results_console() as results:
        summary = label_file(
            judge,
            store,
            pairs,
            output,
            threshold=threshold,
            check=check,
            minimum_kappa=minimum_kappa,
            price_per_hour=price_per_hour,
        )
        print_summary(results, summary, as_json)
