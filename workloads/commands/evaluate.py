"""`raylevance evaluate`: metrics on judged queries, on labelled pairs, and on queries with labels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from raylevance.errors import UsageError
from raylevance.terminal import quiet, results_console
from workloads.commands.options import (
    DEFAULT_STORE,
    AsJson,
    ClassifierName,
    EncoderName,
    StoreRoot,
    plain_table,
    print_json,
    print_summary,
)
from workloads.readable import with_interval

app = typer.Typer(no_args_is_help=True, help="Metrics of an encoder, a scorer or a query classifier on judged data.")


@app.command("retrieval")
@quiet
def retrieval(
    encoder: EncoderName,
    examples: Annotated[Path, typer.Option(help="Judged pairs in ESCI's official columns.")],
    products: Annotated[Path, typer.Option(help="Products in ESCI's official columns; all of them are ranked.")],
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Rank every product for each query by the encoder, and by BM25, hybrid, zero-shot and random for comparison."""
    from workloads.commands.early_checks import require_artifacts, require_files

    require_artifacts(store, encoder=encoder)
    require_files(examples, products)
    from workloads.commands.evaluate_files import evaluate_retrieval
    from workloads.steps.systems import REPORTED

    with results_console() as results:
        outcome = evaluate_retrieval(encoder, store, examples, products)
        if as_json:
            return print_json(results, outcome)
        rows = [
            [system, *(with_interval([values[metric], *values["ci95"][metric]]) for metric in REPORTED)]
            for system, values in outcome.items()
            if isinstance(values, dict)
        ]
        results.print(plain_table([f"{outcome['queries']} queries", *REPORTED], rows))


@app.command("pairs")
@quiet
def pairs(
    pairs: Annotated[Path, typer.Option(help="Columns query, product_text (or product_id), label 0/1 or grade 0/1/2.")],
    encoder: Annotated[str | None, typer.Option(help="encoder/NAME\\[@VERSION], or a Hugging Face path.")] = None,
    scorer: Annotated[str | None, typer.Option(help="scorer/NAME\\[@VERSION], instead of an encoder.")] = None,
    products: Annotated[Path | None, typer.Option(help="Products, where the pairs have a product_id.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Other pairs, to choose F1's threshold on.")] = None,
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """AUC, F1 and KS of an encoder's cosine, or a scorer's probability, on labelled pairs.

    F1's threshold is chosen on --validation, else it is the scorer's own. Without either, it is the best on the pairs
    themselves, and f1_threshold_from says so.
    """
    from workloads.commands.early_checks import require_artifacts, require_files

    if (encoder is None) == (scorer is None):
        raise UsageError("give either --encoder or --scorer")
    require_artifacts(store, encoder=encoder, scorer=scorer)
    require_files(pairs, products, validation)
    from workloads.commands.evaluate_files import evaluate_pair_file

    with results_console() as results:
        outcome = evaluate_pair_file(store, pairs, products, validation, encoder=encoder, scorer=scorer)
        print_summary(results, outcome, as_json)


@app.command("classification")
@quiet
def classification(
    classifier: ClassifierName,
    queries: Annotated[Path, typer.Option(help="Columns query, labels (lists of label ids). Parquet or JSON Lines.")],
    task: Annotated[str | None, typer.Option(help="One of the classifier's tasks; its first by default.")] = None,
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Accuracy at 1 and 3, micro and macro F1 of a query classifier, for frequent and rare labels apart.

    A label is predicted where its probability reaches the threshold that the classifier has for it. Head, middle and
    tail are labels by their number of training queries.
    """
    from workloads.commands.early_checks import require_artifacts, require_files

    require_artifacts(store, classifier=classifier)
    require_files(queries)
    from workloads.commands.evaluate_classification import evaluate_classification

    with results_console() as results:
        outcome = evaluate_classification(classifier, store, queries, task)
        if as_json:
            return print_json(results, outcome)
        for table in _classification_tables(outcome):
            results.print(table)


def _classification_tables(outcome: dict[str, Any]) -> Iterator[Table]:
    """Yield a table of the metrics of all labels and of each group of labels, and one of the other figures."""
    groups = {"all": outcome, **{name: outcome[name] for name in ("head", "middle", "tail")}}
    shown = ("accuracy@1", "accuracy@3", "micro_f1", "macro_f1")
    rows = []
    for name, values in groups.items():
        intervals = outcome["ci95"] if name == "all" else outcome["ci95"][name]
        cells = [
            "" if values.get(metric) is None else with_interval([values[metric], *intervals[metric]])
            for metric in shown
        ]
        rows.append([name, values["queries"], *cells])
    yield plain_table(["labels", "queries", *shown], rows)
    others = {name: value for name, value in outcome.items() if isinstance(value, (int, float, str))}
    yield plain_table(["", ""], [(name, value) for name, value in others.items() if name not in (*shown, "queries")])
