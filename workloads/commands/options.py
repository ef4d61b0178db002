"""Options that several commands share, and the two ways a result is printed."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from raylevance.artifacts import NAME
from raylevance.errors import UsageError
from workloads.readable import readable, readable_rows
from workloads.recipe import RECIPES

StoreRoot = Annotated[
    str, typer.Option("--store", envvar="RAYLEVANCE_STORE", help="Folder or URI of the artifact store.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML with settings, on top of the defaults.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, such as stage1.train.batch=16. Repeatable.")
]
RecipeName = Annotated[str, typer.Argument(help=f"One of {', '.join(RECIPES)}.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Make every step again.")]
EncoderName = Annotated[str, typer.Option("--encoder", help="encoder/NAME\\[@VERSION], or a Hugging Face path.")]
ClassifierName = Annotated[str, typer.Option("--classifier", help="classifier/NAME\\[@VERSION].")]
DEFAULT_STORE = "./store"


def bare_name(kind: str, name: str) -> str:
    """Return NAME of `NAME` or `kind/NAME`. Raises `UsageError` for any other form, such as one with a version."""
    bare = name.removeprefix(f"{kind}/")
    if not NAME.fullmatch(bare):
        raise UsageError(f"{name}: expected NAME or {kind}/NAME, of a-z, 0-9, '.', '_' and '-'")
    return bare


def print_json(console: Console, value: Any) -> None:
    """Print one JSON object, without the colours that a console may be set to use."""
    console.file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def plain_table(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> Table:
    """Return a table of `rows` without lines; it has a header where a column is named."""
    table = Table(*columns, box=None, show_header=any(columns), pad_edge=False)
    for row in rows:
        table.add_row(*map(readable, row))
    return table


def print_summary(console: Console, summary: dict[str, Any], as_json: bool) -> None:
    """Print a summary as JSON, or as a table of names and values."""
    print_json(console, summary) if as_json else console.print(plain_table(["", ""], readable_rows(summary)))
