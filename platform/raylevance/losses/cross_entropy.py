"""Class-weighted cross-entropy over grades."""

import torch
from torch.nn import functional


def weighted_cross_entropy(logits: torch.Tensor, grades: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The sum over pairs of

        L = -w_g * log( exp(z_g) / sum_{c} exp(z_c) )    for the pair's grade g

    A sum, not PyTorch's mean over the weights of a batch: parts of a batch then add up to the whole.

    `logits` z [n, classes], `grades` [n] int64, `weights` w [classes]. Returns a scalar.
    """
    return functional.cross_entropy(logits, grades, weight=weights.to(logits.dtype), reduction="sum")


def balanced_weights(counts: torch.Tensor) -> torch.Tensor:
    """n / (classes * n_c) for `counts` n_c [classes] of n examples; a class without any gets 0.

    Every class then weighs the same in all, and the mean weight of an example is 1 (our choice, as scikit-learn's).
    """
    weights = counts.sum() / (len(counts) * counts.clamp(min=1).double())
    return torch.where(counts > 0, weights, 0.0)
