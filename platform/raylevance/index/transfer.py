"""A query against an item's neighbour queries instead of its title: both sides are then queries.

Source: "relation-based transfer" in the CIKM 2022 paper (DOI 10.1145/3511808.3557143), which prints no formula; the
formulas are our reading of it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]

PAIRS = 8_192
"""Pairs at once: with five neighbours and 384 dimensions, 60 MB."""


@dataclass(frozen=True)
class NeighbourQueries:
    """The queries that behaviour joins to each item, as compressed sparse rows.

    Item i has the `queries` int64 [m] and the `weights` float32 [m] at `indptr[i]` to `indptr[i + 1]` (int64
    [items + 1]); a query is a row of the unit `vectors` [n, d]. With weights that sum to 1, a transfer is a mean.
    """

    indptr: Ints
    queries: Ints
    weights: npt.NDArray[np.float32]
    vectors: Vectors

    def transfer(self, vectors: Vectors, items: Ints) -> tuple[Values, Values]:
        """For each pair of a query q (its unit vector in `vectors` [n, d]) and an item ([n], -1: unknown),

            s_tr(q, i) = sum over neighbours q' of w_iq' * cos(q, q')    and    max over neighbours q' of cos(q, q')

        each float64 [n], nan where the item is unknown or has no neighbours.
        """
        total, highest = np.full(len(items), np.nan), np.full(len(items), np.nan)
        degree = np.append(np.diff(self.indptr), 0)[items]
        related = np.flatnonzero(degree)
        for start in range(0, len(related), PAIRS):
            pairs = related[start : start + PAIRS]
            total[pairs], highest[pairs] = self._of_related(vectors, pairs, items[pairs], degree[pairs])
        return total, highest

    def _of_related(self, vectors: Vectors, pairs: Ints, items: Ints, degree: Ints) -> tuple[Values, Values]:
        """Both for pairs whose items have `degree` > 0 neighbours."""
        first = np.concatenate([[0], np.cumsum(degree)[:-1]])
        edges = np.repeat(self.indptr[items] - first, degree) + np.arange(degree.sum())
        cosines = np.einsum("ed,ed->e", vectors[np.repeat(pairs, degree)], self.vectors[self.queries[edges]])
        weighted = self.weights[edges] * cosines.astype(np.float64)
        return np.add.reduceat(weighted, first), np.maximum.reduceat(cosines.astype(np.float64), first)
