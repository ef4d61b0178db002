"""What an item table is compared with: simple rules, and similarities of items by who chose them.

Each system ranks the whole catalogue for the triggers of each request, and leaves the triggers out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import scipy.sparse as sp

from raylevance.data.actions import ACTION_WEIGHTS
from raylevance.data.schema import ACTIONS
from raylevance.graph.csr import Csr
from raylevance.graph.item_choices import choices_of_users
from raylevance.graph.item_graph import REQUESTS_FOLDER, ItemGraph
from raylevance.graph.item_similarity import ease, item_cf
from raylevance.graph.query_categories import fitting_or_all, inside
from raylevance.graph.swing import SwingSettings, swing
from raylevance.index.item_scores import DAMPING
from raylevance.index.item_table import ItemTable, ItemTableSettings, nearest_items
from raylevance.inference.item_table import TriggerLists, recommender
from workloads.steps.graph_baselines import graphsage_vectors, lightgcn_vectors, xsimgcl_vectors

Ints = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]

BaselineName = Literal[
    "popularity",
    "category popularity",
    "item-CF",
    "Swing",
    "EASE",
    "LightGCN",
    "XSimGCL",
    "GraphSAGE",
    "neighbours",
    "text",
]
BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)
SHRINK, REGULARISATION, EASE_ITEMS, TOP = 10.0, 300.0, 6_000, 400
SCORES_AT_ONCE, MOST_REQUESTS_AT_ONCE = 2**25, 256
"""How many scores of float64 a rule holds at a time, unless the catalogue alone has more, and for how many requests."""


class System(Protocol):
    """Ranks items for requests."""

    def rank(self, triggers: TriggerLists, categories: Ints, k: int) -> Ints:
        """Return the first `k` items for each request, int64 [requests, k], -1 for none.

        `categories` [requests] is the number of the category that a request's items must be in or below, 0 for any.
        Triggers outside it count only where a request has none inside.
        """


@dataclass(frozen=True)
class TableSystem:
    """An item table, as it is served."""

    table: ItemTable
    names: Sequence[str]
    """The category of each number, from 1."""

    def rank(self, triggers: TriggerLists, categories: Ints, k: int) -> Ints:
        """Return the first `k` items for each request, as `System.rank` does."""
        wanted = [self.names[number - 1] if number else None for number in categories.tolist()]
        return recommender(self.table).recommend(triggers, k, wanted).items


@dataclass(frozen=True)
class Rule:
    """A rule that scores all items from the weights of a request's triggers: [requests, items] to [requests, items].

    `of_items` is the number of each item's category, and `below` those below each category, as `categories_below` gives
    them. Items with a score of 0 are not recommended.
    """

    of_items: Ints
    below: Ints
    score: Callable[[sp.csr_matrix], Scores]

    def rank(self, triggers: TriggerLists, categories: Ints, k: int) -> Ints:
        """Return the first `k` items for each request, as `System.rank` does."""
        return np.concatenate([np.empty((0, k), np.int64), *self._ranked(triggers, categories, k)])

    def _ranked(self, triggers: TriggerLists, categories: Ints, k: int) -> Iterator[Ints]:
        requests = len(triggers.starts) - 1
        counts = np.diff(triggers.starts)
        rows = np.repeat(np.arange(requests), counts)
        size = len(self.of_items)
        fits = inside(self.of_items[triggers.items], categories[rows], self.below)
        kept = fitting_or_all(rows, fits & (triggers.weights > 0), requests)
        # The weights are damped as those of the table are: undamped, baselines find less.
        fitting = np.where(kept, triggers.weights, 0.0) ** DAMPING
        weights = sp.csr_matrix((fitting, (rows, triggers.items)), (requests, size))
        at_once = min(max(SCORES_AT_ONCE // size, 1), MOST_REQUESTS_AT_ONCE)
        for start in range(0, requests, at_once):
            scores = np.asarray(self.score(weights[start : start + at_once]), np.float64)
            own = slice(triggers.starts[start], triggers.starts[min(start + at_once, requests)])
            scores[rows[own] - start, triggers.items[own]] = 0
            wanted = categories[start : start + at_once, None]
            scores[~inside(self.of_items, wanted, self.below)] = 0
            lists = np.full((len(scores), k), -1, np.int64)
            for found, row in zip(lists, scores, strict=True):
                best = highest(row, k)
                found[: len(best)] = best
            yield lists


def highest(scores: Scores, k: int) -> Ints:
    """Return the places of the `k` highest of `scores` [items] above 0, best first; of equal ones the lower places."""
    taken = min(k, len(scores))
    least = max(float(np.partition(scores, -taken)[-taken]), 0.0)
    above = np.flatnonzero(scores > least)
    equal = np.flatnonzero(scores == least)[: taken - len(above)] if least else np.empty(0, np.int64)
    found = np.concatenate([above, equal])
    order: Ints = np.lexsort((found, -scores[found]))
    return found[order]


@dataclass(frozen=True)
class BaselineData:
    """Data that baselines learn from: an item graph, the folder that holds it, and text vectors or None.

    `categories` and `below` are those of `Rule`.
    """

    graph: ItemGraph
    folder: Path
    categories: Ints
    below: Ints
    texts: npt.NDArray[np.float32] | None
    seed: int

    @cached_property
    def choices(self) -> sp.csr_matrix:
        """Which items each user chose, 1 for each, [users, items]."""
        columns = ["request_id", "user_id", "items", "actions"]
        requests = pq.read_table(self.folder / REQUESTS_FOLDER, columns=columns)
        chosen = choices_of_users(requests, len(self.graph))
        values = chosen.weights.astype(np.float64)
        return sp.csr_matrix((values, chosen.indices, chosen.indptr), (chosen.rows, len(self.graph)))

    @cached_property
    def popularity(self) -> Scores:
        """How often each item was chosen, actions weighted, float64 [items]."""
        weights = np.array([ACTION_WEIGHTS[action] for action in ACTIONS], np.float64)
        return np.asarray(self.graph.event_counts @ weights, np.float64)

    def rule(self, score: Callable[[sp.csr_matrix], Scores]) -> Rule:
        """Return the rule that ranks the items of the graph by `score`."""
        return Rule(self.categories, self.below, score)


def make_baseline(name: BaselineName, data: BaselineData) -> System | None:
    """Return the baseline `name` fitted on `data`; None where the data has no texts, categories or choices for it."""
    size = len(data.graph)
    if not data.choices.nnz and name not in ("popularity", "category popularity", "text"):
        return None
    if name == "popularity":
        return data.rule(lambda weights: np.tile(data.popularity, (weights.shape[0], 1)))
    if name == "category popularity":
        return data.rule(lambda weights: by_category(weights, data)) if data.categories.any() else None
    if name == "item-CF":
        similar = item_cf(data.choices, SHRINK, TOP)
        return data.rule(lambda weights: (weights @ similar).toarray())
    if name == "Swing":
        choices = data.choices
        users = Csr.from_edges(*choices.nonzero(), np.ones(choices.nnz, np.float32), choices.shape)
        found = swing(users, SwingSettings(top=TOP))
        by_swing = sp.csr_matrix((found.weights.astype(np.float64), found.indices, found.indptr), (size, size))
        return data.rule(lambda weights: (weights @ by_swing).toarray())
    if name == "EASE":
        between, items = ease(data.choices, REGULARISATION, EASE_ITEMS)
        return data.rule(lambda weights: by_ease(weights, between, items))
    if name == "neighbours":
        graph = data.graph.neighbours
        near = sp.csr_matrix((graph.weights.astype(np.float64), graph.indices, graph.indptr), (size, size))
        return data.rule(lambda weights: (weights @ near).toarray())
    if name == "LightGCN":
        return nearest_system(lightgcn_vectors(data.choices, data.seed), data)
    if name == "XSimGCL":
        return nearest_system(xsimgcl_vectors(data.choices, data.seed), data)
    if name == "GraphSAGE":
        vectors = graphsage_vectors(data.choices, data.graph.neighbours, data.categories, data.seed)
        return nearest_system(vectors, data)
    return nearest_system(data.texts, data) if data.texts is not None else None


def by_category(weights: sp.csr_matrix, data: BaselineData) -> Scores:
    """Return the weight of an item's category among the triggers, times the item's popularity."""
    known = np.flatnonzero(data.categories)
    size = int(data.categories.max()) + 1
    member = sp.csr_matrix((np.ones(len(known)), (known, data.categories[known])), (len(data.categories), size))
    return np.asarray((weights @ member @ member.T).toarray() * data.popularity, np.float64)


def by_ease(weights: sp.csr_matrix, between: npt.NDArray[np.float32], items: Ints) -> Scores:
    """Return x_u B for the items that EASE knows, 0 for others. x_u holds 1 for each trigger."""
    scores = np.zeros(weights.shape)
    scores[:, items] = np.maximum((weights[:, items] > 0).astype(np.float32) @ between, 0)
    return scores


def nearest_system(vectors: npt.NDArray[np.float32], data: BaselineData) -> Rule:
    """Return the rule that adds up the cosines of the `TOP` nearest items of each trigger, above 0.

    Items whose vector is 0 bring nothing and are not recommended.
    """
    known = np.flatnonzero(vectors.any(axis=1))
    rows, cosines = nearest_items(vectors[known], [None] * len(known), ItemTableSettings(k=min(TOP, len(known))))
    kept = (rows >= 0) & (cosines > 0)
    triggers, items = np.repeat(known, kept.sum(axis=1)), known[rows[kept]]
    size = len(data.graph)
    near = sp.csr_matrix((cosines[kept].astype(np.float64), (triggers, items)), (size, size))
    return data.rule(lambda weights: (weights @ near).toarray())
