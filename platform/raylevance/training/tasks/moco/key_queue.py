"""The queue of momentum contrast, which holds the newest keys and their labels."""

import torch
from torch import nn


class KeyQueue(nn.Module):
    """The newest K keys; the oldest key leaves first. It is a module so that checkpoints keep it.

    - `vectors` [K, d]: the keys.
    - `labels` [K, L] int64: numbers that identify each key, such as the id of its node.
    - `count` []: number of keys ever added. The next key goes to slot `count % K`, so batches need not divide K.

    Source: MoCo (He et al. 2020, arXiv 1911.05722), section 3.2.
    """

    vectors: torch.Tensor
    labels: torch.Tensor
    count: torch.Tensor

    def __init__(self, size: int, dimension: int, labels: int) -> None:
        """Make an empty queue of `size` keys with `dimension` numbers and `labels` labels each."""
        super().__init__()
        self.register_buffer("vectors", torch.zeros(size, dimension))
        self.register_buffer("labels", torch.zeros(size, labels, dtype=torch.int64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def put(self, vectors: torch.Tensor, labels: torch.Tensor) -> None:
        """Add the keys `vectors` [n, d] with `labels` [n, L] in this order; n must not exceed K."""
        slots = (self.count + torch.arange(len(vectors), device=self.count.device)) % len(self.vectors)
        self.vectors[slots] = vectors
        self.labels[slots] = labels
        self.count += len(vectors)

    def unfilled(self) -> torch.Tensor:
        """Return a mask [K] of the slots that hold no key yet."""
        return torch.arange(len(self.vectors), device=self.count.device) >= self.count

    def fill(self) -> torch.Tensor:
        """Return the share of the slots that hold a key, as a scalar."""
        return (~self.unfilled()).float().mean()


def labels_in_sets(labels: torch.Tensor, members: torch.Tensor, set_of: torch.Tensor, sets: int) -> torch.Tensor:
    """Return a matrix [sets, n] that says whether label j belongs to set i.

    `labels` [n] int64, n above 0. `members` [m] int64 are the members of all sets, and `set_of` [m] int64 the set of
    each, from 0 to `sets - 1`.
    """
    distinct, column_of_label = labels.unique(return_inverse=True)
    column = torch.searchsorted(distinct, members).clamp(max=len(distinct) - 1)
    is_label = distinct[column] == members
    table = torch.zeros(sets, len(distinct), dtype=torch.bool, device=labels.device)
    table[set_of[is_label], column[is_label]] = True
    return table[:, column_of_label]
