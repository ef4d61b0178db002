"""Objectives of contrastive training: modules that map the vectors of a batch to a loss."""

from abc import abstractmethod

import torch
from torch import nn

from raylevance.losses.circle import Boundaries, multi_class_circle
from raylevance.losses.consistency import consistency_loss
from raylevance.losses.infonce import in_batch_infonce
from raylevance.losses.supcon import label_weighted_supcon
from raylevance.losses.temperature import Temperature
from raylevance.losses.triplet import EQUAL_WITHIN, graded_triplet
from raylevance.training.collective import gather
from raylevance.training.tasks.contrastive.instance_plan import InstanceBatch


class Objective(nn.Module):
    """A loss that is summed over instances, with the parameters that only training needs.

    `objective(queries [B, d], items [N, d], batch)` returns this worker's share of the loss as a scalar.

    - `in_batch`: whether the loss takes one positive item for each instance, and the items of the whole batch as
      negatives.
    - `equal_within`: labels that differ by this or less count as equal; the loss learns from two that do not.
    - `variant_weight`: weight of the distance between queries and their misspelt variants.
    """

    in_batch = False
    equal_within = 0.0
    variant_weight = 1.0

    @abstractmethod
    def forward(self, queries: torch.Tensor, items: torch.Tensor, batch: InstanceBatch) -> torch.Tensor:
        """Return the loss of unit vectors of the queries [B, d] and the items [N, d] of `batch`, as a scalar."""

    def with_variants(self, vectors: torch.Tensor, batch: InstanceBatch) -> torch.Tensor:
        """Return the loss of all texts of `batch`, including the distance between queries and variants, as a scalar.

        `vectors` [B + N + V, d] are unit vectors of the queries, the items and the variants, in this order.
        """
        queries, items, variants = vectors.split([len(batch.queries), len(batch.items), len(batch.variants)])
        loss: torch.Tensor = self(queries, items, batch)
        return loss + self.variant_weight * consistency_loss(queries[batch.variant_of], variants)

    def logged(self) -> dict[str, torch.Tensor]:
        """Return scalars to log with the loss, by name."""
        return {}


class SupCon(Objective):
    """Label-weighted SupCon within each instance, with a learned temperature."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.scale = Temperature(temperature)

    def forward(self, queries: torch.Tensor, items: torch.Tensor, batch: InstanceBatch) -> torch.Tensor:
        """Return the loss, as `Objective.forward` does."""
        return label_weighted_supcon(_cosines(queries, items, batch), batch.labels, batch.instance, self.scale())

    def logged(self) -> dict[str, torch.Tensor]:
        """Return the inverse of the learned temperature."""
        return {"scale": self.scale().detach()}


class InfoNCE(Objective):
    """InfoNCE over the items of all workers, with a learned temperature."""

    in_batch = True

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.scale = Temperature(temperature)

    def forward(self, queries: torch.Tensor, items: torch.Tensor, batch: InstanceBatch) -> torch.Tensor:
        """Return the loss, as `Objective.forward` does. Every worker must call it equally often."""
        in_batch = batch.in_batch
        assert in_batch is not None
        all_items = gather(items, in_batch.sizes)
        return in_batch_infonce(queries, all_items, in_batch.positive, self.scale(), in_batch.is_positive)

    def logged(self) -> dict[str, torch.Tensor]:
        """Return the inverse of the learned temperature."""
        return {"scale": self.scale().detach()}


class Triplet(Objective):
    """Triplet loss over pairs of items with different labels within each instance."""

    equal_within = EQUAL_WITHIN

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, queries: torch.Tensor, items: torch.Tensor, batch: InstanceBatch) -> torch.Tensor:
        """Return the loss, as `Objective.forward` does."""
        return graded_triplet(_cosines(queries, items, batch), batch.labels, batch.instance, self.margin)


class Circle(Objective):
    """Multi-class circle loss within each instance."""

    def __init__(self, gamma: float, boundaries: Boundaries, *, detach: bool) -> None:
        super().__init__()
        self.gamma, self.boundaries, self.detach = gamma, boundaries, detach

    def forward(self, queries: torch.Tensor, items: torch.Tensor, batch: InstanceBatch) -> torch.Tensor:
        """Return the loss, as `Objective.forward` does."""
        cosines = _cosines(queries, items, batch)
        return multi_class_circle(
            cosines, batch.labels, batch.instance, self.gamma, boundaries=self.boundaries, detach=self.detach
        )


def _cosines(queries: torch.Tensor, items: torch.Tensor, batch: InstanceBatch) -> torch.Tensor:
    """Return the cosine [N] of each item with the query of its instance."""
    return (queries[batch.instance] * items).sum(dim=-1)
