"""Triplet loss over all graded pairs of each query."""

import torch


def graded_triplet(scores: torch.Tensor, labels: torch.Tensor, instance: torch.Tensor, margin: float) -> torch.Tensor:
    """The sum over instances of

        L_q = mean over pairs (i, j) with r_i > r_j of max(0, margin - s_i + s_j)

    Source: FaceNet (Schroff et al. 2015, arXiv 1503.03832), eq. 3, on cosines and all pairs; the mean within an
    instance, so that long instances do not rule: our choice. An instance with one label only contributes 0.

    `scores` [N] cosines, `labels` [N] grades, `instance` [N] int64, non-decreasing. Returns a scalar.
    Memory is the sum of the squared instance sizes.
    """
    upper, lower = _pairs_within(instance)
    graded = labels[upper] > labels[lower]
    upper, lower = upper[graded], lower[graded]
    hinge = (margin - scores[upper] + scores[lower]).clamp(min=0)
    owner = instance[upper]
    return (hinge / torch.bincount(owner)[owner]).sum()


def _pairs_within(instance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (i, j) of all ordered pairs of one instance, i = j included."""
    sizes = torch.unique_consecutive(instance, return_counts=True)[1]
    first = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    partners = sizes.repeat_interleave(sizes)
    rows = torch.arange(len(instance), device=instance.device).repeat_interleave(partners)
    within = torch.arange(len(rows), device=instance.device) - (partners.cumsum(0) - partners)[rows]
    return rows, first[rows] + within
