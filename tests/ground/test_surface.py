"""The public names of every package and the settings of every recipe are those of `surface.yaml`.

`python tests/ground/test_surface.py` writes the file anew, for a change that is meant.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

import raylevance
from workloads.recipe import RECIPES, find_recipe, settings_type

FILE = Path(__file__).with_name("surface.yaml")


def packages() -> list[str]:
    """`raylevance` and every package below it."""
    found = pkgutil.walk_packages(raylevance.__path__, "raylevance.")
    return ["raylevance", *(module.name for module in found if module.ispkg)]


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested settings."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def surface() -> dict[str, Any]:
    names = {package: sorted(importlib.import_module(package).__all__) for package in packages()}
    settings = {
        recipe: dict(flat(settings_type(find_recipe(recipe))().model_dump(mode="json"))) for recipe in sorted(RECIPES)
    }
    return {"names": names, "settings": settings}


def test_the_public_surface_is_the_reviewed_one() -> None:
    assert surface() == yaml.safe_load(FILE.read_text(encoding="utf-8")), (
        "the public names or a recipe's settings changed: if that is meant, run python tests/ground/test_surface.py"
    )


def test_every_public_name_can_be_imported_and_is_documented() -> None:
    for package in packages():
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isroutine(value) or inspect.isclass(value):
                assert value.__doc__, f"{package}.{name} has no docstring"


if __name__ == "__main__":
    FILE.write_text(yaml.safe_dump(surface(), allow_unicode=True, sort_keys=False, width=120), encoding="utf-8")
