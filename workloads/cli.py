"""The `raylevance` command. Exit codes: 0 done, 1 failed with one clear line on stderr, 2 wrong usage.

`--json` prints one JSON object on stdout; everything else a command says goes to stderr.
"""

from typing import Annotated

import typer

from raylevance import __version__
from raylevance.terminal import Verbose, show_everything
from workloads.commands import (
    bundle,
    classify,
    data,
    doctor,
    encode,
    evaluate,
    feedback,
    index,
    label,
    recommend,
    run,
    serve,
    store,
    submit,
    token,
)

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__)

# The modules of the commands import what they need when they are called, so that `--help` answers at once.
for command in (run.run, run.tune, submit.submit):
    app.command()(command)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(serve.serve)
for command in (encode.encode, label.label, classify.classify, recommend.recommend, doctor.doctor):
    app.command()(command)
groups = {
    "evaluate": evaluate,
    "index": index,
    "data": data,
    "store": store,
    "bundle": bundle,
    "token": token,
    "feedback": feedback,
}
for name, group in groups.items():
    app.add_typer(group.app, name=name)


def print_version(asked: bool) -> None:
    """Print the version and end, if it was asked for."""
    if asked:
        typer.echo(f"raylevance {__version__}")
        raise typer.Exit


@app.callback()
def options(
    verbose: Verbose = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", is_eager=True, callback=print_version)
    ] = False,
) -> None:
    """Take the options that stand before the command."""
    show_everything(verbose)


def main() -> None:
    """Run the command that the arguments of the process name."""
    app()


if __name__ == "__main__":
    main()
