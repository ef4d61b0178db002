"""The layout: imports point down, and nothing shadows the standard library."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = {
    name: number
    for number, floor in enumerate(
        [
            "errors artifacts config hugging_face progress terminal cluster tokens",
            "data",
            "demo graph llm losses models index evaluation",
            "judges",
            "training",
            "inference",
            "client",
            "workloads serve",
        ]
    )
    for name in floor.split()
}
"""From the ground up: a package imports the floors below its own, and no other package of its own floor."""


def room(module: str) -> str:
    """The floor's name that a module belongs to: `raylevance.data.esci` is in `data`, `serve.app` in `serve`."""
    parts = module.split(".")
    return parts[1] if parts[0] == "raylevance" and len(parts) > 1 else parts[0]


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources() -> Iterator[tuple[str, Path]]:
    for base in (ROOT / "platform" / "raylevance", ROOT / "workloads", ROOT / "serve"):
        for file in base.rglob("*.py"):
            relative = file.relative_to(base.parent).with_suffix("")
            yield ".".join(relative.parts), file


def broken(module: str, imported: str) -> bool:
    here, there = room(module), room(imported)
    if here == "raylevance" or there not in FLOORS or here == there:
        return False
    return FLOORS[there] >= FLOORS[here] and FLOORS[there] > 0


def test_imports_point_down() -> None:
    faults = [
        f"{module} imports {name}" for module, file in sources() for name in imports(file) if broken(module, name)
    ]
    assert faults == []


def test_serve_loads_predictors_through_inference_alone() -> None:
    """Besides predictors, `serve` may import the foundations and the messages of the client."""
    foundations = {"__version__", "artifacts", "cluster", "config", "errors", "progress", "terminal", "tokens"}
    below = foundations | {"inference", "client"}
    faults = [
        f"{module} imports {name}"
        for module, file in sources()
        if room(module) == "serve"
        for name in imports(file)
        if name.split(".")[0] in ("raylevance", "workloads") and room(name) not in below
    ]
    assert faults == []


def test_steps_import_no_recipe_study_or_command() -> None:
    above = ("workloads.recipes", "workloads.studies", "workloads.commands")
    faults = [
        f"{module} imports {name}"
        for module, file in sources()
        if module.startswith("workloads.steps")
        for name in imports(file)
        if name.startswith(above)
    ]
    assert faults == []


def test_every_package_has_a_floor() -> None:
    rooms = {room(module) for module, _ in sources()} - {"__init__", "raylevance"}
    assert rooms <= FLOORS.keys()


@pytest.mark.parametrize(
    ("module", "imported", "is_broken"),
    [
        ("raylevance.data.esci", "raylevance.training.loop", True),
        ("raylevance.index.vectors", "raylevance.evaluation.ranking_metrics", True),
        ("serve.app", "workloads.cli", True),
        ("raylevance.training.loop", "raylevance.losses.supcon", False),
        ("workloads.cli", "raylevance.data.esci", False),
    ],
)
def test_the_rule_itself(module: str, imported: str, is_broken: bool) -> None:
    assert broken(module, imported) is is_broken


def test_platform_is_not_a_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists(), "it would shadow the standard library in every worker"
    command = [sys.executable, "-c", "import uuid, platform; platform.system()"]
    subprocess.run(command, check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
