"""Gradients of a batch computed in parts, with the graph of one part in memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch

from raylevance.models.encoder import Encoder
from raylevance.training.text_groups import ForwardOptions, TextGroup, embed_group, in_batch_order


def backward_each(
    losses: Iterable[torch.Tensor],
    total: torch.Tensor,
    combine: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Backpropagate each loss before the next one is computed, and return `total` plus the sum of the losses.

    `losses` should be a generator, so that only the graph of one loss is in memory. They are scalars, or vectors of
    terms, which `combine` reduces to the scalar that is backpropagated. `total` is a zero of their shape and device.
    """
    for loss in losses:
        (combine(loss) if combine else loss).backward()
        total += loss.detach()
    return total


def backward_through_vectors(
    encoder: Encoder,
    groups: Sequence[TextGroup],
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    options: ForwardOptions,
) -> torch.Tensor:
    """Add the gradient of a loss of the texts' vectors to the parameters, and return the loss as a scalar.

    `groups` hold the texts of a batch. `loss_of` maps their vectors [n, d], in the order of the batch's rows, to a
    scalar.

    With `options.gradcache_chunk` the gradient is computed by GradCache. Source: Gao et al. 2021 (arXiv 2101.06983).
    """
    if options.gradcache_chunk is not None:
        return _backward_by_gradcache(encoder, groups, loss_of, options)
    loss = loss_of(in_batch_order(encoder, groups, [embed_group(encoder, group, options) for group in groups]))
    loss.backward()
    return loss.detach()


def _backward_by_gradcache(
    encoder: Encoder,
    groups: Sequence[TextGroup],
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    options: ForwardOptions,
) -> torch.Tensor:
    """Compute the gradient of the whole batch with the graph of one group in memory.

    The vectors are computed without a graph, and the loss gives its gradient with respect to them. Each group is then
    computed again, with a graph and the same dropout, to carry that gradient to the parameters.
    """
    vectors, states = embed_without_graph(encoder, groups, options)
    leaf = vectors.requires_grad_()
    loss = loss_of(leaf)
    loss.backward()
    assert leaf.grad is not None
    backward_through_groups(encoder, groups, states, leaf.grad, options)
    return loss.detach()


def embed_without_graph(
    encoder: Encoder, groups: Sequence[TextGroup], options: ForwardOptions
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the vectors [n, d] of the texts of `groups`, in the order of the rows, and the random state of each group.

    With these states `backward_through_groups` draws the same dropout.
    """
    states, vectors = [], []
    for group in groups:
        states.append(_random_state(encoder.device))
        with torch.no_grad():
            vectors.append(embed_group(encoder, group, options))
    return in_batch_order(encoder, groups, vectors).detach(), states


def backward_through_groups(
    encoder: Encoder,
    groups: Sequence[TextGroup],
    states: Sequence[torch.Tensor],
    gradient: torch.Tensor,
    options: ForwardOptions,
) -> None:
    """Carry the gradient [n, d] of the vectors of `embed_without_graph` to the parameters, one group after another."""
    for group, state in zip(groups, states, strict=True):
        with _from_random_state(state, encoder.device):
            embed_group(encoder, group, options).backward(gradient[group.rows])


def _random_state(device: torch.device) -> torch.Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


@contextmanager
def _from_random_state(state: torch.Tensor, device: torch.device) -> Iterator[None]:
    """Draw random numbers, such as those of dropout, from `state` inside the block, and as before after it."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if cuda else []):
        if cuda:
            torch.cuda.set_rng_state(state, device)
        else:
            torch.set_rng_state(state)
        yield
