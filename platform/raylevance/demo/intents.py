"""The intent of each query: its kind, its scope, the attributes that it names, and a product that satisfies it."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raylevance.demo.catalogue import Catalogue, apportion
from raylevance.demo.lexicon import BRAND, COLOUR, SIZE, TYPE, leaf_number
from raylevance.demo.randomness import Draws, Ints, pick
from raylevance.demo.relevance import ANY
from raylevance.demo.vocabulary import ENGLISH, LEAVES

KINDS = ("plain", "attribute", "brand", "vague", "long tail")
PLAIN, ATTRIBUTE, BRANDED, VAGUE, LONG_TAIL = range(len(KINDS))

KIND_SHARES = {"head": (0.45, 0.30, 0.15, 0.10, 0.0), "tail": (0.15, 0.40, 0.15, 0.10, 0.20)}
HEAD = 0.1
"""The share of the queries, the most popular ones, that are head queries: shorter and never long tail."""

MISSPELT_SHARE = 0.12
COLOUR_BESIDE_BRAND = 0.3
BRAND_IN_LONG_TAIL = 0.3
"""The share of brand queries that name a colour too, and of long tail queries that name a brand."""

LEAF_PERIOD = 512
"""Two queries whose numbers differ by a multiple of this have the same leaf."""


class Intent(NamedTuple):
    """The intents of n queries, each field [n] except `wanted`: [6, n], meanings or `ANY`.

    `queries`: their numbers. `kind`: an index into `KINDS`. `scope`: see `relevance.scope_labels`. `target`: the slot
    of an exact product.
    """

    queries: Ints
    kind: Ints
    misspelt: npt.NDArray[np.bool_]
    scope: Ints
    wanted: Ints
    target: Ints


class Intents:
    """Computes the intents of queries over a catalogue. `queries` is the number of queries."""

    def __init__(self, catalogue: Catalogue, queries: int, seed: int) -> None:
        self.queries = queries
        self._catalogue = catalogue
        order = np.random.default_rng([seed, LEAF_PERIOD])
        self._leaves = order.permutation(np.repeat(np.arange(len(LEAVES)), apportion(catalogue.shares, LEAF_PERIOD)))
        self._answers = [leaf_number(names[0]) for names in ENGLISH.needs.values()]
        self._draws = {
            name: Draws(seed, f"intent {name}")
            for name in ("kind", "misspelt", "rank", "need", "stated", "colour", "brand", "count")
        }

    def of_queries(self, queries: Ints) -> Intent:
        """Return the intents of the queries with these numbers. Number 0 is the most popular query."""
        draws, kind = self._draws, self._kinds(queries)
        need = draws["need"].integers(len(ENGLISH.needs), queries)
        is_vague = kind == VAGUE
        leaf = np.where(is_vague, np.array(self._answers)[need], self._leaves[queries % LEAF_PERIOD])
        target = self._catalogue.starts[leaf] + self._ranks(queries, self._catalogue.sizes[leaf])
        wanted = np.where(self._stated(queries, kind), self._catalogue.attributes(target, leaf), ANY)
        misspelt = (draws["misspelt"].uniform(queries) < MISSPELT_SHARE) & ~is_vague
        return Intent(queries, kind, misspelt, np.where(is_vague, len(LEAVES) + need, leaf), wanted, target)

    def with_same_leaf(self, queries: Ints, uniform: npt.NDArray[np.float64]) -> Ints:
        """Return, for each of `queries`, one with the same leaf unless vague, chosen by `uniform` in [0, 1)."""
        residue = queries % LEAF_PERIOD
        count = (self.queries - 1 - residue) // LEAF_PERIOD + 1
        return residue + LEAF_PERIOD * (uniform * count).astype(np.int64)

    def _kinds(self, queries: Ints) -> Ints:
        uniform = self._draws["kind"].uniform(queries)
        head, tail = (pick(uniform, KIND_SHARES[name]) for name in ("head", "tail"))
        return np.where(queries < HEAD * self.queries, head, tail)

    def _ranks(self, queries: Ints, sizes: Ints) -> Ints:
        """Return the rank of the target in its leaf. Successive queries of a leaf have successive ranks."""
        first = self._draws["rank"].integers(sizes, queries % LEAF_PERIOD)
        return (first + queries // LEAF_PERIOD) % sizes

    def _stated(self, queries: Ints, kind: Ints) -> npt.NDArray[np.bool_]:
        """Return which attributes of the target each query names, bool [6, n]."""
        draws = self._draws
        stated = np.zeros((SIZE + 1, len(queries)), np.bool_)
        stated[TYPE] = kind != VAGUE
        stated[BRAND] = (kind == BRANDED) | (
            (kind == LONG_TAIL) & (draws["brand"].uniform(queries) < BRAND_IN_LONG_TAIL)
        )
        counts = np.zeros(len(queries), np.int64)
        counts[kind == ATTRIBUTE] = 1
        counts[(kind == ATTRIBUTE) & (draws["count"].uniform(queries) < 0.4)] = 2
        counts[kind == LONG_TAIL] = 3
        others = np.arange(COLOUR, SIZE + 1)
        order = np.argsort(draws["stated"].uniform(queries, others[:, None]), axis=0)
        np.put_along_axis(stated[COLOUR:], order, np.arange(len(others))[:, None] < counts, axis=0)
        stated[COLOUR] |= (kind == BRANDED) & (draws["colour"].uniform(queries) < COLOUR_BESIDE_BRAND)
        return stated
