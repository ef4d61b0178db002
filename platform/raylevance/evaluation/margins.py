"""Margins between relevant and irrelevant products of one query: how far apart their cosines lie.

Source: Mine and Refine (arXiv 2602.17654), which measures them on pairs whose words overlap: there
words alone do not tell grade 2 from grade 0.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from raylevance.data.words import words
from raylevance.evaluation.intervals import Values

OVERLAP = 0.7
"""Share of a query's words that a product's text has, from which a pair counts as overlapping."""


def margins(
    scores: npt.NDArray[np.floating], grades: npt.NDArray[np.integer], queries: Sequence[str]
) -> dict[str, Values]:
    """`average` (mean cosine of grade 2 minus mean of grade 0) and `worst` (least of grade 2 minus most of grade 0).

    `scores`, `grades`, `queries` [pairs]. A value for each query that has both grades, in the order of the query ids.
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
    """The share of each query's distinct words that its text has, [pairs]; 0 for a query without words."""
    shares = []
    for query, text in zip(queries, texts, strict=True):
        own = set(words(query.casefold()))
        shares.append(len(own & set(words(text.casefold()))) / max(1, len(own)))
    return np.array(shares)
