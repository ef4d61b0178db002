"""`raylevance serve`."""

import os
import sys

import typer

from raylevance.terminal import shows_everything
from workloads.commands.options import DEFAULT_STORE, StoreRoot


def serve(context: typer.Context, store: StoreRoot = DEFAULT_STORE) -> None:
    """Answer over HTTP from the store; `python -m serve --help` lists its options (--index, --host, --port, --try)."""
    arguments = [argument for argument in context.args if argument != "--"]
    verbose = ["--verbose"] if shows_everything() else []
    # -P: a module `serve` in the user's folder is not ours.
    command = [sys.executable, "-P", "-m", "serve", "--store", store, *verbose, *arguments]
    os.execv(sys.executable, command)
