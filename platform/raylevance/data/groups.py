"""Groups of queries and rows, such as locales. A query finds only the rows of its own group."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

ALL = -1
"""The group of a query that finds every row, and of a row that only such queries find."""

Ints = npt.NDArray[np.int64]
Allowed = npt.NDArray[np.bool_]


class Groups(NamedTuple):
    """The group of each query, `queries` [m], and of each row, `rows` [n]."""

    queries: Ints
    rows: Ints

    def allowed(self, group: int) -> Allowed:
        """Return a mask [n] of the rows that a query of `group` may find."""
        return np.asarray((self.rows == group) | (group == ALL))

    def part(self, queries: slice, rows: slice) -> "Groups":
        """Return the groups of a slice of the queries and a slice of the rows."""
        return Groups(self.queries[queries], self.rows[rows])
