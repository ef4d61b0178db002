"""Weighted binary cross-entropy over pairs."""

import torch
from torch.nn import functional


def weighted_binary_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The sum over pairs of

        L = -w * ( y * log(sigma(z)) + (1 - y) * log(1 - sigma(z)) )

    A sum, divided neither by the pairs nor by their weights: parts of a batch, on however many workers, then add up to
    the whole. Source: a BCE in which behaviour weighs less than people, our reading of CIKM 2022
    (DOI 10.1145/3511808.3557143).

    `logits` z, `labels` y (0 or 1) and `weights` w, each [n]. Returns a scalar.
    """
    return functional.binary_cross_entropy_with_logits(
        logits, labels.to(logits.dtype), weight=weights.to(logits.dtype), reduction="sum"
    )
