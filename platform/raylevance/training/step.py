"""The gradient of one batch: forward, loss, backward; whole, or in chunks by GradCache."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from raylevance.losses.consistency import consistency
from raylevance.models.batching import length_groups, pad
from raylevance.models.encoder import Encoder
from raylevance.models.precision import autocast
from raylevance.models.tokenizer import Side
from raylevance.training.tasks.contrastive.batches import Batch
from raylevance.training.tasks.contrastive.objectives import Objective
from raylevance.training.token_file import Tokens


@dataclass(frozen=True)
class Compute:
    """How a step is computed; `batch_tokens` and `chunk` do not change its result.

    `batch_tokens`: tokens of one forward pass, padding included. `chunk`: texts of one forward pass under GradCache,
    None to hold the graph of the whole batch. `dtype`: of autocast, None for float32.
    """

    batch_tokens: int
    chunk: int | None = None
    dtype: torch.dtype | None = None


@dataclass(frozen=True)
class TextGroup:
    """Texts of one side and about one length: `rows` in the batch, `ids` and `mask` [n, t].

    The rows of a batch are its queries, then its items, then the variants of its queries.
    """

    side: Side
    rows: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor | None


def backward(encoder: Encoder, objective: Objective, batch: Batch, compute: Compute) -> torch.Tensor:
    """Add the gradient of the batch to the parameters; returns the loss [], a sum over its instances."""
    batch = _on_device(batch, encoder.device)
    groups = [
        *text_groups(encoder, batch.queries, "query", 0, compute),
        *text_groups(encoder, batch.items, "item", len(batch.queries), compute),
        *text_groups(encoder, batch.variants, "query", len(batch.queries) + len(batch.items), compute),
    ]
    if compute.chunk is not None:
        return _cached_backward(encoder, objective, batch, groups, compute)
    loss = _loss(objective, in_order(encoder, groups, [embed(encoder, group, compute) for group in groups]), batch)
    loss.backward()
    return loss.detach()


def _cached_backward(
    encoder: Encoder, objective: Objective, batch: Batch, groups: Sequence[TextGroup], compute: Compute
) -> torch.Tensor:
    """GradCache (Gao et al. 2021, arXiv 2101.06983): equal to the whole batch, with the graph of one group in memory.

    The vectors are made without a graph, the loss gives its gradient at them, and each group is then made again, with
    the same dropout and a graph, to carry that gradient to the parameters.
    """
    states, vectors = [], []
    for group in groups:
        states.append(_random_state(encoder.device))
        with torch.no_grad():
            vectors.append(embed(encoder, group, compute))
    leaf = in_order(encoder, groups, vectors).detach().requires_grad_()
    loss = _loss(objective, leaf, batch)
    loss.backward()
    for group, state in zip(groups, states, strict=True):
        assert leaf.grad is not None
        with _replaying(state, encoder.device):
            embed(encoder, group, compute).backward(leaf.grad[group.rows])
    return loss.detach()


def _loss(objective: Objective, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
    queries, items, variants = vectors.split([len(batch.queries), len(batch.items), len(batch.variants)])
    loss: torch.Tensor = objective(queries, items, batch)
    return loss + objective.variant_weight * consistency(queries[batch.variant_of], variants)


def text_groups(
    encoder: Encoder, texts: Sequence[Tokens], side: Side, first: int, compute: Compute
) -> Iterator[TextGroup]:
    """The texts [n] of one side, which are the rows `first`..`first + n - 1` of a batch, the longest group first."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    for rows in length_groups(lengths, compute.batch_tokens, compute.chunk):
        ids, mask = pad([texts[row] for row in rows], encoder.tokenize.pad_id)
        masked = None if mask is None else mask.to(encoder.device)
        yield TextGroup(side, torch.from_numpy(rows + first).to(encoder.device), ids.to(encoder.device), masked)


def embed(encoder: Encoder, group: TextGroup, compute: Compute) -> torch.Tensor:
    """Unit vectors float32 [n, d] of a group."""
    with autocast(encoder.device, compute.dtype):
        vectors: torch.Tensor = encoder(group.ids, group.mask, group.side)
    return vectors


def in_order(encoder: Encoder, groups: Sequence[TextGroup], vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The groups' vectors in the order of the batch's rows; a worker without rows still takes part in the backward."""
    if not groups:
        return torch.zeros(0, encoder.dimension, device=encoder.device, requires_grad=True)
    return torch.cat(list(vectors))[torch.cat([group.rows for group in groups]).argsort()]


def _on_device(batch: Batch, device: torch.device) -> Batch:
    tensors = {name: getattr(batch, name).to(device) for name in ("labels", "instance", "variant_of")}
    moved = replace(batch, **tensors)
    if batch.in_batch is None:
        return moved
    layout = replace(batch.in_batch, positive=batch.in_batch.positive.to(device), same=batch.in_batch.same.to(device))
    return replace(moved, in_batch=layout)


def _random_state(device: torch.device) -> torch.Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


@contextmanager
def _replaying(state: torch.Tensor, device: torch.device) -> Iterator[None]:
    """Dropout inside the block draws what it drew from `state` on."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if cuda else []):
        if cuda:
            torch.cuda.set_rng_state(state, device)
        else:
            torch.set_rng_state(state)
        yield
