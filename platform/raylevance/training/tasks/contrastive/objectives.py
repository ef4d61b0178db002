"""What a step minimises: the vectors of a batch to a loss, with the parameters that only training has."""

from abc import abstractmethod

import torch
from torch import nn

from raylevance.losses.circle import Boundaries, multi_class_circle
from raylevance.losses.infonce import in_batch_infonce
from raylevance.losses.supcon import label_weighted_supcon
from raylevance.losses.temperature import Temperature
from raylevance.losses.triplet import graded_triplet
from raylevance.training.collective import gather
from raylevance.training.tasks.contrastive.batches import Batch


class Objective(nn.Module):
    """`objective(queries [B, d], items [N, d], batch)` is the worker's share of a loss that sums over instances.

    `in_batch`: whether it takes one positive item an instance, and the items of the whole batch as negatives.
    `variant_weight`: of `consistency` between queries and their variants, which a step adds.
    """

    in_batch = False
    variant_weight = 1.0

    @abstractmethod
    def forward(self, queries: torch.Tensor, items: torch.Tensor, batch: Batch) -> torch.Tensor: ...

    def logged(self) -> dict[str, torch.Tensor]:
        """Scalars worth a place in the log."""
        return {}


class SupCon(Objective):
    """Label-weighted SupCon within each instance, with a learned temperature."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.scale = Temperature(temperature)

    def forward(self, queries: torch.Tensor, items: torch.Tensor, batch: Batch) -> torch.Tensor:
        return label_weighted_supcon(_scores(queries, items, batch), batch.labels, batch.instance, self.scale())

    def logged(self) -> dict[str, torch.Tensor]:
        return {"scale": self.scale().detach()}


class InfoNCE(Objective):
    """InfoNCE over the items of all workers, with a learned temperature."""

    in_batch = True

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.scale = Temperature(temperature)

    def forward(self, queries: torch.Tensor, items: torch.Tensor, batch: Batch) -> torch.Tensor:
        layout = batch.in_batch
        assert layout is not None
        everyone = gather(items, layout.sizes)
        return in_batch_infonce(queries, everyone, layout.positive, self.scale(), layout.same)

    def logged(self) -> dict[str, torch.Tensor]:
        return {"scale": self.scale().detach()}


class Triplet(Objective):
    """Triplet loss over the graded pairs of each instance."""

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, queries: torch.Tensor, items: torch.Tensor, batch: Batch) -> torch.Tensor:
        return graded_triplet(_scores(queries, items, batch), batch.labels, batch.instance, self.margin)


class Circle(Objective):
    """Multi-class circle loss within each instance."""

    def __init__(self, gamma: float, boundaries: Boundaries, *, detach: bool) -> None:
        super().__init__()
        self.gamma, self.boundaries, self.detach = gamma, boundaries, detach

    def forward(self, queries: torch.Tensor, items: torch.Tensor, batch: Batch) -> torch.Tensor:
        scores = _scores(queries, items, batch)
        return multi_class_circle(
            scores, batch.labels, batch.instance, self.gamma, boundaries=self.boundaries, detach=self.detach
        )


def _scores(queries: torch.Tensor, items: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Cosines [N] of each item with its own query."""
    return (queries[batch.instance] * items).sum(dim=-1)
