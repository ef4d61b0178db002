"""Weighted binary cross-entropy over pairs."""

import torch
from torch.nn import functional


def weighted_binary_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the sum over pairs of

        L = -w * ( y * log(sigma(z)) + (1 - y) * log(1 - sigma(z)) )

    with logits z, labels y and weights w. The sum is divided neither by the number of pairs nor by their weights, so
    that the losses of the parts of a batch, on any number of workers, add up to that of the whole.

    Shapes: `logits`, `labels` (0 or 1) and `weights` are [n]. The result is a scalar.

    Source: CIKM 2022 (DOI 10.1145/3511808.3557143); that behaviour weighs less than human judgements is our reading.
    """
    return functional.binary_cross_entropy_with_logits(
        logits, labels.to(logits.dtype), weight=weights.to(logits.dtype), reduction="sum"
    )
