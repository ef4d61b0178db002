"""Binary cross-entropy over pairs, and over the labels of queries."""

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


def multi_label_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the sum over queries i and labels j of

        L = -w_i * ( y_ij * log(sigma(z_ij)) + (1 - y_ij) * log(1 - sigma(z_ij)) )

    with logits z, soft targets y in [0, 1] and weights w of the queries. As above, the sum is not divided.

    Shapes: `logits` and `targets` [n, labels], `weights` [n]. The result is a scalar.

    Source: SSUF (arXiv 2506.21049), prediction and loss; weights of sources are our choice.
    """
    return functional.binary_cross_entropy_with_logits(
        logits, targets.to(logits.dtype), weight=weights.to(logits.dtype)[:, None], reduction="sum"
    )
