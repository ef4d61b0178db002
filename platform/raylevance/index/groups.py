"""Searches in which each query finds the rows of its own group, such as its locale."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raylevance.index.fusion import Ranking

ALL = -1
"""The group of a query that finds all rows, and of a row that only such queries find."""

Ints = npt.NDArray[np.int64]
Allowed = npt.NDArray[np.bool_]


class Groups(NamedTuple):
    """The group of each query, `queries` [m], and of each row, `rows` [n]."""

    queries: Ints
    rows: Ints

    def allowed(self, group: int) -> Allowed:
        """The rows that a query of `group` finds, bool [n]."""
        return np.asarray((self.rows == group) | (group == ALL))

    def part(self, queries: slice, rows: slice) -> "Groups":
        """The groups of some queries and rows."""
        return Groups(self.queries[queries], self.rows[rows])


def search_groups(groups: Groups, search: Callable[[Ints, Allowed], Ranking]) -> Ranking:
    """Scores and rows [m, k], of one `search(places, allowed)` a group of queries, which are named by their places."""
    found = [np.flatnonzero(groups.queries == group) for group in np.unique(groups.queries)]
    ranked = [search(places, groups.allowed(int(groups.queries[places[0]]))) for places in found]
    back = np.argsort(np.concatenate(found))
    scores, rows = (np.concatenate(parts)[back] for parts in zip(*ranked, strict=True))
    return scores, rows
