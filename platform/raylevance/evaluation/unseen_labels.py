"""The offset of labels that no training query has: training pushes their logits down in every step."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import brentq
from scipy.special import expit

LARGEST_OFFSET = 10.0


def choose_unseen_offset(logits: npt.NDArray[np.floating], truth: "sparse.csr_matrix[Any]") -> float:
    """Return the offset c of the logits of labels without a training query that minimises the loss

        sum_ij  log(1 + e^{z_ij + c}) - y_ij (z_ij + c),    0 <= c <= 10

    of validation queries i on these labels j. The loss is convex in c, and at its minimum the probabilities of such
    labels add up to the number that the queries have. c is 0 where no query has one.

    `logits` z, [n, labels], and the sparse `truth` y, [n, labels], have a column for each label without a training
    query alone.

    Source: calibrated stacking (Chao et al. 2016, arXiv 1605.04253), which lowers the labels that training has seen by
    a constant; that validation queries choose it by the loss is our choice.
    """
    expected = float(truth.sum())

    def slope(offset: float) -> float:
        return float(expit(logits + offset).sum(dtype=np.float64)) - expected

    if not expected or slope(0.0) >= 0:
        return 0.0
    return float(brentq(slope, 0.0, LARGEST_OFFSET)) if slope(LARGEST_OFFSET) > 0 else LARGEST_OFFSET
