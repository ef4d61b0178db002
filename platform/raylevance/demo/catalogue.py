"""The attributes of any product, and the products with given attributes, computed in O(1) memory.

A product has a row, its place in the table, and a slot. Slots are grouped by leaf, and a product's rank is its place
within its leaf. Attribute k of rank r is entry `r mod PERIODS[k]` of the leaf's table for k. The periods are coprime,
so ranks take all combinations before one repeats (Chinese remainder theorem), and the distance between products that
share some attributes is a product of periods. Nothing is stored or searched. An affine map shuffles slots into rows.
This construction is our own.
"""

import math

import numpy as np

from raylevance.demo.lexicon import BRAND, word_tables
from raylevance.demo.randomness import Draws, Floats, Ints
from raylevance.demo.vocabulary import LEAVES
from raylevance.demo.vocabulary.schema import ATTRIBUTES

PERIODS = np.array([9, 13, 16, 7, 11, 5])
"""Length of the value table of each of `ATTRIBUTES`. The lengths are pairwise coprime."""

BRANDS_PER_LEAF = 9
_GOLDEN = (math.sqrt(5) - 1) / 2


class Catalogue:
    """A catalogue of `size` products, determined by `size` and `seed`."""

    def __init__(self, size: int, seed: int) -> None:
        """Build the catalogue. `size` is at least the number of leaves."""
        self.size = size
        rng = np.random.default_rng([seed, len(LEAVES)])
        self.shares = _shares(rng)
        self.starts = _starts(self.shares, size)
        self.sizes = np.diff(self.starts)
        self.tables = [_table(rng, attribute) for attribute in range(len(ATTRIBUTES))]
        self._step = _coprime(int(size * _GOLDEN), size)
        self._inverse = pow(self._step, -1, size)
        self._shift = int(rng.integers(size))
        self._appeal = Draws(seed, "appeal")

    def slots(self, rows: Ints) -> Ints:
        """Return the slots of table rows."""
        return (rows * self._step + self._shift) % self.size

    def rows(self, slots: Ints) -> Ints:
        """Return the table rows of slots."""
        return (slots - self._shift) % self.size * self._inverse % self.size

    def leaves(self, slots: Ints) -> Ints:
        """Return the leaf number of each slot."""
        return np.searchsorted(self.starts, slots, side="right") - 1

    def attributes(self, slots: Ints, leaves: Ints) -> Ints:
        """Return the meanings of `slots`, which are in `leaves`: int64 [6, ...], numbered as in `word_tables()`."""
        ranks = slots - self.starts[leaves]
        return np.stack([table[leaves, ranks % len(table[0])] for table in self.tables])

    def appeal(self, slots: Ints) -> Floats:
        """Return the appeal that attributes do not explain, such as pictures and reviews: uniform in [-1, 1)."""
        return 2 * self._appeal.uniform(slots) - 1


def _shares(rng: np.random.Generator) -> Floats:
    """Draw the share of each leaf in the catalogue and in demand, log-normal."""
    weights: Floats = rng.lognormal(sigma=0.5, size=len(LEAVES))
    shares: Floats = weights / weights.sum()
    return shares


def _starts(shares: Floats, size: int) -> Ints:
    """Return the first slot of each leaf and the end, int64 [leaves + 1]. Each leaf has at least one product."""
    ends = np.floor(np.cumsum(shares[:-1]) * (size - len(shares))).astype(np.int64)
    extra = np.concatenate([[0], ends, [size - len(shares)]])
    starts: Ints = extra + np.arange(len(shares) + 1)
    return starts


def _table(rng: np.random.Generator, attribute: int) -> Ints:
    """Return the values by leaf and residue, int64 [leaves, period]. Common values of a leaf occur more often."""
    return np.stack([_fill_period(rng, values[attribute], attribute) for values in word_tables().values])


def _fill_period(rng: np.random.Generator, values: list[int], attribute: int) -> Ints:
    """Return one period of `values` (of some, for brands), in proportion to 1, 1/2, 1/3, ... and shuffled."""
    chosen = rng.permutation(values)[:BRANDS_PER_LEAF] if attribute == BRAND else np.array(values)
    period = int(PERIODS[attribute])
    counts = apportion(1 / np.arange(1, len(chosen) + 1), period)
    return rng.permutation(np.repeat(chosen, counts))


def apportion(weights: Floats, total: int) -> Ints:
    """Return integers of 1 or more that sum to `total`, in proportion to `weights`, by the largest remainder method."""
    exact = weights / weights.sum() * (total - len(weights))
    counts: Ints = np.floor(exact).astype(np.int64)
    largest = np.argsort(counts - exact, kind="stable")[: total - len(weights) - int(counts.sum())]
    counts[largest] += 1
    counts += 1
    return counts


def _coprime(start: int, size: int) -> int:
    """Return the smallest integer from `start` on that is coprime to `size`."""
    step = max(start, 1)
    while math.gcd(step, size) != 1:
        step += 1
    return step
