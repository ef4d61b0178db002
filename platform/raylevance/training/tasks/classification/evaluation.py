"""Measure a query classifier on held-out queries, which is cheap enough to do during training."""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, logsumexp

from raylevance.models.query_classifier import QueryClassifier

ACCURACY, LOG_LIKELIHOOD = "accuracy@1", "log_likelihood"


@dataclass(frozen=True)
class ClassificationEvaluation:
    """Measure a classifier on labelled queries: an `evaluate` argument of `trainer.train`.

    - `queries`: for each task by name, the texts of its queries.
    - `labels`: for each of these, the columns of its labels among those that the task predicts.
    """

    queries: dict[str, list[str]]
    labels: dict[str, list[list[int]]]

    def __call__(self, classifier: QueryClassifier) -> dict[str, float]:
        """Return `accuracy@1` and `log_likelihood`, each a mean over queries, and then over tasks.

        The log-likelihood is the log of the share of a query's own labels in the softmax over all labels of its task:
        with few queries it tells classifiers apart that have the same accuracy.
        """
        right, likely = [], []
        matrices = dict(zip(classifier.space.tasks, classifier.label_matrices(), strict=True))
        for task, queries in self.queries.items():
            rows, bias = matrices[task]
            logits = classifier.encoder.encode_queries(queries) @ rows.T + bias
            own = self.labels[task]
            right.append(np.mean([best in labels for best, labels in zip(logits.argmax(axis=1), own, strict=True)]))
            shares = log_softmax(logits, axis=1)
            likely.append(np.mean([logsumexp(shares[row, labels]) for row, labels in enumerate(own)]))
        return {ACCURACY: float(np.mean(right)), LOG_LIKELIHOOD: float(np.mean(likely))}
