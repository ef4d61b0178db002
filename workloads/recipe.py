"""Find a recipe by its name, read its settings and run it."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_type_hints

from raylevance.config import Settings, load_settings
from raylevance.errors import UsageError, nearest

if TYPE_CHECKING:
    from rich.table import Table

    from workloads.run import Run

RECIPES = {
    "mine-and-refine": "workloads.recipes.mine_and_refine",
    "weak-supervision": "workloads.recipes.weak_supervision",
    "query-classification": "workloads.recipes.query_classification",
    "item-retrieval": "workloads.recipes.item_retrieval",
    "judge": "workloads.recipes.judge",
    "pairs-to-judge": "workloads.recipes.pairs_to_judge",
    "audit": "workloads.recipes.audit",
    "synthetic-queries": "workloads.recipes.synthetic_queries",
    "knowledge": "workloads.recipes.knowledge",
    "ablations": "workloads.studies.ablations",
    "weak-ablations": "workloads.studies.weak_ablations",
    "learning-curves": "workloads.studies.learning_curves",
    "annotators": "workloads.studies.annotators",
    "classification-ablations": "workloads.studies.classification_ablations",
    "classification-folds": "workloads.studies.classification_folds",
    "item-ablations": "workloads.studies.item_ablations",
    "cross-validation": "workloads.studies.cross_validation",
}
"""The module of each recipe and study, by the name on the command line."""
TUNABLE = ("mine-and-refine", "weak-supervision", "query-classification", "item-retrieval")
"""The recipes whose settings `raylevance tune` searches (`studies/tuning.py` says what they need)."""


class Outcome(Protocol):
    """The result of a recipe, as JSON for programs and as a table for people."""

    def as_json(self) -> dict[str, Any]:
        """Return the artifacts and figures that `--json` prints."""

    def as_table(self) -> "Table":
        """Return the table that a person reads."""


class Recipe(Protocol):
    """A module of `workloads.recipes` or `workloads.studies`."""

    def recipe(self, settings: Any, run: "Run") -> Outcome:
        """Make or find every step. The annotation of `settings` names the class of the recipe's settings."""


def find_recipe(name: str) -> Recipe:
    """Import the module of the recipe `name`. Raises `UsageError` for an unknown name, with the nearest known one."""
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}; {nearest(name, list(RECIPES))}")
    module: Any = importlib.import_module(RECIPES[name])
    return module  # type: ignore[no-any-return]


def settings_type(recipe: Recipe) -> type[Settings]:
    """Return the class of the recipe's settings."""
    kind: type[Settings] = get_type_hints(recipe.recipe)["settings"]
    return kind


def load_recipe_settings(recipe: Recipe, file: Path | None, overrides: Sequence[str]) -> Settings:
    """Return the settings of `recipe`: defaults, then the YAML `file`, then `overrides` such as `seed=1`."""
    return load_settings(settings_type(recipe), file, overrides)


def run_recipe(recipe: Recipe, settings: Settings, store: str, *, fresh: bool) -> Outcome:
    """Run `recipe` on the Ray cluster at hand, against the store at `store`."""
    # Imported here, because `raylevance run --help` names the recipes and does not wait for Ray.
    from raylevance.artifacts import Store
    from workloads.run import Run

    with Run(Store(store), fresh=fresh) as run:
        return recipe.recipe(settings, run)
