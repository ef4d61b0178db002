"""`raylevance classify`."""

from pathlib import Path
from typing import Annotated

import typer

from raylevance.terminal import quiet, results_console
from workloads.commands.options import DEFAULT_STORE, AsJson, ClassifierName, StoreRoot, print_summary


@quiet
def classify(
    classifier: ClassifierName,
    queries: Annotated[Path, typer.Option(help="Parquet: query, and any other columns.")],
    output: Annotated[Path, typer.Option(help="The queries with labels, probabilities, paths and reason, as Parquet.")],
    task: Annotated[str | None, typer.Option(help="One of the classifier's tasks; its first by default.")] = None,
    k: Annotated[int, typer.Option(help="The most labels of a query.", min=1)] = 3,
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Write the labels of queries. A query that can't be classified, such as an empty one, is written with a reason."""
    from workloads.commands import early_checks

    early_checks.require_parquet(queries=queries, output=output)
    early_checks.refuse_same_file(output, queries=queries)
    early_checks.require_artifacts(store, classifier=classifier)
    early_checks.require_files(queries)
    early_checks.require_folder_of(output)
    from workloads.commands.classify_file import classify_file

    with results_console() as results:
        print_summary(results, classify_file(classifier, store, queries, output, task, k), as_json)
