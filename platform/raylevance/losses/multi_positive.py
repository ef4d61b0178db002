"""The contrastive loss of one anchor with several positives, in which positives do not suppress each other."""

import torch
from torch.nn import functional


def multi_positive_contrastive(
    cosines: torch.Tensor,
    positives: torch.Tensor,
    negatives: torch.Tensor,
    temperature: float,
    other_positives: bool = False,
) -> torch.Tensor:
    """Return the loss of each anchor t over its positives P(t) and negatives N(t), [anchors]:

        L(t) = - 1 / |P(t)| * sum_{i in P(t)} log( e^{s_ti/tau} / ( e^{s_ti/tau} + sum_{k in N(t)} n_tk e^{s_tk/tau} ) )

    The other positives are not in the denominator of a positive, so it has no gradient towards them. With
    `other_positives` they are: the denominator runs over all positives and negatives (the variant AP GCL-MO).

    - `cosines`: s, [anchors, candidates].
    - `positives`: the weight of each candidate among the positives, 0 where it is none; the weights of an anchor are
      scaled to sum to 1, and with equal ones this is 1 / |P(t)|. [anchors, candidates].
    - `negatives`: n, the weight of each candidate in the denominator, 0 where it is no negative.
      [anchors, candidates].
    - `temperature`: tau, above 0.

    An anchor without positives has loss 0, and one without negatives has loss 0 in the form without other positives.

    Source: GCL-MO (arXiv 2307.04322); the formula, and weights of positives and negatives, are our reading.
    """
    logits = cosines / temperature
    rest = _weighted_logsumexp(logits, negatives)
    total = positives.sum(dim=1, keepdim=True)
    shares = positives / total.masked_fill(total == 0, 1)
    if other_positives:
        rest = torch.logaddexp(rest, _weighted_logsumexp(logits, (positives > 0).to(logits.dtype)))
        losses = rest[:, None] - logits
    else:
        losses = functional.softplus(rest[:, None] - logits)
    return (shares * losses.masked_fill(positives == 0, 0)).sum(dim=1)


def _weighted_logsumexp(logits: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return log(sum_k w_k e^{x_k}) of each row, [rows]; the lowest finite number where no weight is above 0."""
    masked = (logits + weights.clamp_min(torch.finfo(weights.dtype).tiny).log()).masked_fill(weights <= 0, -torch.inf)
    empty = (weights <= 0).all(dim=1)
    summed = masked.masked_fill(empty[:, None], 0).logsumexp(dim=1)
    return summed.masked_fill(empty, torch.finfo(logits.dtype).min / 4)
