"""The replica of a task whose examples are pairs, each with a loss of its own."""

from abc import abstractmethod

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from raylevance.models.batching import length_groups
from raylevance.training.epoch_plan import StepPlan
from raylevance.training.gradient_accumulation import backward_each
from raylevance.training.task import TaskReplica, WorkerContext
from raylevance.training.token_file import Ints


class PairReplica(TaskReplica):
    """A replica that computes a step in groups of pairs of similar length, with the graph of one group in memory.

    A subclass implements `group_loss`. `lengths` [n] are the tokens of each pair.
    """

    def __init__(
        self, model: nn.Module, plan: StepPlan, context: WorkerContext, lengths: npt.NDArray[np.int32]
    ) -> None:
        super().__init__(model, plan, context)
        self._lengths = lengths

    @abstractmethod
    def group_loss(self, pairs: Ints) -> torch.Tensor:
        """Return the loss of the pairs with the numbers `pairs` [n] as a scalar, summed over them."""

    def backward(self, step: int) -> torch.Tensor:
        """Add the gradient of this worker's share of `step`, as `TaskReplica.backward` does."""
        share = self.context.share(self.rows(step))
        groups = length_groups(self._lengths[share], self.batch_tokens)
        return backward_each((self.group_loss(share[group]) for group in groups), self.zero_loss())
