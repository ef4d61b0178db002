"""`raylevance token`: the tokens that clients of a server send."""

from pathlib import Path
from typing import Annotated

import typer

from raylevance.errors import UsageError
from raylevance.terminal import quiet, results_console
from workloads.commands.options import AsJson, plain_table, print_json

app = typer.Typer(no_args_is_help=True, help="Add, list and remove the tokens that clients of a server send.")

TokenFile = Annotated[Path, typer.Option("--file", help="The file of tokens, which keeps their hashes alone.")]
DEFAULT_FILE = Path("tokens.json")
SCOPES = ("search", "admin")


@app.command("add")
@quiet
def add(
    name: Annotated[str, typer.Argument(help="Who gets the token; a new name.")],
    file: TokenFile = DEFAULT_FILE,
    scopes: Annotated[
        list[str] | None, typer.Option("--scope", help="search or admin; search by default. Repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it. It is shown this once; a running server takes it within a second."""
    from raylevance.tokens import add_token

    wanted = scopes or ["search"]
    for scope in wanted:
        if scope not in SCOPES:
            raise UsageError(f"--scope {scope}: expected {' or '.join(SCOPES)}")
    chosen = tuple(scope for scope in SCOPES if scope in wanted)
    token = add_token(file, name, chosen)  # type: ignore[arg-type]
    with results_console() as results:
        if as_json:
            return print_json(results, {"name": name, "token": token, "scopes": list(chosen), "file": str(file)})
        results.print(token, markup=False, highlight=False, soft_wrap=True)


@app.command("remove")
@quiet
def remove(name: Annotated[str, typer.Argument(help="The name of the token.")], file: TokenFile = DEFAULT_FILE) -> None:
    """Remove a token. A running server refuses it within a second."""
    from raylevance.tokens import remove_token

    remove_token(file, name)


@app.command("list")
@quiet
def list_tokens(file: TokenFile = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """The names of the tokens, and their scopes."""
    from raylevance.tokens import read_tokens

    tokens = {name: list(token.scopes) for name, token in read_tokens(file).items()}
    with results_console() as results:
        if as_json:
            return print_json(results, {"file": str(file), "tokens": tokens})
        results.print(plain_table(["name", "scopes"], ([name, ", ".join(found)] for name, found in tokens.items())))
