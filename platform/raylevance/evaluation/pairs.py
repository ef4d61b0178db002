"""Metrics of a score on labelled pairs: AUC, the best F1, KS (Alimama, CIKM 2022)."""

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from raylevance.errors import RaylevanceError

GRADED_RELEVANT = 2


def evaluate_pairs(scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> dict[str, float]:
    """`auc`, `f1` with the `f1_threshold` that maximises it on these pairs, and `ks` = max |TPR - FPR|.

    `labels` [n] are 0 and 1, or grades 0 to 2 of which 2 is positive. Raises `RaylevanceError` for other labels and
    where all pairs are positive or none is.
    """
    known = set(np.unique(labels).tolist())
    if not known <= {0, 1, 2}:
        raise RaylevanceError(f"labels {sorted(known)}: expected 0 and 1, or grades 0, 1 and 2")
    positive = labels >= (GRADED_RELEVANT if GRADED_RELEVANT in known else 1)
    if positive.all() or not positive.any():
        raise RaylevanceError("the pairs are all of one class: AUC, F1 and KS need both")
    precision, recall, thresholds = precision_recall_curve(positive, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(f1[:-1]))
    false_rate, true_rate, _ = roc_curve(positive, scores)
    return {
        "auc": float(roc_auc_score(positive, scores)),
        "f1": float(f1[best]),
        "f1_threshold": float(thresholds[best]),
        "ks": float(np.max(np.abs(true_rate - false_rate))),
    }
