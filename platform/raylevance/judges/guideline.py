"""The relevance guideline as data: three grades, their definitions, worked examples and notes by category.

The three grades are Mine and Refine's (arXiv 2602.17654); wording and
examples are ours.
"""

import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, model_validator

from raylevance.config import Settings, load_settings

DEFAULT = "guideline.yaml"
Grade = Literal[0, 1, 2]


class Example(Settings):
    """A worked pair. `reason` is for people; the prompt leaves it out."""

    query: str
    product: str
    grade: Grade
    reason: str = ""


class Guideline(Settings):
    """What a grade means. `notes`: by first-level category, what is particular to it."""

    name: str
    task: str
    definitions: Mapping[Grade, str]
    examples: tuple[Example, ...] = Field(min_length=1)
    notes: Mapping[str, str] = {}

    @model_validator(mode="after")
    def _all_grades(self) -> Self:
        if set(self.definitions) != {0, 1, 2}:
            raise ValueError("definitions are required of the grades 0, 1 and 2")
        return self

    @property
    def version(self) -> str:
        """Names the content: part of the source of every label made under it."""
        return f"{self.name}-{hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]}"

    def text(self) -> str:
        """The guideline as the head of a prompt, examples last."""
        grades = "\n".join(f"{grade}: {self.definitions[grade]}" for grade in (2, 1, 0))
        notes = "".join(f"{category}: {note}\n" for category, note in self.notes.items())
        examples = "\n".join(f"{pair_text(e.query, e.product)}{e.grade}\n" for e in self.examples)
        return f"{self.task}\n\nGrades:\n{grades}\n{notes}\n{examples}\n"


def load_guideline(file: Path | None = None) -> Guideline:
    """The guideline in `file` (YAML), else the one that comes with the library. Raises `UsageError` for a bad one."""
    if file:
        return load_settings(Guideline, file)
    text = resources.files("raylevance.llm").joinpath(DEFAULT).read_text(encoding="utf-8")
    return Guideline.model_validate(yaml.safe_load(text))


def pair_text(query: str, product: str) -> str:
    """One pair as the prompt and its examples write it; the grade follows."""
    return f"Query: {query}\nProduct: {product}\nGrade: "
