"""Reductions over the items of each instance, without a loop over instances.

Every result has one place an item ([N], as many as there could be instances): no size is read back from a GPU.
"""

import torch


def segment_sum(values: torch.Tensor, segment: torch.Tensor) -> torch.Tensor:
    """`out[s]`: the sum of `values` [N] whose `segment` [N] is s; zero where there are none."""
    return torch.zeros_like(values).scatter_add(0, segment, values)


def segment_min(values: torch.Tensor, segment: torch.Tensor) -> torch.Tensor:
    """`out[s]`: the least of `values` [N] whose `segment` [N] is s; undefined where there are none."""
    return torch.zeros_like(values).scatter_reduce(0, segment, values, "amin", include_self=False)


def segment_log_softmax(logits: torch.Tensor, segment: torch.Tensor) -> torch.Tensor:
    """`logits` [N] minus the logsumexp of its segment, stable for any size of logit."""
    values = logits.detach()
    peak = torch.zeros_like(values).scatter_reduce(0, segment, values, "amax", include_self=False)
    shifted = logits - peak[segment]
    return shifted - segment_sum(shifted.exp(), segment)[segment].log()


def segment_logsumexp(logits: torch.Tensor, segment: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """`out[s]`: the logsumexp of the `kept` [N] of `logits` [N] whose `segment` [N] is s; undefined where none is."""
    values = logits.detach().masked_fill(~kept, -torch.inf)
    peak = torch.full_like(values, -torch.inf).scatter_reduce(0, segment, values, "amax")
    peak = peak.masked_fill(peak == -torch.inf, 0)
    shifted = (logits - peak[segment]).masked_fill(~kept, -torch.inf)
    total = segment_sum(shifted.exp(), segment)
    return peak + total.masked_fill(total == 0, 1).log()
