"""The catalogue as arithmetic: the attributes of any product, and the products with given attributes, in O(1) memory.

Products have a row (the order of the table) and a slot. Slots are grouped by leaf; a product's rank is its place
within its leaf. Attribute k of rank r is entry `r mod PERIODS[k]` of the leaf's table for k. The periods are coprime,
so ranks run through all combinations before one repeats (Chinese remainder theorem), and products that share some
attributes lie a product of periods apart: nothing has to be held or searched. Rows are slots shuffled by an affine
map. Our own construction.
"""

import math

import numpy as np

from raylevance.demo.lexicon import ATTRIBUTES, BRAND, words
from raylevance.demo.randomness import Draws, Floats, Ints
from raylevance.demo.vocabulary import LEAVES

PERIODS = np.array([9, 13, 16, 7, 11, 5])
"""Length of the value table of each of `ATTRIBUTES`; pairwise coprime."""

BRANDS_A_LEAF = 9
_GOLDEN = (math.sqrt(5) - 1) / 2


class Catalogue:
    """`size` products; the same `size` and `seed` give the same products."""

    def __init__(self, size: int, seed: int) -> None:
        """`size`: at least one product a leaf."""
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
        """The slots of table rows."""
        return (rows * self._step + self._shift) % self.size

    def rows(self, slots: Ints) -> Ints:
        """The table rows of slots."""
        return (slots - self._shift) % self.size * self._inverse % self.size

    def leaves(self, slots: Ints) -> Ints:
        """The leaf of each slot."""
        return np.searchsorted(self.starts, slots, side="right") - 1

    def attributes(self, slots: Ints, leaves: Ints) -> Ints:
        """The meanings of `slots`, which lie in `leaves`: int64 [6, ...], numbered as in `words()`."""
        ranks = slots - self.starts[leaves]
        return np.stack([table[leaves, ranks % len(table[0])] for table in self.tables])

    def appeal(self, slots: Ints) -> Floats:
        """What attributes do not explain (pictures, reviews): uniform in [-1, 1)."""
        return 2 * self._appeal.uniform(slots) - 1


def _shares(rng: np.random.Generator) -> Floats:
    """The share of each leaf in catalogue and demand: log-normal."""
    weights: Floats = rng.lognormal(sigma=0.5, size=len(LEAVES))
    shares: Floats = weights / weights.sum()
    return shares


def _starts(shares: Floats, size: int) -> Ints:
    """First slot of each leaf and the end, int64 [leaves + 1]; each leaf has one product or more."""
    ends = np.floor(np.cumsum(shares[:-1]) * (size - len(shares))).astype(np.int64)
    extra = np.concatenate([[0], ends, [size - len(shares)]])
    starts: Ints = extra + np.arange(len(shares) + 1)
    return starts


def _table(rng: np.random.Generator, attribute: int) -> Ints:
    """Values by leaf and residue, int64 [leaves, period]: all of a leaf's values, the common ones oftener."""
    return np.stack([_arranged(rng, values[attribute], attribute) for values in words().values])


def _arranged(rng: np.random.Generator, values: list[int], attribute: int) -> Ints:
    """`values` (of brands, some) spread over a period in proportion to 1, 1/2, 1/3, ..., and shuffled."""
    chosen = rng.permutation(values)[:BRANDS_A_LEAF] if attribute == BRAND else np.array(values)
    period = int(PERIODS[attribute])
    counts = spread(1 / np.arange(1, len(chosen) + 1), period)
    return rng.permutation(np.repeat(chosen, counts))


def spread(weights: Floats, total: int) -> Ints:
    """Whole numbers of 1 or more that sum to `total`, in proportion to `weights`, by largest remainder."""
    exact = weights / weights.sum() * (total - len(weights))
    counts: Ints = np.floor(exact).astype(np.int64)
    largest = np.argsort(counts - exact, kind="stable")[: total - len(weights) - int(counts.sum())]
    counts[largest] += 1
    counts += 1
    return counts


def _coprime(start: int, size: int) -> int:
    step = max(start, 1)
    while math.gcd(step, size) != 1:
        step += 1
    return step
