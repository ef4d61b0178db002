"""`raylevance serve`."""

import os
import sys
from pathlib import Path

import typer

from raylevance.progress import status
from raylevance.terminal import shows_everything
from workloads.commands.options import DEFAULT_STORE, StoreRoot


def serve(context: typer.Context, store: StoreRoot = DEFAULT_STORE) -> None:
    """Answer over HTTP from the store; `python -m serve --help` lists its options (--index, --host, --port, --try)."""
    arguments = [argument for argument in context.args if argument != "--"]
    verbose = ["--verbose"] if shows_everything() else []
    # Python, and Ray in each worker, would take it for the server's package.
    if Path("serve.py").exists():
        status(
            "raylevance: serve.py: this folder has a module of the server's name; start the server in another folder"
        )
        raise typer.Exit(2)
    command = [sys.executable, "-m", "serve", "--store", store, *verbose, *arguments]
    os.execv(sys.executable, command)
