"""The relevance guideline as data: three grades, their definitions, worked examples and notes by category.

The three grades are those of Mine and Refine (arXiv 2602.17654); the wording and the examples are ours.
"""

import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, model_validator

from raylevance.config import Settings, load_settings

GUIDELINE_FILE = "guideline.yaml"
Grade = Literal[0, 1, 2]


class Example(Settings):
    """A pair with its grade, as the prompt shows it."""

    query: str
    """The query of the pair."""
    product: str
    """The product text of the pair."""
    grade: Grade
    """The grade of the pair."""
    reason: str = ""
    """The reason for the grade. It is for people; the prompt leaves it out."""


class Guideline(Settings):
    """The meaning of the grades."""

    name: str
    """The name of the guideline, which starts its version."""
    task: str
    """The sentences that explain the task to the judge."""
    definitions: Mapping[Grade, str]
    """The definition of each of the grades 0, 1 and 2."""
    examples: tuple[Example, ...] = Field(min_length=1)
    """The worked examples, in the order of the prompt."""
    notes: Mapping[str, str] = {}
    """Notes on the first-level categories that need one, by the name of the category."""

    @model_validator(mode="after")
    def _check_definitions(self) -> Self:
        if set(self.definitions) != {0, 1, 2}:
            raise ValueError("definitions are required of the grades 0, 1 and 2")
        return self

    @property
    def version(self) -> str:
        """The name of the guideline and a hash of its content."""
        return f"{self.name}-{hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]}"

    def text(self) -> str:
        """Return the guideline as the head of a prompt, with the examples at the end."""
        grades = "\n".join(f"{grade}: {self.definitions[grade]}" for grade in (2, 1, 0))
        notes = "".join(f"{category}: {note}\n" for category, note in self.notes.items())
        examples = "\n".join(f"{pair_text(e.query, e.product)}{e.grade}\n" for e in self.examples)
        return f"{self.task}\n\nGrades:\n{grades}\n{notes}\n{examples}\n"


def load_guideline(file: Path | None = None) -> Guideline:
    """Read the guideline in a YAML file, or by default the one that comes with the library.

    Raises `UsageError` if the file can't be read or is not a guideline.
    """
    if file:
        return load_settings(Guideline, file)
    text = resources.files("raylevance.judges").joinpath(GUIDELINE_FILE).read_text(encoding="utf-8")
    return Guideline.model_validate(yaml.safe_load(text))


def pair_text(query: str, product: str) -> str:
    """Return one pair as the prompt and its examples write it, up to the place of the grade."""
    return f"Query: {query}\nProduct: {product}\nGrade: "
