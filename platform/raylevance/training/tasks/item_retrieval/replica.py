"""The replica of the item retrieval task: one step on the triggers of a batch.

Source: GCL-MO (arXiv 2307.04322), 4.5: two views, a loss for each objective, and their weighted sum.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from raylevance.losses.mixed_negatives import mixed_negatives
from raylevance.losses.multi_positive import multi_positive_contrastive
from raylevance.losses.trigger_mixture import trigger_mixture_loss
from raylevance.models.item_encoder import ItemEncoder
from raylevance.training.collective import gather
from raylevance.training.epoch_plan import EpochPlan
from raylevance.training.task import TaskReplica, WorkerContext
from raylevance.training.tasks.item_retrieval.batches import EMPTY, Batch, Batches
from raylevance.training.tasks.item_retrieval.histories import Histories, HistoryBatch
from raylevance.training.tasks.item_retrieval.item_nodes import Ints, ItemNodes, View

if TYPE_CHECKING:
    from raylevance.training.tasks.item_retrieval.task import ItemRetrievalSettings

VIEWS = 2
NO_HISTORIES = HistoryBatch(0, EMPTY, EMPTY, np.empty(0, np.float32), EMPTY, EMPTY, EMPTY, EMPTY)


class ItemRetrievalReplica(TaskReplica):
    """An item encoder, and its batches of triggers. Each worker encodes a share of a step's items for all workers.

    - `histories`: the histories that each step also learns from; None for none.
    - `popularity`: what the loss of histories adds to the logit of each item, float32 [items].
    """

    def __init__(
        self,
        model: ItemEncoder,
        nodes: ItemNodes,
        batches: Batches,
        settings: "ItemRetrievalSettings",
        context: WorkerContext,
        histories: Histories | None,
        popularity: npt.NDArray[np.float32],
    ) -> None:
        equal_cost = np.zeros(len(batches.triggers), np.int64)
        super().__init__(model, EpochPlan.shuffled(equal_cost, settings.batch, context.seed), context)
        self._nodes, self._batches, self._settings = nodes, batches, settings
        if settings.id_learning_rate and model.id_rows:
            self.parameter_groups = {"model.ids.": settings.id_learning_rate}
        self.histories = histories
        self._popularity = popularity
        self._losses: dict[str, torch.Tensor] = {}

    def backward(self, step: int) -> torch.Tensor:
        """Add the gradient of this worker's share of `step`, as `TaskReplica.backward` does."""
        histories = self.histories.draw(step) if self.histories else NO_HISTORIES
        batch = self._batches.draw(self._batches.triggers[self.rows(step)], step, histories.targets)
        rows = self.context.share(np.arange(len(batch.triggers)))
        parts = (batch.triggers, batch.candidates, np.unique(histories.triggers))
        views = [self._encoded(parts, step, view) for view in range(VIEWS)]
        loss = self.zero_loss()
        for view, other in (views, views[::-1]):
            loss = loss + self._loss(batch, rows, view[0], other) / VIEWS
            if histories.size:
                scale = self._settings.history_weight * len(batch.triggers) / histories.size / VIEWS
                loss = loss + scale * self._history_loss(histories, batch.candidates, view[2], other[1])
        loss.backward()
        return loss.detach()

    def logged(self) -> dict[str, torch.Tensor]:
        """Return the mean loss of each objective, and of histories, in this worker's share of the latest step.

        It is that of the triggers of the second view among the candidates of the first.
        """
        return self._losses

    def _encoded(self, parts: Sequence[Ints], step: int, view: int) -> list[torch.Tensor]:
        """Return the vectors of each of the `parts` of a step, codes [n], under a view, [n, d]."""
        codes = np.unique(np.concatenate(parts))
        settings = self._settings
        seed = int(np.random.SeedSequence([self.context.seed, step, view]).generate_state(1)[0])
        graph_view = View(settings.neighbours, settings.drop_nodes, settings.perturb_edges, seed)
        size = self.context.world_size
        shares = [codes[rank::size] for rank in range(size)]
        own = self._nodes.encode(self.model, shares[self.context.rank], graph_view)
        vectors = gather(own, [len(share) for share in shares])
        order = np.concatenate(shares)
        place = np.empty(len(codes), np.int64)
        place[np.searchsorted(codes, order)] = np.arange(len(codes))
        return [vectors[torch.from_numpy(place[np.searchsorted(codes, part)])] for part in parts]

    def _loss(self, batch: Batch, rows: Ints, view: torch.Tensor, other: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the weighted sum of the losses of the triggers `rows`.

        Triggers have their vectors of one `view` [triggers, d], candidates and each trigger's own item those of the
        `other`.
        """
        settings, device = self._settings, self.model.device
        triggers = view[torch.from_numpy(rows)]
        cosines = triggers @ other[1].T
        total = self.zero_loss() + 0.0 * cosines.sum()
        for name in self._batches.objectives:
            positives = torch.from_numpy(self._batches.positive_weights(batch, name, rows)).to(device)
            negatives = torch.from_numpy(self._batches.negative_weights(batch, name, rows)).to(device)
            scores = cosines
            if settings.mixed_negatives:
                draws = torch.from_numpy(self._batches.mix_draws(batch, name, rows)).to(device)
                mixed, weights = mixed_negatives(cosines, positives, negatives, draws)
                scores = torch.cat([cosines, mixed], dim=1)
                negatives = torch.cat([negatives, weights], dim=1)
                positives = functional.pad(positives, (0, mixed.shape[1]))
            losses = multi_positive_contrastive(
                scores, positives, negatives, settings.temperature, settings.loss == "other-positives"
            )
            has_positive = positives.sum(dim=1) > 0
            self._losses[f"loss_{name}"] = losses.detach().sum() / has_positive.sum().clamp(min=1)
            total = total + settings.weights.of(name) * losses.sum()
        if settings.self_weight:
            total = total + settings.self_weight * self._self_loss(rows, triggers, other[0])
        return total

    def _history_loss(
        self, histories: HistoryBatch, candidates: Ints, triggers: torch.Tensor, others: torch.Tensor
    ) -> torch.Tensor:
        """Return the summed losses of this worker's share of `histories`.

        `triggers` [t, d] are the vectors of all their triggers, each once, ascending; `others` [c, d] those of the
        `candidates`.
        """
        items, device = self._batches.items, self.model.device
        mine = histories.share(self.context)
        own = np.unique(mine.triggers)
        vectors = triggers[torch.from_numpy(np.searchsorted(np.unique(histories.triggers), own))]
        weights = np.zeros((mine.size, len(own)), np.float32)
        weights[mine.trigger_rows, np.searchsorted(own, mine.triggers)] = mine.weights
        excluded, targets = np.zeros((2, mine.size, len(candidates)), np.float32)
        # An item is a candidate once: neither a trigger nor what a target is by its other code is in the denominator.
        other_codes = (mine.targets + items) % (2 * items)
        for rows, codes in (
            (mine.excluded_rows, mine.excluded),
            (mine.excluded_rows, mine.excluded + items),
            (mine.target_rows, other_codes),
        ):
            places = np.minimum(np.searchsorted(candidates, codes), len(candidates) - 1)
            hit = candidates[places] == codes
            excluded[rows[hit], places[hit]] = 1
        targets[mine.target_rows, np.searchsorted(candidates, mine.targets)] = 1
        targets /= np.maximum(targets.sum(axis=1, keepdims=True), 1)
        popularity = np.where(candidates < items, self._popularity[candidates % items], 0).astype(np.float32)
        logits = vectors @ others.T / self._settings.temperature + torch.from_numpy(popularity).to(device)
        given = (torch.from_numpy(part).to(device) for part in (weights, targets, excluded > 0))
        losses = trigger_mixture_loss(logits, *given) if mine.size else logits.sum(dim=1)
        self._losses["loss_histories"] = losses.detach().mean() if mine.size else self.zero_loss()
        return losses.sum()

    def _self_loss(self, rows: Ints, triggers: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Return the loss of finding each trigger's own vector of the other view among those of the batch."""
        own = torch.zeros(len(rows), len(other), device=triggers.device)
        own[torch.arange(len(rows)), torch.from_numpy(rows)] = 1
        return multi_positive_contrastive(triggers @ other.T, own, 1 - own, self._settings.temperature).sum()
