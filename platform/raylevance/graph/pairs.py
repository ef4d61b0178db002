"""Training pairs drawn from random walks: positives of each anchor, and negatives of a chosen difficulty for each pair.

    positive    one of the anchor's most visited nodes, with a PPMI at or above a quantile of the anchor's
    hard        shares a feature (a word or a category) with the anchor, not visited, and not excluded
    easy        any other node, drawn uniformly, that was not visited and is not excluded

Source: samples of "controllable semantic difficulty" (CIKM 2022, DOI 10.1145/3511808.3557143, component A); these rules
are our reading. A node that walks visit is taken for relevant, however late they visit it, so it is no negative.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt

from raylevance.config import Settings
from raylevance.graph.compiled import compiled
from raylevance.graph.csr import Csr, Nodes
from raylevance.graph.random_numbers import GOLDEN_GAMMA, initial_states, random_bits

TRIES = 16
"""Draws for one hard or easy negative, after which its slot stays empty."""


class PairSettings(Settings):
    """How many pairs an anchor gives, how strong its positives must be, and the negatives of each pair."""

    positives: PositiveInt = 4
    """Largest number of positives of an anchor. The most visited ones are taken."""
    quantile: float = Field(0.8, ge=0, le=1)
    """Quantile of the PPMI of an anchor's edges that a positive must reach. Higher values give fewer, better ones."""
    hard: int = Field(1, ge=0)
    """Number of hard negatives of each pair."""
    easy: int = Field(0, ge=0)
    """Number of easy negatives of each pair."""


@dataclass(frozen=True, kw_only=True)
class PairGraphs:
    """The graphs that decide which pairs of one kind are drawn. Anchors and targets are each numbered from 0.

    - `ppmi`: anchors by targets. Positives are among its edges.
    - `excluded_negatives`: anchors by the targets that are never negatives.
    - `anchor_features`: anchors by their features.
    - `feature_targets`: features by the targets that have them.
    - `same_kind`: whether anchors and targets are the same nodes, so that an anchor must not be its own target.
    - `first_target`: the number that target 0 has in walks.
    """

    ppmi: Csr
    excluded_negatives: Csr
    anchor_features: Csr
    feature_targets: Csr
    same_kind: bool
    first_target: int = 0


@dataclass(frozen=True)
class SampledPairs:
    """Targets drawn for n anchors, with -1 where fewer were found.

    - `positives` int32 [n, P].
    - `negatives` int32 [n, P, hard + easy], those of each positive, in that order.
    """

    positives: Nodes
    negatives: Nodes


def sample_pairs(
    walks: Nodes, anchors: npt.NDArray[np.integer], graphs: PairGraphs, settings: PairSettings, seed: int
) -> SampledPairs:
    """Draw the pairs of `anchors` [n] from the walks that start at each of them.

    `walks` is int32 [n * walks_per_node, length + 1], in the order of `anchors`. The pairs of an anchor depend only on
    the seed, the anchor and its walks.
    """
    negatives_per_pair = settings.hard + settings.easy
    positives = np.full((len(anchors), settings.positives), -1, np.int32)
    negatives = np.full((len(anchors), settings.positives, negatives_per_pair), -1, np.int32)
    if len(anchors):
        _sample(
            walks.reshape(len(anchors), -1, walks.shape[1]),
            anchors.astype(np.int64),
            initial_states(seed, anchors),
            _Graphs(
                ppmi=_rows_of(graphs.ppmi),
                ppmi_weights=graphs.ppmi.weights,
                excluded_negatives=_rows_of(graphs.excluded_negatives),
                anchor_features=_rows_of(graphs.anchor_features),
                feature_targets=_rows_of(graphs.feature_targets),
            ),
            _Rules(
                same_kind=graphs.same_kind,
                first_target=graphs.first_target,
                targets=graphs.ppmi.columns,
                quantile=settings.quantile,
                hard=settings.hard,
            ),
            positives,
            negatives,
        )
    return SampledPairs(positives, negatives)


class _Rows(NamedTuple):
    indptr: Any
    indices: Any


class _Graphs(NamedTuple):
    ppmi: _Rows
    ppmi_weights: Any
    excluded_negatives: _Rows
    anchor_features: _Rows
    feature_targets: _Rows


class _Rules(NamedTuple):
    same_kind: bool
    first_target: int
    targets: int
    quantile: float
    hard: int


def _rows_of(graph: Csr) -> _Rows:
    return _Rows(graph.indptr, graph.indices)


@compiled
def _sample(walks: Any, anchors: Any, rng: Any, graphs: Any, rules: Any, positives: Any, negatives: Any) -> Any:
    for index in range(len(anchors)):
        anchor, state = anchors[index], rng[index]
        own_target = anchor if rules.same_kind else -1
        visited, visits = _visited_targets(walks[index], rules.first_target, rules.targets)
        excluded = _row(graphs.excluded_negatives, anchor)
        ppmi = graphs.ppmi_weights[graphs.ppmi.indptr[anchor] : graphs.ppmi.indptr[anchor + 1]]
        pairs = _write_positives(
            _row(graphs.ppmi, anchor), ppmi, visited, visits, own_target, rules.quantile, positives[index]
        )
        features = _row(graphs.anchor_features, anchor)
        for pair in range(pairs):
            out = negatives[index, pair]
            for slot in range(rules.hard):
                for _ in range(TRIES):
                    if len(features) == 0:
                        break
                    state += GOLDEN_GAMMA
                    feature = features[int(random_bits(state) % np.uint64(len(features)))]
                    sharing = _row(graphs.feature_targets, feature)
                    if len(sharing) == 0:
                        continue
                    state += GOLDEN_GAMMA
                    node = sharing[int(random_bits(state) % np.uint64(len(sharing)))]
                    if _is_allowed(node, own_target, excluded, visited, out):
                        out[slot] = node
                        break
            for slot in range(rules.hard, len(out)):
                for _ in range(TRIES):
                    state += GOLDEN_GAMMA
                    node = int(random_bits(state) % np.uint64(rules.targets))
                    if _is_allowed(node, own_target, excluded, visited, out):
                        out[slot] = node
                        break


@compiled
def _row(rows: Any, node: Any) -> Any:
    return rows.indices[rows.indptr[node] : rows.indptr[node + 1]]


@compiled
def _visited_targets(walks: Any, first_target: Any, targets: Any) -> Any:
    """Return the targets that walks visit, ascending, and how often each."""
    count, length = walks.shape
    nodes = np.empty(count * length, np.int32)
    total = 0
    for walk in range(count):
        for step in range(1, length):
            node = walks[walk, step] - first_target
            if walks[walk, step] >= 0 and 0 <= node < targets:
                nodes[total] = node
                total += 1
    ascending = np.sort(nodes[:total])
    visited, visits = np.empty(total, np.int32), np.zeros(total, np.int64)
    distinct = 0
    for node in ascending:
        if distinct == 0 or visited[distinct - 1] != node:
            visited[distinct] = node
            distinct += 1
        visits[distinct - 1] += 1
    return visited[:distinct], visits[:distinct]


@compiled
def _write_positives(nodes: Any, ppmi: Any, visited: Any, visits: Any, own_target: Any, quantile: Any, out: Any) -> Any:
    """Write the most visited of the `nodes` whose PPMI reaches the quantile, ties by number. Return how many."""
    if len(nodes) == 0:
        return 0
    bar = np.quantile(ppmi, quantile)
    candidates, negated_visits = np.empty(len(nodes), np.int32), np.empty(len(nodes), np.int64)
    count = 0
    for index in range(len(nodes)):
        position = np.searchsorted(visited, nodes[index])
        was_visited = position < len(visited) and visited[position] == nodes[index]
        if ppmi[index] >= bar and nodes[index] != own_target and was_visited:
            candidates[count], negated_visits[count] = nodes[index], -visits[position]
            count += 1
    order = np.argsort(negated_visits[:count], kind="mergesort")
    written = min(count, len(out))
    for index in range(written):
        out[index] = candidates[order[index]]
    return written


@compiled
def _is_allowed(node: Any, own_target: Any, excluded: Any, visited: Any, drawn: Any) -> Any:
    if node == own_target or _contains(excluded, node) or _contains(visited, node):
        return False
    return not (drawn == node).any()


@compiled
def _contains(ascending: Any, node: Any) -> Any:
    position = np.searchsorted(ascending, node)
    return position < len(ascending) and ascending[position] == node
