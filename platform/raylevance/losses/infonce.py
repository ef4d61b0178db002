"""InfoNCE with in-batch negatives."""

import torch
from torch.nn import functional


def in_batch_infonce(
    queries: torch.Tensor,
    items: torch.Tensor,
    positive: torch.Tensor,
    scale: torch.Tensor,
    known_positives: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the sum over queries of

        L_q = -log( exp(<q, d_p> / tau) / sum_j exp(<q, d_j> / tau) )

    where d_p is the positive item of query q, and j runs over all items of the batch except other known positives of q.

    - `queries`: Unit vectors of the queries, [B, d].
    - `items`: Unit vectors of the items, [M, d].
    - `positive`: Row of each query's positive in `items`, int64 [B].
    - `scale`: 1/tau, a scalar.
    - `known_positives`: Whether an item is known to be positive for a query (its own included), bool [B, M]. None means
      that no other positives are known.

    Returns a scalar.

    Source: van den Oord et al. 2018 (arXiv 1807.03748), eq. 4. Leaving out known positives is our choice.
    """
    logits = scale * (queries @ items.T)
    if known_positives is not None:
        own = functional.one_hot(positive, items.shape[0]).bool()
        logits = logits.masked_fill(known_positives & ~own, -torch.inf)
    return functional.cross_entropy(logits, positive, reduction="sum")
