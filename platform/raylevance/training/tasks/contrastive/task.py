"""The contrastive task: an encoder learns to rank the items of a query, or to tell them from those of other queries."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from raylevance.errors import RaylevanceError
from raylevance.losses.circle import PAPER_BOUNDARIES, Boundaries
from raylevance.losses.temperature import INITIAL_TEMPERATURE, MIN_TEMPERATURE
from raylevance.models.encoder import Encoder
from raylevance.progress import status
from raylevance.training.gradient_accumulation import backward_through_vectors
from raylevance.training.settings import TrainSettings
from raylevance.training.task import TOKENS, TaskReplica, TextTask, WorkerContext
from raylevance.training.tasks.contrastive.instance_plan import InstanceBatch, InstancePlan
from raylevance.training.tasks.contrastive.objectives import Circle, InfoNCE, Objective, SupCon, Triplet
from raylevance.training.tasks.contrastive.tokenised_instances import INSTANCES, TokenisedInstances
from raylevance.training.text_groups import ForwardOptions, text_groups
from raylevance.training.token_file import Ints, RowKind

SUPCON_TEMPERATURE = 0.5
"""Where SupCon's learned temperature starts. The paper states none; at InfoNCE's 0.07 a stage unlearns to rank
(docs/decisions/0016-temperature-of-supcon.md)."""


class ContrastiveSettings(TrainSettings):
    """Settings of contrastive training. `batch` counts instances, each a query with its items."""

    loss: Literal["supcon", "infonce", "triplet", "circle"] = "supcon"
    """Loss that the encoder is trained with. infonce takes the items of other queries as negatives; the others compare
    the items of one query by their labels."""
    reduction: Literal["sum", "mean"] = "sum"
    """How losses of the instances of a batch are combined. The paper found sum more stable than mean. AdamW ignores the
    scale of a loss, so here the two differ by `clip_norm`, which cuts more of a sum. Source: Mine and Refine (arXiv
    2602.17654)."""
    accumulate: PositiveInt = 1
    """Number of parts in which each worker computes its share of a batch, one after another, to save memory. It is not
    for infonce, whose negatives are the whole batch."""
    gradcache_chunk: PositiveInt | None = None
    """Texts of one forward pass with a graph under GradCache, for batches that do not fit in memory. None holds the
    graph of the whole batch."""
    temperature: float | None = Field(None, ge=MIN_TEMPERATURE)
    """Value at which the learned temperature of supcon and infonce starts; null for 0.5 with supcon and 0.07 with
    infonce. Supcon spreads its probability over all positives of a query, and at a low temperature all vectors collapse
    towards each other."""
    temperature_learning_rate: PositiveFloat = 1e-3
    """Highest learning rate of the temperature. Its logarithm moves by about this much in a step, so at the model's
    rate it would stay where it starts (our choice)."""
    margin: PositiveFloat = 0.1
    """Margin of the triplet loss, a difference of cosines."""
    gamma: PositiveFloat = 32
    """Scale of the circle loss: the higher, the more it weighs the cosines that are furthest from their optimum (the
    paper states no value)."""
    detach_weights: bool = True
    """Whether the weights of the circle loss are treated as constants, without a gradient."""
    variant_weight: NonNegativeFloat = 1.0
    """Weight of the distance between a query and its misspelt variant, for instances that have one."""
    boundaries: Boundaries = PAPER_BOUNDARIES
    """Cosines at which the circle loss begins and ends the band of each grade."""

    @model_validator(mode="after")
    def _parts_fit_the_loss_and_the_batch(self) -> Self:
        if self.loss == "infonce" and self.accumulate > 1:
            raise ValueError("accumulate would cut the negatives of infonce: set gradcache_chunk, which keeps them all")
        if self.accumulate > self.batch:
            raise ValueError(
                f"accumulate={self.accumulate} parts of a batch of {self.batch} would leave some empty: lower it"
            )
        return self

    @property
    def initial_temperature(self) -> float:
        """Where the learned temperature starts."""
        return self.temperature or (SUPCON_TEMPERATURE if self.loss == "supcon" else INITIAL_TEMPERATURE)


@dataclass
class Contrastive(TextTask[ContrastiveSettings]):
    """Train the encoder at `model` on the instances in `data`, whose columns `INSTANCES` states."""

    row_kind: ClassVar[RowKind] = INSTANCES

    def prepare(self, run_dir: Path) -> None:
        """Tokenise the instances, and say how many the loss could learn nothing from.

        Raises `RaylevanceError` as `write_tokens` does, if no instance has the labels that the loss needs, and for a
        label above 2 with circle, which has a band for each grade.
        """
        super().prepare(run_dir)
        highest = TokenisedInstances(run_dir / TOKENS).labels.max(initial=0)
        if self.settings.loss == "circle" and highest > 2:
            raise RaylevanceError(f"{self.data}: has the label {highest:g}; the circle loss takes the grades 0 to 2")
        plan = self._plan(WorkerContext(run_dir, seed=0))
        count = len(plan.instances)
        if left_out := count - len(plan.usable):
            lacking = f"{self.settings.loss} learns from those with {plan.required}"
            status(f"{self.data}: {left_out} of {count} training instances are left out: {lacking}")

    def open(self, model: Path | None, context: WorkerContext) -> "ContrastiveReplica":
        """Return a replica of the task, as `Task.open` does."""
        return ContrastiveReplica(Encoder.load(model or self.model), self._plan(context), self.settings, context)

    def _plan(self, context: WorkerContext) -> InstancePlan:
        instances = TokenisedInstances(context.run_dir / TOKENS)
        objective = build_objective(self.settings)
        return InstancePlan(
            instances,
            context,
            batch=self.settings.batch,
            in_batch=objective.in_batch,
            equal_within=objective.equal_within,
        )


class ContrastiveReplica(TaskReplica):
    """An encoder, the objective that trains it, and the batches of instances."""

    plan: InstancePlan

    def __init__(
        self, encoder: Encoder, plan: InstancePlan, settings: ContrastiveSettings, context: WorkerContext
    ) -> None:
        super().__init__(encoder, plan, context)
        self.settings = settings
        self.objective = build_objective(settings)
        if list(self.objective.parameters()):
            self.parameter_groups = {"objective.": settings.temperature_learning_rate}

    def backward(self, step: int) -> torch.Tensor:
        """Add the gradient of this worker's share of `step`, as `TaskReplica.backward` does."""
        options = ForwardOptions(self.batch_tokens, self.settings.gradcache_chunk, self.context.autocast_dtype)
        batches = self.plan.load(step, self.settings.accumulate)
        loss = torch.stack([backward_batch(self.model, self.objective, batch, options) for batch in batches]).sum()
        if self.settings.reduction == "mean":
            for parameter in self.parameters():
                if parameter.grad is not None:
                    parameter.grad /= len(self.rows(step))
        return loss

    def pairs(self, rows: Ints) -> int:
        """Return the number of query-item pairs that the instances `rows` train on."""
        return self.plan.pairs(rows)

    def logged(self) -> dict[str, torch.Tensor]:
        """Return what the objective logs."""
        return self.objective.logged()


def backward_batch(
    encoder: Encoder, objective: Objective, batch: InstanceBatch, options: ForwardOptions
) -> torch.Tensor:
    """Add the gradient of `batch` to the parameters, and return its loss as a scalar, summed over its instances."""
    batch = batch.to(encoder.device)
    queries, items = len(batch.queries), len(batch.items)
    groups = [
        *text_groups(encoder, batch.queries, "query", 0, options),
        *text_groups(encoder, batch.items, "item", queries, options),
        *text_groups(encoder, batch.variants, "query", queries + items, options),
    ]
    return backward_through_vectors(encoder, groups, partial(objective.with_variants, batch=batch), options)


def build_objective(settings: ContrastiveSettings) -> Objective:
    """Build the objective that `settings` name."""
    objective = _loss_of(settings)
    objective.variant_weight = settings.variant_weight
    return objective


def _loss_of(settings: ContrastiveSettings) -> Objective:
    if settings.loss == "supcon":
        return SupCon(settings.initial_temperature)
    if settings.loss == "infonce":
        return InfoNCE(settings.initial_temperature)
    if settings.loss == "circle":
        return Circle(settings.gamma, settings.boundaries, detach=settings.detach_weights)
    return Triplet(settings.margin)
