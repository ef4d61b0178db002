"""`raylevance evaluate`: metrics on judged queries and labelled pairs."""

from pathlib import Path
from typing import Annotated

import typer

from raylevance.terminal import quiet, results_console
from workloads.commands.options import (
    DEFAULT_STORE,
    AsJson,
    EncoderName,
    StoreRoot,
    plain_table,
    print_json,
    print_summary,
)

app = typer.Typer(no_args_is_help=True, help="Metrics of an encoder or a scorer on judged queries or pairs.")


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
    from workloads.commands.evaluate_files import evaluate_retrieval
    from workloads.steps.systems import REPORTED

    with results_console() as results:
        outcome = evaluate_retrieval(encoder, store, examples, products)
        if as_json:
            return print_json(results, outcome)
        rows = [
            [system, *(f"{values[metric]:.3f} [{_interval(values['ci95'][metric])}]" for metric in REPORTED)]
            for system, values in outcome.items()
            if isinstance(values, dict)
        ]
        results.print(plain_table([f"{outcome['queries']} queries", *REPORTED], rows))


@app.command("pairs")
@quiet
def pairs(
    pairs: Annotated[Path, typer.Option(help="Columns query, product_text (or product_id), label 0/1 or grade 0/1/2.")],
    encoder: Annotated[str | None, typer.Option(help="encoder/NAME[@VERSION], or a Hugging Face path.")] = None,
    scorer: Annotated[str | None, typer.Option(help="scorer/NAME[@VERSION], instead of an encoder.")] = None,
    products: Annotated[Path | None, typer.Option(help="Products, where the pairs have a product_id.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Other pairs, to choose F1's threshold on.")] = None,
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """AUC, F1 and KS of an encoder's cosine, or a scorer's probability, on labelled pairs.

    F1's threshold is chosen on --validation, else it is the scorer's own. Without either, it is the best on the pairs
    themselves, and f1_threshold_from says so.
    """
    from workloads.commands.evaluate_files import evaluate_pair_file

    with results_console() as results:
        outcome = evaluate_pair_file(store, pairs, products, validation, encoder=encoder, scorer=scorer)
        print_summary(results, outcome, as_json)


def _interval(bounds: list[float]) -> str:
    return f"{bounds[0]:.3f}, {bounds[1]:.3f}"
