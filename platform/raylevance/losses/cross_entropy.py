"""Class-weighted cross-entropy over grades."""

import torch
from torch.nn import functional


def weighted_cross_entropy(logits: torch.Tensor, grades: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the sum over pairs of

        L = -w_g * log( exp(z_g) / sum_{c} exp(z_c) )

    with logits z and g the grade of the pair. Unlike PyTorch's mean over the weights of a batch, the sum lets the
    losses of the parts of a batch add up to that of the whole.

    Shapes: `logits` z [n, classes], `grades` int64 [n], `weights` w [classes]. The result is a scalar.
    """
    return functional.cross_entropy(logits, grades, weight=weights.to(logits.dtype), reduction="sum")


def balanced_weights(counts: torch.Tensor) -> torch.Tensor:
    """Return the class weights n / (classes * n_c), where class c has n_c of the n examples. An empty class gets 0.

    All classes then have the same total weight, and the mean weight of an example is 1 (our choice, as scikit-learn's).

    Shapes: `counts` n_c and the result are [classes].
    """
    weights = counts.sum() / (len(counts) * counts.clamp(min=1).double())
    return torch.where(counts > 0, weights, 0.0)
