"""Search in which each query finds only the rows of its own group, such as its locale."""

from collections.abc import Callable

import numpy as np

from raylevance.data.groups import Allowed, Groups, Ints
from raylevance.index.fusion import Ranking


def search_groups(groups: Groups, search: Callable[[Ints, Allowed], Ranking]) -> Ranking:
    """Run `search(places, allowed)` once for each group of queries and put the results back in order.

    `places` are the rows of the group's queries and `allowed` [n] masks the rows that they may find. Returns scores and
    rows, both [m, k].
    """
    found = [np.flatnonzero(groups.queries == group) for group in np.unique(groups.queries)]
    ranked = [search(places, groups.allowed(int(groups.queries[places[0]]))) for places in found]
    back = np.argsort(np.concatenate(found))
    scores, rows = (np.concatenate(parts)[back] for parts in zip(*ranked, strict=True))
    return scores, rows
