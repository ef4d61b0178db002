"""Measure the margins between the cosines of relevant and irrelevant products of one query.

Source: Mine and Refine (arXiv 2602.17654), which measures them on pairs whose words overlap, because words alone can't
distinguish grade 2 from grade 0 there.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from raylevance.data.words import words
from raylevance.evaluation.intervals import Values

OVERLAP_THRESHOLD = 0.7
"""The lowest share of a query's words in a product's text that makes the pair an overlapping one."""


def query_margins(
    scores: npt.NDArray[np.floating], grades: npt.NDArray[np.integer], queries: Sequence[str]
) -> dict[str, Values]:
    """Return the `average` and the `worst` margin of each query that has products of grades 2 and 0.

    The average margin is the mean score of grade 2 minus that of grade 0. The worst margin is the lowest score of grade
    2 minus the highest of grade 0. `scores`, `grades` and `queries` are [pairs]; the values are in the order of the
    sorted query ids.
    """
    names, owner = np.unique(np.asarray(queries, dtype=str), return_inverse=True)
    average, worst = [], []
    for query in range(len(names)):
        own = owner == query
        relevant, irrelevant = scores[own & (grades == 2)], scores[own & (grades == 0)]
        if len(relevant) and len(irrelevant):
            average.append(relevant.mean() - irrelevant.mean())
            worst.append(relevant.min() - irrelevant.max())
    return {"average": np.array(average, np.float64), "worst": np.array(worst, np.float64)}


def word_overlap(queries: Sequence[str], texts: Sequence[str]) -> Values:
    """Return the share of each query's distinct words that are in its text, [pairs]; 0 for a query without words."""
    shares = []
    for query, text in zip(queries, texts, strict=True):
        own = set(words(query))
        shares.append(len(own & set(words(text))) / max(1, len(own)))
    return np.array(shares)
