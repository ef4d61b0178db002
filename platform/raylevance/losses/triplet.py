"""Triplet loss over all graded pairs of each query."""

import torch

EQUAL_WITHIN = 0.5
"""Labels that differ by this or less count as equal."""


def graded_triplet(scores: torch.Tensor, labels: torch.Tensor, instance: torch.Tensor, margin: float) -> torch.Tensor:
    """Return the sum over instances of

        L_q = mean over pairs (i, j) with r_i > r_j of max(0, margin - s_i + s_j)

    An instance with only one label contributes 0. Labels that differ by `EQUAL_WITHIN` or less count as equal. Memory
    use grows with the sum of the squared sizes of the instances.

    - `scores`: Cosines s of the items with their query, [N].
    - `labels`: Grades r, or soft labels between them, [N].
    - `instance`: Number of the instance (query) of each item, int64 [N], not decreasing.
    - `margin`: The margin.

    Returns a scalar.

    Source: FaceNet (Schroff et al. 2015, arXiv 1503.03832), eq. 3, here on cosines and over all pairs. The mean within
    an instance, which keeps long instances from dominating, is our choice.
    """
    upper, lower = _pairs_within(instance)
    graded = labels[upper] - labels[lower] > EQUAL_WITHIN
    upper, lower = upper[graded], lower[graded]
    hinge = (margin - scores[upper] + scores[lower]).clamp(min=0)
    pair_instance = instance[upper]
    return (hinge / torch.bincount(pair_instance)[pair_instance]).sum()


def _pairs_within(instance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows (i, j) of all ordered pairs within each instance, i = j included."""
    sizes = torch.unique_consecutive(instance, return_counts=True)[1]
    first = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    partners = sizes.repeat_interleave(sizes)
    rows = torch.arange(len(instance), device=instance.device).repeat_interleave(partners)
    within = torch.arange(len(rows), device=instance.device) - (partners.cumsum(0) - partners)[rows]
    return rows, first[rows] + within
