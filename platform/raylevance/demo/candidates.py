"""The products to judge or to show for a query, found by arithmetic instead of a search.

Candidates are drawn from five sources: the target's neighbours in its leaf (the whole leaf if it is small), products
that share all or all but one of the named attributes, the leaves that answer the query, their complements, and the
whole catalogue. A mix of labels is selected from them.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raylevance.data.click_model import Labels
from raylevance.demo.catalogue import PERIODS, Catalogue
from raylevance.demo.intents import Intent
from raylevance.demo.randomness import Draws, Ints
from raylevance.demo.relevance import ANY, COMPLEMENT, EXACT, LABELS, grade_by_rule, scope_labels

NEIGHBOURS, SHARING_ALL, SHARING_ALL_BUT_ONE, IN_SCOPE, COMPLEMENTS, ANYWHERE = 96, 24, 32, 32, 12, 64
"""Numbers of products drawn from each source. Products drawn from anywhere are distinct."""

MAX_CANDIDATES = ANYWHERE
"""The largest number of candidates of a query."""

LABEL_SHARES = np.array([0.5, 0.25, 0.08, 0.17])
"""Shares by label, in the order of `LABELS`. If a label runs out, the others fill its share."""

_REPEATED = len(LABELS)


class Candidates(NamedTuple):
    """`slots` int64 and `labels` int8, both [queries, count]. The slots of a row are distinct."""

    slots: Ints
    labels: Labels


class CandidateSource:
    """Draws candidates for queries from a catalogue."""

    def __init__(self, catalogue: Catalogue, seed: int) -> None:
        self._catalogue = catalogue
        self._draws = Draws(seed, "candidates")
        self._priority = Draws(seed, "candidate priority")
        self._answers = _members(EXACT)
        self._complements = _members(COMPLEMENT)

    def for_intent(self, intent: Intent, count: int) -> Candidates:
        """Return `count` candidates of each query, at most `MAX_CANDIDATES`.

        A larger `count` returns the same candidates followed by more.
        """
        slots = np.concatenate(
            [
                self._neighbours(intent),
                self._sharing(intent),
                self._in_leaves(intent, self._answers, IN_SCOPE, 1),
                self._in_leaves(intent, self._complements, COMPLEMENTS, 2),
                self._anywhere(intent),
            ],
            axis=1,
        )
        leaves = self._catalogue.leaves(slots)
        labels = grade_by_rule(intent.scope, intent.wanted, leaves, self._catalogue.attributes(slots, leaves))
        priority = self._priority.uniform(intent.queries[:, None], slots)
        chosen = _first_by_share(np.where(_is_repeat(slots), _REPEATED, labels), priority, count)
        return Candidates(np.take_along_axis(slots, chosen, 1), np.take_along_axis(labels, chosen, 1))

    def _neighbours(self, intent: Intent) -> Ints:
        start, size, rank = self._place(intent)
        slots: Ints = start + (rank + np.arange(NEIGHBOURS, dtype=np.int64)) % size
        return slots

    def _sharing(self, intent: Intent) -> Ints:
        """Return slots that share the named attributes, then slots that share all but one, each left out in turn."""
        periods = np.where(intent.wanted == ANY, 1, PERIODS[:, None])
        whole = periods.prod(axis=0)[:, None]
        relaxed = whole // periods.T[:, np.arange(SHARING_ALL_BUT_ONE) % len(PERIODS)]
        strides = np.concatenate([np.repeat(whole, SHARING_ALL, axis=1), relaxed], axis=1)
        start, size, rank = self._place(intent)
        before: Ints = rank // strides
        steps = before + (size - 1 - rank) // strides + 1
        column = np.arange(strides.shape[1])
        slots: Ints = start + rank + strides * (self._draws.integers(steps, intent.queries[:, None], column) - before)
        return slots

    def _in_leaves(self, intent: Intent, members: "_Members", count: int, source: int) -> Ints:
        """Return slots drawn from the members of each query's scope, or the target if the scope has none."""
        counts = members.counts[intent.scope][:, None]
        row, column = intent.queries[:, None], np.arange(count)
        leaf = members.leaves[intent.scope[:, None], self._draws.integers(counts, row, column, np.array([source]))]
        rank = self._draws.integers(self._catalogue.sizes[leaf], row, column, np.array([source + 2]))
        return np.where(counts > 0, self._catalogue.starts[leaf] + rank, intent.target[:, None])

    def _anywhere(self, intent: Intent) -> Ints:
        size = self._catalogue.size
        first = self._draws.integers(size, intent.queries)[:, None]
        return (first + np.arange(ANYWHERE) * (size // ANYWHERE)) % size

    def _place(self, intent: Intent) -> tuple[Ints, Ints, Ints]:
        """Return the first slot and the size of the target's leaf, and the target's rank in it, each [n, 1]."""
        leaf = self._catalogue.leaves(intent.target)
        start = self._catalogue.starts[leaf]
        return start[:, None], self._catalogue.sizes[leaf][:, None], (intent.target - start)[:, None]


class _Members(NamedTuple):
    """The leaves that have a certain label in each scope.

    They are the first `counts[scope]` entries of `leaves[scope]`. `leaves`: [scopes, leaves], `counts`: [scopes].
    """

    leaves: Ints
    counts: Ints


def _members(label: int) -> _Members:
    has_label = scope_labels() == label
    return _Members(np.argsort(~has_label, axis=1, kind="stable"), has_label.sum(axis=1))


def _is_repeat(slots: Ints) -> npt.NDArray[np.bool_]:
    """Return True where the same slot occurs earlier in its row."""
    order = np.argsort(slots, axis=1, kind="stable")
    ordered = np.take_along_axis(slots, order, 1)
    repeats = np.zeros(slots.shape, np.bool_)
    np.put_along_axis(repeats, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return repeats


def _first_by_share(labels: Labels, priority: npt.NDArray[np.float64], count: int) -> Ints:
    """Return the columns of the `count` candidates with the lowest rank within their label, divided by its share.

    Repeated slots, which have the label `_REPEATED`, come last.
    """
    order = np.argsort(labels + priority, axis=1)
    ordered = np.take_along_axis(labels, order, 1)
    firsts = np.stack([(ordered < label).sum(axis=1) for label in range(_REPEATED + 1)], axis=1)
    place = np.arange(labels.shape[1]) - np.take_along_axis(firsts, ordered.astype(np.int64), 1)
    urgency = np.where(ordered == _REPEATED, np.inf, (place + 1) / np.append(LABEL_SHARES, 1)[ordered])
    return np.take_along_axis(order, np.argsort(urgency, axis=1, kind="stable")[:, :count], 1)
