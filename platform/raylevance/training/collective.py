"""Communication between the workers of a step: gathered vectors, and sums of gradients and values."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import distributed


def world_size() -> int:
    """Return the number of workers, 1 outside a distributed run."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def gather(vectors: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Return the vectors of all workers [sum(sizes), d], in the order of ranks.

    `vectors` [sizes[rank], d] are those of this worker. Gradients flow back to the worker that computed each vector.
    Every worker must call this function, and then backward, equally often.
    """
    if world_size() == 1:
        return vectors
    gathered: torch.Tensor = _Gather.apply(vectors, tuple(sizes))  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    """An all_gather whose backward pass sums the gradients of each vector over the losses of all workers."""

    @staticmethod
    def forward(ctx: Any, vectors: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
        rank = distributed.get_rank()
        ctx.own = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        padded = vectors.new_zeros(max(sizes), vectors.shape[1])
        padded[: len(vectors)] = vectors
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        total = gradients[0].contiguous()
        distributed.all_reduce(total)
        return total[ctx.own], None


def sum_gradients(parameters: Sequence[torch.nn.Parameter], loss: torch.Tensor) -> torch.Tensor:
    """Replace every gradient by its sum over the workers, in one all_reduce, and return the sum of the scalar `loss`.

    It is a sum, unlike the mean of DistributedDataParallel, because the loss is summed over the examples of the whole
    batch and each worker has added up its own share.
    """
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if world_size() == 1:
        return loss
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), loss.reshape(1)])
    distributed.all_reduce(flat)
    parts = flat[:-1].split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
    return flat[-1].clone()  # A view would keep every gradient in memory.


def sum_over_workers(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of the workers' `values`, which have one shape, as a new tensor without a gradient."""
    total = values.detach().clone()
    if world_size() > 1:
        distributed.all_reduce(total)
    return total
