"""Multi-class circle loss: cosines of the grades of one query pulled into bands of their own."""

from typing import Self

import torch
from pydantic import model_validator
from torch.nn import functional

from raylevance.config import Settings
from raylevance.losses.segments import segment_logsumexp, segment_sum

CASES = ((2, 0), (1, 0), (2, 1))
"""Upper and lower grade of each pair of grades that is told apart."""

POSITIVE_AXIS = {2: 1.0, 1: 0.5}
NEGATIVE_AXIS = {1: 0.45, 0: 0.0}
"""About which a boundary D is reflected to give its optimum O = 2 * axis - D (our arithmetic of the paper's table)."""


class Boundaries(Settings):
    """The cosines D where a grade's band begins (positive) or ends (negative). Defaults: the paper's."""

    positive_2: float = 0.75
    negative_1: float = 0.60
    positive_1: float = 0.40
    negative_0: float = 0.25

    @model_validator(mode="after")
    def _bands_do_not_meet(self) -> Self:
        if not 1 > self.positive_2 > self.negative_1 > self.positive_1 > self.negative_0 > 0:
            raise ValueError("expected 1 > positive_2 > negative_1 > positive_1 > negative_0 > 0")
        if self.positive_1 > POSITIVE_AXIS[1] or self.negative_1 < NEGATIVE_AXIS[1]:
            axes = f"positive_1 <= {POSITIVE_AXIS[1]} and negative_1 >= {NEGATIVE_AXIS[1]}"
            raise ValueError(f"expected {axes}: grade 1 would rest short of its own boundary")
        return self


PAPER = Boundaries()


def multi_class_circle(
    scores: torch.Tensor,
    labels: torch.Tensor,
    instance: torch.Tensor,
    gamma: float,
    *,
    boundaries: Boundaries = PAPER,
    detach: bool = True,
) -> torch.Tensor:
    """The sum over instances, and over the pairs of grades (a, b) in `CASES` that an instance has, of

        L_ab = log( 1 + 1/|I_b| * sum_{i in I_a} exp(-gamma * max(O_a - s_i, 0) * (s_i - D_a))
                                * sum_{j in I_b} exp( gamma * max(s_j - O_b, 0) * (s_j - D_b)) )

    with D and O of grade a as the upper one and of b as the lower one. Source: Mine and Refine (arXiv 2602.17654),
    stage 2. An instance of three grades has all three pairs (our reading). Computed as
    softplus(logsumexp_i + logsumexp_j - log |I_b|), which no gamma overflows.

    `detach`: the weights max(...) carry no gradient, as in the circle loss's published code (the paper does not say).
    Then grade 1 is pushed up to 0.6 by the grade below and down to 0.3 by the one above; with it, it rests between.

    `scores` [N] cosines, `labels` [N] grades 0, 1 or 2, `instance` [N] int64 below N (any order). Returns a scalar.
    """
    weighed = scores.detach() if detach else scores
    upper, lower = {}, {}
    for grade, boundary in ((2, boundaries.positive_2), (1, boundaries.positive_1)):
        weight = (2 * POSITIVE_AXIS[grade] - boundary - weighed).clamp(min=0)
        upper[grade] = segment_logsumexp(-gamma * weight * (scores - boundary), instance, labels == grade)
    for grade, boundary in ((1, boundaries.negative_1), (0, boundaries.negative_0)):
        weight = (weighed - 2 * NEGATIVE_AXIS[grade] + boundary).clamp(min=0)
        lower[grade] = segment_logsumexp(gamma * weight * (scores - boundary), instance, labels == grade)
    count = {grade: segment_sum((labels == grade).to(scores.dtype), instance) for grade in (0, 1, 2)}
    loss = scores.new_zeros(())
    for a, b in CASES:
        both = (count[a] > 0) & (count[b] > 0)
        exponent = upper[a] + lower[b] - count[b].clamp(min=1).log()
        loss = loss + functional.softplus(exponent[both]).sum()
    return loss
