"""Consistency loss, which draws the vector of a misspelt query to that of the clean query."""

import torch


def consistency_loss(queries: torch.Tensor, variants: torch.Tensor) -> torch.Tensor:
    """Return the sum of `1 - cosine` over pairs of a query and its misspelt variant. Both sides get gradients.

    Shapes: `queries` and `variants` are unit vectors [V, d]. The result is a scalar.

    Source: Mine and Refine (arXiv 2602.17654), Table 6, names the regularisation without a formula; this one is our
    choice.
    """
    return (1 - (queries * variants).sum(dim=-1)).sum()
