"""What the ablations of the recipes share: a grid of variants and seeds, and the outcome that is its report."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError, field_validator, model_validator

from raylevance.artifacts import Artifact
from raylevance.config import Settings, changed
from raylevance.errors import UsageError, nearest
from workloads.run import Run

FULL = "full"
"""The recipe as it is set: what each variant is compared with."""
SUFFIX = "-ablation"
"""Of the names of a grid's artifacts: the newest of the others stay what they were."""

Changes = Mapping[str, Any]
Model = TypeVar("Model", bound=BaseModel)


class GridSettings(Settings):
    """The `seeds` of each variant, and the variants beside the full recipe (None: all of `variants`)."""

    variants: ClassVar[Mapping[str, Changes]]
    """By name the settings of the recipe that are changed."""

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
            if self._is_full(name):
                raise ValueError(f"only=[{name}]: changes nothing, {self.variants[name]} is set already")
        return self

    def chosen(self) -> list[str]:
        """The variants' names, the full recipe's first, but for those that are the full recipe as it is set."""
        names = self.variants if self.only is None else self.only
        return [FULL, *(name for name in dict.fromkeys(names) if not self._is_full(name))]

    def _is_full(self, name: str) -> bool:
        values = self.model_dump(mode="json")
        return changed(values, self.variants[name]) == values

    def variant(self, recipe: type[Model], name: str, seed: int) -> Model:
        """The settings of `recipe`, changed, under `seed`. Raises `UsageError` where the two do not go together."""
        shared = self.model_dump(mode="json", exclude={"seeds", "only"})
        try:
            return recipe.model_validate(changed(shared, {**self.variants[name], "seed": seed}))
        except ValidationError as error:
            raise UsageError(f"variant {name!r}: {error.errors()[0]['msg']}; leave it out (only=[...])") from None


@dataclass(frozen=True)
class GridOutcome:
    """The report of a run."""

    run: Run
    report: Artifact

    def as_json(self) -> dict[str, Any]:
        return {"report": self.report.ref, **self.report.metrics}
