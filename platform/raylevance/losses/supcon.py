"""Label-weighted supervised contrastive loss over the graded items of each query."""

import torch

from raylevance.losses.segments import segment_log_softmax, segment_min, segment_sum


def label_weighted_supcon(
    scores: torch.Tensor, labels: torch.Tensor, instance: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Return the sum over instances of

        L_q = -1 / (sum_{i in P(q)} r_i) * sum_{i in P(q)} r_i * log( exp(s_i / tau) / sum_{j=1..N} exp(s_j / tau) )

    where the denominator runs over all items of the instance, positives included. There are no in-batch negatives. The
    relatively positive items P(q) are those with a label above the lowest of the instance. An instance with only one
    label has none and contributes 0.

    r_i is computed as the label above the lowest of the instance. For the grades 2, 1 and 0 this changes nothing: where
    the lowest is 1, all of P(q) have grade 2. Between grades it makes an item that is hardly above the lowest count
    hardly at all.

    - `scores`: Cosines s of the items with their query, [N].
    - `labels`: Grades r >= 0, or soft labels between them, [N].
    - `instance`: Number of the instance (query) of each item, int64 [N], below N, in any order.
    - `scale`: 1/tau, a scalar.

    Returns a scalar.

    Source: Mine and Refine (arXiv 2602.17654), stage 1. The choice of P(q) is our reading: 2 in (2, 0) and (2, 1), 1 in
    (1, 0), 2 and 1 in (2, 1, 0).
    """
    weight = (labels - segment_min(labels, instance)[instance]).to(scores.dtype)
    total = segment_sum(weight, instance)[instance]
    return -(weight / total.masked_fill(total == 0, 1) * segment_log_softmax(scores * scale, instance)).sum()
