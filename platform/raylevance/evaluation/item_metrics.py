"""Metrics of recommended lists against the items that users chose.

With T the targets of a request and TopK the first K items of its list,

    recall@K = |TopK and T| / |T|
    ndcg@K   = sum_{ranks r of targets} 1 / log2(r + 1)  /  sum_{r = 1..min(K, |T|)} 1 / log2(r + 1)
    good@K   = |{i in TopK: i has the category of a target}| / K
    tail@K   = |{i in TopK: i is a tail item}| / |TopK|
    coverage@K = |union of TopK over requests| / |items|

A request without targets has no recall and no ndcg, and is left out of their means. The whole catalogue is ranked.

Source: GCL-MO (arXiv 2307.04322), 4.8, for the names; the formulas are our reading, after MGDSPR (arXiv 2106.09297).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

HEAD_SHARE = 0.8
"""The head are the most popular items that cover this share of the events; the others are the tail (our reading)."""


class Targets(NamedTuple):
    """The targets of m requests: where those of each begin, int64 [m + 1], and the items, int64 [targets]."""

    starts: Ints
    items: Ints

    @property
    def counts(self) -> Ints:
        """Number of targets of each request, int64 [m]."""
        return np.diff(self.starts)

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> "Targets":
        """Return the targets of each request as one."""
        starts = np.concatenate([[0], np.cumsum([len(items) for items in lists])]).astype(np.int64)
        return cls(starts, np.concatenate([np.empty(0, np.int64), *(np.asarray(items, np.int64) for items in lists)]))

    def hits(self, lists: Ints) -> npt.NDArray[np.bool_]:
        """Return whether each item of the `lists` [m, k] is a target of its request, bool [m, k]."""
        size = max(int(lists.max(initial=0)), int(self.items.max(initial=0))) + 1
        keys = np.repeat(np.arange(len(self.counts)), self.counts) * size + self.items
        listed = np.arange(len(lists))[:, None] * size + lists
        found: npt.NDArray[np.bool_] = np.isin(listed, keys) & (lists >= 0)
        return found


def recall(lists: Ints, targets: Targets, k: int) -> Values:
    """Return recall@k of each request, float64 [m]; nan for one without targets. `lists` [m, >= k] has -1 for none."""
    hits = targets.hits(lists[:, :k]).sum(axis=1)
    counts = targets.counts
    return np.asarray(np.divide(hits, counts, out=np.full(len(counts), np.nan), where=counts > 0), np.float64)


def ndcg(lists: Ints, targets: Targets, k: int) -> Values:
    """Return ndcg@k of each request, float64 [m]; nan for one without targets. `lists` are as in `recall`."""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    gained = targets.hits(lists[:, :k]) @ discounts[: lists[:, :k].shape[1]]
    ideal = np.concatenate([[0], np.cumsum(discounts)])[np.minimum(targets.counts, k)]
    return np.asarray(np.divide(gained, ideal, out=np.full(len(ideal), np.nan), where=ideal > 0), np.float64)


def good_rate(lists: Ints, targets: Targets, categories: Ints, k: int) -> Values:
    """Return good@k of each request, float64 [m]; nan where no item has a category. `lists` are as in `recall`.

    `categories` [items] is the number of the category of each item, 0 for none.
    """
    if not categories.any():
        return np.full(len(lists), np.nan)
    lists = lists[:, :k]
    of_targets = Targets(targets.starts, categories[targets.items])
    listed = np.where(lists >= 0, categories[lists], 0)
    good = of_targets.hits(listed) & (lists >= 0) & (listed > 0)
    return np.asarray(good.sum(axis=1) / k, np.float64)


def share_of_list(lists: Ints, marked: npt.NDArray[np.bool_], k: int) -> Values:
    """Return the share of each list's first `k` items that are `marked` bool [items], float64 [m]; 0 for none."""
    top = lists[:, :k]
    listed = (top >= 0).sum(axis=1)
    return np.asarray((marked[top] & (top >= 0)).sum(axis=1) / np.maximum(listed, 1), np.float64)


def coverage(lists: Ints, items: int, k: int) -> float:
    """Return the share of all `items` that is in the first `k` items of some list."""
    top = lists[:, :k]
    return float(len(np.unique(top[top >= 0])) / items)


def popularity_groups(events: Ints, groups: int = 10) -> Ints:
    """Return the group of each item by its number of `events` [items]: 0 without events, then 1 to `groups`, int64.

    Items with events are cut into groups of about equal size, the least popular first; items of equal numbers stay
    together.
    """
    known = np.sort(events[events > 0])
    cuts = known[(np.arange(1, groups) * len(known)) // groups] if len(known) else np.empty(0)
    found: Ints = np.where(events > 0, np.searchsorted(cuts, events, side="right") + 1, 0)
    return found


def recall_by_group(lists: Ints, targets: Targets, k: int, groups: Ints) -> Values:
    """Return the share of all targets of each group that is among the first `k` items, float64 [groups]; nan for none.

    `groups` [items] is the group of each item, from 0.
    """
    size = int(groups.max()) + 1
    rows = np.repeat(np.arange(len(targets.counts)), targets.counts)
    found = (lists[rows, :k] == targets.items[:, None]).any(axis=1)
    of_targets = groups[targets.items]
    counts = np.bincount(of_targets, minlength=size)
    hits = np.bincount(of_targets, found, size)
    return np.asarray(np.divide(hits, counts, out=np.full(size, np.nan), where=counts > 0), np.float64)


def tail_items(events: Ints, head_share: float = HEAD_SHARE) -> npt.NDArray[np.bool_]:
    """Return which items are outside the head, bool [items], from the number of `events` of each, [items].

    The head are the fewest items, the most popular first, whose events are at least `head_share` of all.
    """
    order = np.argsort(-events, kind="stable")
    before = np.cumsum(events[order]) - events[order]
    tail = np.ones(len(events), np.bool_)
    tail[order[before < head_share * events.sum()]] = False
    return tail
