"""`raylevance encode`."""

from pathlib import Path
from typing import Annotated

import typer

from raylevance.errors import UsageError
from raylevance.terminal import quiet, results_console
from workloads.commands.options import DEFAULT_STORE, AsJson, EncoderName, StoreRoot, print_summary


@quiet
def encode(
    encoder: EncoderName,
    input: Annotated[Path, typer.Option(help="Parquet, CSV, TSV or JSON; text also in .gz or .zst.")],
    column: Annotated[str, typer.Option(help="The column of texts.")],
    output: Annotated[Path, typer.Option(help=".npy, float32 \\[rows, dimensions], unit length.")],
    side: Annotated[str, typer.Option(help="query or item: which tower encodes.")] = "item",
    store: StoreRoot = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Write the vectors of a column of texts, in its order."""
    from workloads.commands.early_checks import require_artifacts, require_files, require_folder_of

    if side not in ("query", "item"):
        raise UsageError(f"--side {side}: expected query or item")
    if output.suffix != ".npy":
        raise UsageError(f"--output {output}: expected a name that ends in .npy")
    require_artifacts(store, encoder=encoder)
    require_files(input)
    require_folder_of(output)
    from workloads.commands.encode_file import encode_file

    with results_console() as results:
        summary = encode_file(encoder, store, input, column, output, side)
        print_summary(results, summary, as_json)
