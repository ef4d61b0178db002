"""The triggers of each step, and the candidates that they are compared with.

Everything that is drawn depends on the seed and the step alone, so it is the same on every worker.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from raylevance.graph.csr import Csr
from raylevance.graph.item_graph import ItemGraph
from raylevance.graph.item_objectives import OBJECTIVES, Objective, above_chance, strongest
from raylevance.graph.neighbour_sampling import NeighbourSampler

if TYPE_CHECKING:
    from raylevance.training.tasks.item_retrieval.task import ItemRetrievalSettings

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

EMPTY: Ints = np.empty(0, np.int64)


@dataclass(frozen=True)
class Batch:
    """The triggers of a step, int64 [triggers], and its candidates by code, int64 [candidates], ascending.

    `positives` holds the positive candidates that each objective drew: the row among `triggers`, and the candidate, of
    each draw. `seeds` has the seed of each objective's draws in the step.
    """

    triggers: Ints
    candidates: Ints
    positives: dict[Objective, tuple[Ints, Ints]]
    seeds: dict[Objective, int]


class Batches:
    """Draws the positives and negatives of triggers.

    The positives of an objective are its edges above chance; with `most_positives`, the strongest of a trigger's.
    """

    def __init__(self, graph: ItemGraph, settings: "ItemRetrievalSettings", seed: int) -> None:
        self.items, self._settings, self._seed = len(graph), settings, seed
        edges = {name: above_chance(graph.objectives[name]) for name in OBJECTIVES if name in graph.objectives}
        if settings.most_positives:
            edges = {name: strongest(each, settings.most_positives) for name, each in edges.items()}
        self._edges = edges
        """The edges of all objectives, by which negatives are masked, whether or not the objective has a weight."""
        with_edges = {name: each for name, each in self._edges.items() if len(each.indices)}
        self.objectives = {name: each for name, each in with_edges.items() if settings.weights.of(name)}
        self._samplers = {name: NeighbourSampler(objective) for name, objective in self.objectives.items()}
        self._has_events = graph.items["first_time"].is_valid().to_numpy()
        degrees = np.sum([np.zeros(self.items), *(each.degrees for each in self.objectives.values())], axis=0)
        self.triggers = np.flatnonzero(degrees)
        """The items that are a trigger of an objective, int64."""

    def draw(self, triggers: Ints, step: int, more: Ints = EMPTY) -> Batch:
        """Return the batch of `triggers`, items, in `step`. The codes `more` are candidates too."""
        seeds = np.random.SeedSequence([self._seed, step]).generate_state(len(OBJECTIVES) + 1, np.uint64)
        seed_of = {name: int(seeds[OBJECTIVES.index(name)]) for name in self._samplers}
        drawn = {
            name: sampler.sample(triggers, self._settings.positives, seed_of[name])
            for name, sampler in self._samplers.items()
        }
        random = np.random.default_rng(int(seeds[-1])).integers(self.items, size=self._settings.random_negatives)
        random = np.where(self._has_events[random], random, random + self.items)
        candidates = np.unique(np.concatenate([random, more, *(codes for _, codes in drawn.values())]))
        places = {name: (rows, np.searchsorted(candidates, codes)) for name, (rows, codes) in drawn.items()}
        return Batch(triggers, candidates, places, seed_of)

    def positive_weights(self, batch: Batch, objective: Objective, rows: Ints) -> Floats:
        """Return how often each candidate was drawn as a positive of the triggers `rows`, [rows, candidates]."""
        own, places = batch.positives[objective]
        index = np.full(len(batch.triggers), -1)
        index[rows] = np.arange(len(rows))
        kept = index[own] >= 0
        weights = np.zeros((len(rows), len(batch.candidates)), np.float32)
        np.add.at(weights, (index[own[kept]], places[kept]), 1)
        return weights

    def negative_weights(self, batch: Batch, objective: Objective, rows: Ints) -> Floats:
        """Return the weight of each candidate among the negatives of the triggers `rows`, [rows, candidates].

        All candidates but the trigger itself and known positives of the objective are negatives. A known positive of
        purchase is never a negative of relevance, and one of click is a weak negative of purchase unless it is a known
        positive of that. Known are the edges that positives are drawn from: one of an objective may be none of another.

        With the loss `other-positives`, known positives that were not drawn are in the denominator with weight 1.
        """
        weights = np.ones((len(rows), len(batch.candidates)), np.float32)
        if objective == "purchase" and "click" in self._edges:
            weights[self._known(batch, self._edges["click"], rows)] = self._settings.clicked_not_bought
        if objective == "relevance" and "purchase" in self._edges:
            weights[self._known(batch, self._edges["purchase"], rows)] = 0
        if self._settings.loss == "other-positives":
            weights[self._known(batch, self._edges[objective], rows)] = 1
            weights[self._drawn_items(batch, objective, rows)] = 0
        else:
            weights[self._known(batch, self._edges[objective], rows)] = 0
        weights[batch.candidates % self.items == batch.triggers[rows][:, None]] = 0
        return weights

    def mix_draws(self, batch: Batch, objective: Objective, rows: Ints) -> Floats:
        """Return the random numbers of the mixed negatives of the triggers `rows`, [rows, mixed negatives, 2]."""
        count = min(self._settings.mixed_negatives, len(batch.candidates))
        random = np.random.default_rng([batch.seeds[objective], 1])
        return random.random((len(batch.triggers), count, 2), np.float32)[rows]

    def _drawn_items(self, batch: Batch, objective: Objective, rows: Ints) -> npt.NDArray[np.bool_]:
        """Return whether each candidate is an item that was drawn as a positive, known or new, [rows, candidates]."""
        drawn = self.positive_weights(batch, objective, rows) > 0
        other_codes = (batch.candidates + self.items) % (2 * self.items)
        places = np.minimum(np.searchsorted(batch.candidates, other_codes), len(batch.candidates) - 1)
        both = batch.candidates[places] == other_codes
        found: npt.NDArray[np.bool_] = drawn | (drawn[:, places] & both)
        return found

    def _known(self, batch: Batch, graph: Csr, rows: Ints) -> npt.NDArray[np.bool_]:
        """Return whether `graph` has an edge from each trigger to each candidate, known or new."""
        nodes = batch.triggers[rows]
        items = graph.indices[graph.edge_positions(nodes)].astype(np.int64) % self.items
        owners = np.repeat(np.arange(len(rows)), graph.degrees[nodes])
        found = np.zeros((len(rows), len(batch.candidates)), bool)
        for codes in (items, items + self.items):
            places = np.minimum(np.searchsorted(batch.candidates, codes), len(batch.candidates) - 1)
            hit = batch.candidates[places] == codes
            found[owners[hit], places[hit]] = True
        return found
