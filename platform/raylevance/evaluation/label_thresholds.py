"""Choose the score from which a label counts as predicted, for each label, on validation queries."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from raylevance.errors import RaylevanceError

FEWEST_POSITIVES = 10
"""With fewer validation queries of its own, a label takes the threshold of all labels together (our choice)."""
CELLS_AT_ONCE = 4_000_000


def choose_thresholds(
    scores: npt.NDArray[np.floating], truth: "sparse.csr_matrix[Any]", fallback_below: int = FEWEST_POSITIVES
) -> npt.NDArray[np.float32]:
    """Return the threshold of each label, [labels]: a label counts where its score is the threshold or higher.

    `scores` [n, labels] and the sparse `truth` [n, labels] are those of validation queries. The threshold of a label
    has the best F1 of the label. A label that fewer than `fallback_below` queries have takes the threshold with the
    best micro F1 of all labels. Of equally good thresholds the highest is taken.

    Source: SCut (Yang 2001, A study of thresholding strategies for text categorization). The fallback, because SCut
    overfits rare labels, is our choice.

    Raises `RaylevanceError` if no query has a label.
    """
    columns = sparse.csc_matrix(truth)
    thresholds = np.full(scores.shape[1], _common_threshold(scores, truth), np.float32)
    for label in np.flatnonzero(np.diff(columns.indptr) >= fallback_below):
        positives = columns.indices[columns.indptr[label] : columns.indptr[label + 1]]
        thresholds[label] = _best(scores[positives, label], [scores[:, label]])
    return thresholds


def _common_threshold(scores: npt.NDArray[np.floating], truth: "sparse.csr_matrix[Any]") -> float:
    """Return the one threshold with the best micro F1."""
    entries = truth.tocoo()
    if not entries.nnz:
        raise RaylevanceError("no validation query has a label, so no threshold can be chosen; give some that have one")
    rows = max(1, CELLS_AT_ONCE // scores.shape[1])
    blocks = [scores[start : start + rows].ravel() for start in range(0, len(scores), rows)]
    return _best(scores[entries.row, entries.col], blocks)


def _best(positives: npt.NDArray[np.floating], blocks: list[npt.NDArray[np.floating]]) -> float:
    """Return the score of a positive from which F1 is best; `blocks` hold the scores of positives and negatives.

    No other score can be better: between two positives, the higher threshold drops negatives only.
    """
    candidates, times = np.unique(positives, return_counts=True)
    reached = np.zeros(len(candidates) + 1, np.int64)
    for block in blocks:
        reached += np.bincount(np.searchsorted(candidates, block, side="right"), minlength=len(reached))
    predicted, right = (np.cumsum(counts[::-1]) for counts in (reached[1:], times))
    f1 = 2 * right / (predicted + len(positives))
    return float(candidates[::-1][int(np.argmax(f1))])
