"""The recipes by name, and how one is run: settings checked, Ray connected, steps made or found."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.table import Table

from raylevance.artifacts import Store
from raylevance.config import Settings, load_settings
from raylevance.errors import UsageError, nearest
from workloads.steps import Run

RECIPES = (
    "mine-and-refine",
    "weak-supervision",
    "cross-validation",
    "ablations",
    "weak-ablations",
    "judge",
    "audit",
    "synthetic-queries",
    "knowledge",
)


class Outcome(Protocol):
    """What a recipe ends with, for `--json` and for people."""

    def as_json(self) -> dict[str, Any]: ...

    def as_table(self) -> Table: ...


class Recipe(Protocol):
    """A module of `workloads/` named after its recipe."""

    RecipeSettings: type[Settings]

    def recipe(self, settings: Any, run: Run) -> Outcome: ...


def find(name: str) -> Recipe:
    """The recipe's module; `UsageError` names the nearest one."""
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}; {nearest(name, list(RECIPES))}")
    module: Any = importlib.import_module(f"workloads.{name.replace('-', '_')}")
    return module  # type: ignore[no-any-return]


def settings(recipe: Recipe, file: Path | None, overrides: Sequence[str]) -> Settings:
    """The recipe's settings, validated before any work starts."""
    return load_settings(recipe.RecipeSettings, file, overrides)


def run(recipe: Recipe, settings: Settings, store: str, *, fresh: bool) -> Outcome:
    """Run `recipe` on the cluster at hand."""
    with Run(Store(store), fresh=fresh) as run:
        return recipe.recipe(settings, run)
