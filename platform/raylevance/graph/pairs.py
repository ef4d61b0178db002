"""Pairs of a chosen difficulty from walks: positives, and semi-hard, hard and easy negatives of each anchor.

Alimama draw samples of "controllable semantic difficulty" from walks (CIKM 2022, component A); the rules are our
reading:

    positive    among the anchor's most visited nodes, and PPMI at or above the given quantile of the anchor's
    semi-hard   reached by a walk, first after `far` steps or more, and no neighbour of the anchor
    hard        shares a feature (a word, a category) with the anchor, was not reached, and is not related to it
    easy        any other node, uniformly, that was not reached and is not related
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt

from raylevance.config import Settings
from raylevance.graph.compiled import compiled
from raylevance.graph.csr import Csr, Nodes
from raylevance.graph.random_numbers import GOLDEN, mixed, states

TRIES = 16
"""Draws for one hard or easy negative before a place stays empty."""


class PairSettings(Settings):
    """How many pairs an anchor gives, how sure its positives are, and the negatives that come with each pair."""

    positives: PositiveInt = 4
    """Of an anchor, the most visited first."""
    quantile: float = Field(0.8, ge=0, le=1)
    """Of the anchor's PPMI, that a positive reaches."""
    far: PositiveInt = 3
    """Steps after which a node that is no neighbour is semi-hard: the more, the easier."""
    semi_hard: int = Field(1, ge=0)
    hard: int = Field(1, ge=0)
    easy: int = Field(0, ge=0)


@dataclass(frozen=True)
class Relation:
    """What decides the pairs of one type of anchor and target; nodes of both are numbered from 0.

    `ppmi`: anchors by targets. `near`: anchors by targets that are no semi-hard negatives (the edges themselves, or
    `ppmi` in both directions); `related`: by those that are neither hard nor easy ones. `features`: anchors by
    features; `featured`: features by targets. `same`: whether both are of one kind, so that an anchor is no target of
    its own.
    `first_target`: the number of target 0 in walks.
    """

    ppmi: Csr
    near: Csr
    related: Csr
    features: Csr
    featured: Csr
    same: bool
    first_target: int = 0


@dataclass(frozen=True)
class Samples:
    """Targets of each of n anchors, -1 where there are no more: `positives` [n, P], and for each of them `negatives`
    [n, P, semi_hard + hard + easy], in that order."""

    positives: Nodes
    negatives: Nodes


def sample_pairs(
    walks: Nodes, anchors: npt.NDArray[np.integer], relation: Relation, settings: PairSettings, seed: int
) -> Samples:
    """Samples of `anchors` [n] from the walks that start at each, [n * walks a node, length + 1], in their order.

    An anchor's samples depend on the seed, the anchor and its walks, and on nothing else.
    """
    kinds = np.array([settings.semi_hard, settings.hard, settings.easy], np.int64)
    positives = np.full((len(anchors), settings.positives), -1, np.int32)
    negatives = np.full((len(anchors), settings.positives, int(kinds.sum())), -1, np.int32)
    if len(anchors):
        _sample(
            walks.reshape(len(anchors), -1, walks.shape[1]),
            anchors.astype(np.int64),
            states(seed, anchors),
            (relation.ppmi.indptr, relation.ppmi.indices, relation.ppmi.weights),
            (relation.near.indptr, relation.near.indices),
            (relation.related.indptr, relation.related.indices),
            (relation.features.indptr, relation.features.indices),
            (relation.featured.indptr, relation.featured.indices),
            relation.same,
            relation.first_target,
            relation.ppmi.columns,
            settings.quantile,
            settings.far,
            kinds,
            positives,
            negatives,
        )
    return Samples(positives, negatives)


@compiled
def _sample(
    walks: Any, anchors: Any, rng: Any, ppmi: Any, near: Any, related: Any, features: Any, featured: Any,
    same: Any, first_target: Any, targets: Any, quantile: Any, far: Any, kinds: Any, positives: Any, negatives: Any,
) -> Any:  # fmt: skip
    for place in range(len(anchors)):
        anchor, state = anchors[place], rng[place]
        own = anchor if same else -1
        reached, visits, step = _reached(walks[place], first_target, targets)
        row = near[1][near[0][anchor] : near[0][anchor + 1]]
        no_negatives = related[1][related[0][anchor] : related[0][anchor + 1]]
        found = _positives(
            ppmi[1][ppmi[0][anchor] : ppmi[0][anchor + 1]],
            ppmi[2][ppmi[0][anchor] : ppmi[0][anchor + 1]],
            reached, visits, own, quantile, positives[place],
        )  # fmt: skip
        far_off = np.empty(len(reached), np.int32)
        many = 0
        for index in range(len(reached)):
            node = reached[index]
            if step[index] >= far and node != own and not _holds(row, node):
                far_off[many] = node
                many += 1
        own_features = features[1][features[0][anchor] : features[0][anchor + 1]]
        for pair in range(found):
            out = negatives[place, pair]
            for draw in range(min(kinds[0], many)):
                # Without repetition within a pair: the first ones of a shuffle.
                state += GOLDEN
                swap = draw + int(mixed(state) % np.uint64(many - draw))
                far_off[draw], far_off[swap] = far_off[swap], far_off[draw]
                out[draw] = far_off[draw]
            for draw in range(kinds[0], kinds[0] + kinds[1]):
                for _ in range(TRIES):
                    if len(own_features) == 0:
                        break
                    state += GOLDEN
                    feature = own_features[int(mixed(state) % np.uint64(len(own_features)))]
                    start, end = featured[0][feature], featured[0][feature + 1]
                    if start == end:
                        continue
                    state += GOLDEN
                    node = featured[1][start + int(mixed(state) % np.uint64(end - start))]
                    if _is_free(node, own, no_negatives, reached, out):
                        out[draw] = node
                        break
            for draw in range(kinds[0] + kinds[1], len(out)):
                for _ in range(TRIES):
                    state += GOLDEN
                    node = int(mixed(state) % np.uint64(targets))
                    if _is_free(node, own, no_negatives, reached, out):
                        out[draw] = node
                        break


@compiled
def _reached(walks: Any, first_target: Any, targets: Any) -> Any:
    """The targets that walks came by, ascending, how often, and after how many steps first."""
    count, length = walks.shape
    nodes, steps = np.empty(count * length, np.int32), np.empty(count * length, np.int32)
    many = 0
    for walk in range(count):
        for step in range(1, length):
            node = walks[walk, step] - first_target
            if walks[walk, step] >= 0 and 0 <= node < targets:
                nodes[many], steps[many] = node, step
                many += 1
    order = np.argsort(nodes[:many])
    reached, visits, first = np.empty(many, np.int32), np.zeros(many, np.int64), np.empty(many, np.int32)
    distinct = 0
    for place in order:
        if distinct == 0 or reached[distinct - 1] != nodes[place]:
            reached[distinct], first[distinct] = nodes[place], steps[place]
            distinct += 1
        visits[distinct - 1] += 1
        first[distinct - 1] = min(first[distinct - 1], steps[place])
    return reached[:distinct], visits[:distinct], first[:distinct]


@compiled
def _positives(nodes: Any, ppmi: Any, reached: Any, visits: Any, own: Any, quantile: Any, out: Any) -> Any:
    """Write the most visited of those sure enough, ties by the smaller number; how many they are."""
    if len(nodes) == 0:
        return 0
    bar = np.quantile(ppmi, quantile)
    chosen, score = np.empty(len(nodes), np.int32), np.empty(len(nodes), np.int64)
    many = 0
    for place in range(len(nodes)):
        at = np.searchsorted(reached, nodes[place])
        if ppmi[place] >= bar and nodes[place] != own and at < len(reached) and reached[at] == nodes[place]:
            chosen[many], score[many] = nodes[place], -visits[at]
            many += 1
    order = np.argsort(score[:many], kind="mergesort")
    found = min(many, len(out))
    for place in range(found):
        out[place] = chosen[order[place]]
    return found


@compiled
def _is_free(node: Any, own: Any, related: Any, reached: Any, taken: Any) -> Any:
    if node == own or _holds(related, node) or _holds(reached, node):
        return False
    return not (taken == node).any()


@compiled
def _holds(ascending: Any, node: Any) -> Any:
    place = np.searchsorted(ascending, node)
    return place < len(ascending) and ascending[place] == node
