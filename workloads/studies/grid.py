"""A grid of variants and seeds, which the ablations of the recipes share, and its outcome."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError, field_validator, model_validator

from raylevance.artifacts import Artifact
from raylevance.config import Settings, with_changes
from raylevance.errors import UsageError, nearest
from workloads.run import Run

FULL = "full"
"""The name of the variant without changes, which every other is compared with."""
SUFFIX = "-ablation"
"""The end of the names of artifacts of a grid, so that the newest version of the recipe's own stays the newest."""

Changes = Mapping[str, Any]
Model = TypeVar("Model", bound=BaseModel)


class GridSettings(Settings):
    """The variants of a grid and their seeds."""

    variants: ClassVar[Mapping[str, Changes]]
    """The settings of the recipe that each variant changes, by the name of the variant."""

    seeds: tuple[NonNegativeInt, ...] = Field((0, 1, 2), min_length=1)
    only: tuple[str, ...] | None = None

    @field_validator("only")
    @classmethod
    def _known(cls, only: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in only or ():
            if name not in cls.variants:
                raise ValueError(f"no variant {name!r}; {nearest(name, list(cls.variants))}")
        return only

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        for name in set(self.only or ()) - {FULL}:
            if reason := self._why_full(name):
                raise ValueError(f"only=[{name}]: changes nothing, {reason}")
            if reason := self.why_unread(name):
                raise ValueError(f"only=[{name}]: measures nothing, {reason}")
        return self

    def chosen(self) -> list[str]:
        """Return the names of the variants to run: the full recipe first, then those that change something."""
        names = self.variants if self.only is None else self.only
        left_out = {FULL, *self.left_out()}
        return [FULL, *(name for name in dict.fromkeys(names) if name not in left_out)]

    def left_out(self) -> dict[str, str]:
        """Return the variants that would measure nothing under these settings, each with the reason."""
        found = {name: self._why_full(name) or self.why_unread(name) for name in self.only or self.variants}
        return {name: reason for name, reason in found.items() if reason and name != FULL}

    def why_unread(self, name: str) -> str | None:
        """Return why nothing reads what the variant changes; None where something does."""
        return None

    def _why_full(self, name: str) -> str | None:
        values, changes = self.model_dump(mode="json"), self.variants[name]
        return f"{changes} is set already" if with_changes(values, changes) == values else None

    def validated(self, recipe: type[Model], name: str, seed: int) -> Model:
        """Return the settings of a variant under `seed`. Raises `ValidationError` when they do not fit each other."""
        shared = self.model_dump(mode="json", include=set(recipe.model_fields))
        return recipe.model_validate(with_changes(shared, {**self.variants[name], "seed": seed}))

    def variant(self, recipe: type[Model], name: str, seed: int) -> Model:
        """Return the settings of a variant under `seed`. Raises `UsageError` when its changes do not fit the others."""
        try:
            return self.validated(recipe, name, seed)
        except ValidationError as error:
            raise UsageError(f"variant {name!r}: {error.errors()[0]['msg']}; leave it out (only=[...])") from None


@dataclass(frozen=True)
class GridOutcome:
    """The report of a grid."""

    run: Run
    report: Artifact

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {"report": self.report.ref, **self.report.metrics}
