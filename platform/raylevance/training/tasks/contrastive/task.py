"""The contrastive task: an encoder learns to tell the items of a query apart, or those of other queries."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from raylevance.losses import temperature
from raylevance.losses.circle import PAPER, Boundaries
from raylevance.models.encoder import Encoder, read_settings
from raylevance.training.settings import TrainSettings
from raylevance.training.step import Compute, backward
from raylevance.training.task import Place, Trainee, located
from raylevance.training.tasks.contrastive.batches import BatchPlan
from raylevance.training.tasks.contrastive.instances import Instances, tokenise
from raylevance.training.tasks.contrastive.objectives import Circle, InfoNCE, Objective, SupCon, Triplet
from raylevance.training.token_file import Ints

TOKENS = "tokens.arrow"


class ContrastiveSettings(TrainSettings):
    """`batch` counts instances: a query and its items."""

    loss: Literal["supcon", "infonce", "triplet", "circle"] = "supcon"
    reduction: Literal["sum", "mean"] = "sum"
    """Over the instances of a batch (the paper found sum the more stable, since batches differ in what they hold)."""
    accumulate: PositiveInt = 1
    """Parts that each worker's share of a batch is computed in, one after the other; for losses within an instance."""
    gradcache_chunk: PositiveInt | None = None
    """Texts of one forward pass with a graph, for batches that do not fit in memory (GradCache)."""
    temperature: PositiveFloat = temperature.START
    """Where the learned temperature of supcon and infonce starts."""
    temperature_learning_rate: PositiveFloat = 1e-3
    margin: PositiveFloat = 0.1
    """Of triplet."""
    gamma: PositiveFloat = 32
    """Of circle: how sharply it weighs what is far from its optimum (the paper states none)."""
    detach_weights: bool = True
    """Of circle: whether its weights carry no gradient."""
    variant_weight: NonNegativeFloat = 1.0
    """Of the distance between a query and its misspelt variant, where instances have one (`SpellingSettings`)."""
    boundaries: Boundaries = PAPER
    """Of circle: where the grades' bands begin and end."""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.loss == "infonce" and self.accumulate > 1:
            raise ValueError("accumulate would cut the negatives of infonce: set gradcache_chunk, which keeps them all")
        if self.accumulate > self.batch:
            raise ValueError(f"accumulate={self.accumulate} parts of a batch of {self.batch} would leave some empty")
        return self


@dataclass
class Contrastive:
    """Train the encoder at `encoder` on `instances` (Parquet: query, items, labels)."""

    encoder: Path
    instances: Path
    settings: ContrastiveSettings

    def __post_init__(self) -> None:
        self.encoder = located(self.encoder)

    def check(self) -> None:
        read_settings(self.encoder)

    def describe(self) -> dict[str, Any]:
        return {"encoder": str(self.encoder), "instances": str(self.instances)}

    def prepare(self, folder: Path) -> None:
        """Tokenise the instances. Raises `RaylevanceError` for bad ones, and where none has what the loss needs."""
        tokenise(self.instances, self.encoder, folder / TOKENS)
        self._plan(Place(folder, seed=0, rank=0, world=1, dtype=None))

    def open(self, model: Path | None, place: Place) -> "EncoderTrainee":
        return EncoderTrainee(Encoder.load(model or self.encoder), self._plan(place), self.settings, place.dtype)

    def _plan(self, place: Place) -> BatchPlan:
        return BatchPlan(
            Instances(place.folder / TOKENS),
            batch=self.settings.batch,
            seed=place.seed,
            in_batch=build_objective(self.settings).in_batch,
            rank=place.rank,
            world=place.world,
        )


class EncoderTrainee(Trainee):
    """An encoder, the objective that it learns by, and the batches of instances."""

    def __init__(
        self, encoder: Encoder, plan: BatchPlan, settings: ContrastiveSettings, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        self.model = encoder
        self.objective = build_objective(settings)
        self.extra_rate = settings.temperature_learning_rate
        self.steps_per_epoch = plan.steps_per_epoch
        self._plan, self._settings, self._dtype = plan, settings, dtype

    def rows(self, step: int) -> Ints:
        return self._plan.rows(step)

    def backward(self, step: int) -> torch.Tensor:
        compute = Compute(self.model.default_batch_tokens, self._settings.gradcache_chunk, self._dtype)
        batches = self._plan.load(step, self._settings.accumulate)
        loss = torch.stack([backward(self.model, self.objective, batch, compute) for batch in batches]).sum()
        if self._settings.reduction == "mean":
            for parameter in self.parameters():
                if parameter.grad is not None:
                    parameter.grad /= len(self.rows(step))
        return loss

    def pairs(self, rows: Ints) -> int:
        return self._plan.pairs(rows)

    def logged(self) -> dict[str, torch.Tensor]:
        return self.objective.logged()


def build_objective(settings: ContrastiveSettings) -> Objective:
    objective = _objective(settings)
    objective.variant_weight = settings.variant_weight
    return objective


def _objective(settings: ContrastiveSettings) -> Objective:
    if settings.loss == "supcon":
        return SupCon(settings.temperature)
    if settings.loss == "infonce":
        return InfoNCE(settings.temperature)
    if settings.loss == "circle":
        return Circle(settings.gamma, settings.boundaries, detach=settings.detach_weights)
    return Triplet(settings.margin)
