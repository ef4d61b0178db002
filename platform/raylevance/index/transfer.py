"""Scores of a query and an item from the item's neighbour queries instead of its title, so that queries meet queries.

Source: "relation-based transfer" (CIKM 2022, DOI 10.1145/3511808.3557143). The paper prints no formula; those below are
our reading.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]

PAIRS_PER_BATCH = 8_192
"""Pairs that are scored at once. With five neighbours each and 384 dimensions, a batch takes 60 MB."""


@dataclass(frozen=True)
class NeighbourQueries:
    """The neighbour queries of each item, those that behaviour connects to it, as compressed sparse rows.

    - `indptr` int64 [items + 1]: the neighbours of item i are at `indptr[i]` to `indptr[i + 1]` (exclusive).
    - `queries` int64 [edges]: each neighbour query, as a row of `vectors`.
    - `weights` float32 [edges]: its weight. If the weights of an item sum to 1, its transfer score is a mean.
    - `vectors` float32 [n, d]: the unit vectors of the queries.
    """

    indptr: Ints
    queries: Ints
    weights: npt.NDArray[np.float32]
    vectors: Vectors

    def transfer(self, vectors: Vectors, items: Ints) -> tuple[Values, Values]:
        """Return two scores for each pair of a query q and an item i,

            s_tr(q, i) = sum over neighbours q' of w_iq' * cos(q, q')    and    max over neighbours q' of cos(q, q')

        `vectors` [n, d] are the unit vectors of the pairs' queries and `items` [n] their items, -1 for an unknown one.
        Both scores are float64 [n], and nan if the item is unknown or has no neighbours.
        """
        total, highest = np.full(len(items), np.nan), np.full(len(items), np.nan)
        degree = np.append(np.diff(self.indptr), 0)[items]
        with_neighbours = np.flatnonzero(degree)
        for start in range(0, len(with_neighbours), PAIRS_PER_BATCH):
            pairs = with_neighbours[start : start + PAIRS_PER_BATCH]
            total[pairs], highest[pairs] = self._transfer_batch(vectors, pairs, items[pairs], degree[pairs])
        return total, highest

    def _transfer_batch(self, vectors: Vectors, pairs: Ints, items: Ints, degree: Ints) -> tuple[Values, Values]:
        """Score pairs whose items all have neighbours, `degree` of them."""
        first = np.concatenate([[0], np.cumsum(degree)[:-1]])
        edges = np.repeat(self.indptr[items] - first, degree) + np.arange(degree.sum())
        cosines = np.einsum("ed,ed->e", vectors[np.repeat(pairs, degree)], self.vectors[self.queries[edges]])
        weighted = self.weights[edges] * cosines.astype(np.float64)
        return np.add.reduceat(weighted, first), np.maximum.reduceat(cosines.astype(np.float64), first)
