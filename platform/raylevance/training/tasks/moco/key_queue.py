"""The queue of momentum contrast: the newest keys, and by what they are known."""

import torch
from torch import nn


class KeyQueue(nn.Module):
    """The newest K keys; the oldest leave first. It is a module so that a checkpoint keeps it.

    `vectors` [K, d] and `labels` [K, L] int64: what each key is known by, such as the id of its node. `count` []:
    keys ever put in; the next one goes to place `count % K`, so batches need not divide K. Source: MoCo (He et al.
    2020, arXiv 1911.05722), 3.2.
    """

    vectors: torch.Tensor
    labels: torch.Tensor
    count: torch.Tensor

    def __init__(self, size: int, dimension: int, labels: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(size, dimension))
        self.register_buffer("labels", torch.zeros(size, labels, dtype=torch.int64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def put(self, vectors: torch.Tensor, labels: torch.Tensor) -> None:
        """Put in `vectors` [n, d] with their `labels` [n, L] in this order; n is at most K."""
        places = (self.count + torch.arange(len(vectors), device=self.count.device)) % len(self.vectors)
        self.vectors[places] = vectors
        self.labels[places] = labels
        self.count += len(vectors)

    def unfilled(self) -> torch.Tensor:
        """[K] bool: places where no key has been put yet."""
        return torch.arange(len(self.vectors), device=self.count.device) >= self.count

    def fill(self) -> torch.Tensor:
        """[]: the share of the places that hold a key."""
        return (~self.unfilled()).float().mean()


def matches(labels: torch.Tensor, wanted: torch.Tensor, owner: torch.Tensor, rows: int) -> torch.Tensor:
    """[rows, n] bool: whether label j is one of those that row i wants.

    `labels` [n] int64, n above 0; `wanted` [w] int64, each by the row `owner` [w] in 0..rows-1.
    """
    distinct, place_of_label = labels.unique(return_inverse=True)
    place = torch.searchsorted(distinct, wanted).clamp(max=len(distinct) - 1)
    found = distinct[place] == wanted
    table = torch.zeros(rows, len(distinct), dtype=torch.bool, device=labels.device)
    table[owner[found], place[found]] = True
    return table[:, place_of_label]
