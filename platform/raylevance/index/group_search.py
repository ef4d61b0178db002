"""Search in which each query finds only the rows of its own group, such as its locale."""

from collections.abc import Callable

import numpy as np

from raylevance.data.groups import Allowed, Groups, Ints
from raylevance.index.fusion import Ranking


def search_groups(groups: Groups, search: Callable[[Ints, Allowed], Ranking]) -> Ranking:
    """Call `search(queries, allowed)` once for each group, and return the results in the order of all queries.

    `queries` are the positions of the group's queries, and `allowed` bool [n] masks the rows that they may find.
    Returns scores and rows, both [m, k].
    """
    by_group = [np.flatnonzero(groups.queries == group) for group in np.unique(groups.queries)]
    rankings = [search(queries, groups.allowed(int(groups.queries[queries[0]]))) for queries in by_group]
    original_order = np.argsort(np.concatenate(by_group))
    scores, rows = (np.concatenate(parts)[original_order] for parts in zip(*rankings, strict=True))
    return scores, rows
