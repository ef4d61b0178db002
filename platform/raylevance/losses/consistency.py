"""Clean-against-variant regularisation: a misspelt query is drawn to its clean one."""

import torch


def consistency(queries: torch.Tensor, variants: torch.Tensor) -> torch.Tensor:
    """The sum of `1 - cosine` over unit vectors [V, d] and [V, d], as a scalar; both sides carry gradients.

    Mine and Refine (arXiv 2602.17654, Table 6) names the regularisation and gives no formula: this one is our choice.
    """
    return (1 - (queries * variants).sum(dim=-1)).sum()
