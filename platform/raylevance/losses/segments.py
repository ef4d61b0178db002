"""Reductions over the segments of a tensor, such as the items of each instance, without a loop over segments.

Each result has as many entries as there are values, [N], because that is the largest possible number of segments. This
way no size has to be read back from a GPU. Entry s belongs to the values whose `segment_ids` is s.
"""

import torch


def segment_sum(values: torch.Tensor, segment_ids: torch.Tensor) -> torch.Tensor:
    """Return the sum of the `values` [N] of each segment, [N]. Empty segments get 0.

    `segment_ids` is int64 [N], below N, in any order.
    """
    return torch.zeros_like(values).scatter_add(0, segment_ids, values)


def segment_min(values: torch.Tensor, segment_ids: torch.Tensor) -> torch.Tensor:
    """Return the smallest of the `values` [N] of each segment, [N]. Entries of empty segments are undefined.

    `segment_ids` is int64 [N], below N, in any order.
    """
    return torch.zeros_like(values).scatter_reduce(0, segment_ids, values, "amin", include_self=False)


def segment_log_softmax(logits: torch.Tensor, segment_ids: torch.Tensor) -> torch.Tensor:
    """Return the log-softmax of `logits` [N] within each segment, [N], one entry for each logit.

    It does not overflow for logits of any size. `segment_ids` is int64 [N], below N, in any order.
    """
    values = logits.detach()
    peak = torch.zeros_like(values).scatter_reduce(0, segment_ids, values, "amax", include_self=False)
    shifted = logits - peak[segment_ids]
    return shifted - segment_sum(shifted.exp(), segment_ids)[segment_ids].log()


def segment_logsumexp(logits: torch.Tensor, segment_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the logsumexp over those `logits` [N] of each segment where `mask` bool [N] is true, [N].

    Entries of segments without such a logit are undefined. `segment_ids` is int64 [N], below N, in any order.
    """
    values = logits.detach().masked_fill(~mask, -torch.inf)
    peak = torch.full_like(values, -torch.inf).scatter_reduce(0, segment_ids, values, "amax")
    peak = peak.masked_fill(peak == -torch.inf, 0)
    shifted = (logits - peak[segment_ids]).masked_fill(~mask, -torch.inf)
    total = segment_sum(shifted.exp(), segment_ids)
    return peak + total.masked_fill(total == 0, 1).log()
