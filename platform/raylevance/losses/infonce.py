"""InfoNCE with in-batch negatives."""

import torch
from torch.nn import functional


def in_batch_infonce(
    queries: torch.Tensor,
    items: torch.Tensor,
    positive: torch.Tensor,
    scale: torch.Tensor,
    same: torch.Tensor | None = None,
) -> torch.Tensor:
    """The sum over queries of

        L_q = -log( exp(<q, d_p> / tau) / sum_j exp(<q, d_j> / tau) )

    where j runs over all items but the false negatives of q. Source: van den Oord et al. 2018 (arXiv 1807.03748),
    eq. 4; leaving out known positives: our choice.

    `queries` [B, d] and `items` [M, d] unit vectors, `positive` [B] int64 the row of each query's item,
    `scale` [] = 1/tau, `same` [B, M] bool: true where an item is known to be positive for the query (its own row too).
    Returns a scalar.
    """
    logits = scale * (queries @ items.T)
    if same is not None:
        own = functional.one_hot(positive, items.shape[0]).bool()
        logits = logits.masked_fill(same & ~own, -torch.inf)
    return functional.cross_entropy(logits, positive, reduction="sum")
