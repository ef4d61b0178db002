"""Multi-class circle loss, which moves the cosines of each grade of a query's items into a band of its own."""

from typing import Self

import torch
from pydantic import model_validator
from torch.nn import functional

from raylevance.config import Settings
from raylevance.losses.segments import segment_logsumexp, segment_sum

GRADE_PAIRS = ((2, 0), (1, 0), (2, 1))
"""Upper and lower grade of each pair of grades that the loss separates."""

POSITIVE_AXIS = {2: 1.0, 1: 0.5}
NEGATIVE_AXIS = {1: 0.45, 0: 0.0}
"""Values about which a boundary D is reflected to give its optimum O = 2 * axis - D (our arithmetic of the paper's
table)."""


class Boundaries(Settings):
    """The cosines D at which the bands of the grades begin and end. The defaults are the paper's."""

    positive_2: float = 0.75
    """Cosine above which items of grade 2 should lie."""
    negative_1: float = 0.60
    """Cosine below which items of grade 1 should lie."""
    positive_1: float = 0.40
    """Cosine above which items of grade 1 should lie."""
    negative_0: float = 0.25
    """Cosine below which items of grade 0 should lie."""

    @model_validator(mode="after")
    def _bands_do_not_meet(self) -> Self:
        if not 1 > self.positive_2 > self.negative_1 > self.positive_1 > self.negative_0 > 0:
            raise ValueError("expected 1 > positive_2 > negative_1 > positive_1 > negative_0 > 0")
        if self.positive_1 > POSITIVE_AXIS[1] or self.negative_1 < NEGATIVE_AXIS[1]:
            axes = f"positive_1 <= {POSITIVE_AXIS[1]} and negative_1 >= {NEGATIVE_AXIS[1]}"
            raise ValueError(f"expected {axes}, as grade 1 would not reach its own boundary otherwise")
        return self


PAPER_BOUNDARIES = Boundaries()


def multi_class_circle(
    scores: torch.Tensor,
    labels: torch.Tensor,
    instance: torch.Tensor,
    gamma: float,
    *,
    boundaries: Boundaries = PAPER_BOUNDARIES,
    detach: bool = True,
) -> torch.Tensor:
    """Return the sum over instances, and over the pairs of grades (a, b) of `GRADE_PAIRS` that an instance has, of

        L_ab = log( 1 + 1/|I_b| * sum_{i in I_a} exp(-gamma * max(O_a - s_i, 0) * (s_i - D_a))
                                * sum_{j in I_b} exp( gamma * max(s_j - O_b, 0) * (s_j - D_b)) )

    where I_a and I_b are the items of the two grades, s their cosines, D_a and O_a the boundary and optimum of a as the
    upper grade, and D_b and O_b those of b as the lower grade. It is computed as softplus(logsumexp_i + logsumexp_j -
    log |I_b|), which does not overflow for any gamma.

    A label between two grades is an item of both: its terms of grade g count 1 - |label - g| times, and so does it in
    |I_b|, which is 1 at least.

    - `scores`: Cosines s of the items with their query, [N].
    - `labels`: Grades 0, 1 or 2, or soft labels between them, [N].
    - `instance`: Number of the instance (query) of each item, int64 [N], below N, in any order.
    - `gamma`: Scale of the exponents.
    - `boundaries`: The boundaries D, which also give the optima O.
    - `detach`: Whether the weights max(...) carry no gradient, as in the published code of the circle loss (the paper
      does not say). If so, grade 1 is pushed up to 0.6 by the grade below it and down to 0.3 by the grade above;
      if not, it comes to rest in between.

    Returns a scalar.

    Source: Mine and Refine (arXiv 2602.17654), stage 2. That an instance with three grades counts with all three pairs
    is our reading; labels between grades are our choice.
    """
    weighing_scores = scores.detach() if detach else scores
    share = {grade: (1 - (labels - grade).abs()).clamp(min=0).to(scores.dtype) for grade in (0, 1, 2)}
    upper, lower = {}, {}
    for grade, boundary in ((2, boundaries.positive_2), (1, boundaries.positive_1)):
        optimum = 2 * POSITIVE_AXIS[grade] - boundary
        weight = (optimum - weighing_scores).clamp(min=0)
        upper[grade] = _shared_logsumexp(-gamma * weight * (scores - boundary), instance, share[grade])
    for grade, boundary in ((1, boundaries.negative_1), (0, boundaries.negative_0)):
        optimum = 2 * NEGATIVE_AXIS[grade] - boundary
        weight = (weighing_scores - optimum).clamp(min=0)
        lower[grade] = _shared_logsumexp(gamma * weight * (scores - boundary), instance, share[grade])
    count = {grade: segment_sum(share[grade], instance) for grade in (0, 1, 2)}
    loss = scores.new_zeros(())
    for a, b in GRADE_PAIRS:
        has_both = (count[a] > 0) & (count[b] > 0)
        exponent = upper[a] + lower[b] - count[b].clamp(min=1).log()
        loss = loss + functional.softplus(exponent[has_both]).sum()
    return loss


def _shared_logsumexp(exponents: torch.Tensor, instance: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Return the log of the sum of the `share` [N] of each exponential in each instance, [N]."""
    log_share = share.clamp(min=torch.finfo(share.dtype).tiny).log()
    return segment_logsumexp(exponents + log_share, instance, share > 0)
