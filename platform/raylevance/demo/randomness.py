"""Counter-based random numbers: each draw is a pure function of a seed, a name and the row it is for.

So row i of a table comes out the same whatever block or worker makes it, and rows can be made in any order. The mixing
function is SplitMix64's finaliser (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
"""

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bits = npt.NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


class Draws:
    """One named sequence of draws; `counters` are integer arrays that broadcast, the coordinates of each draw."""

    def __init__(self, seed: int, name: str) -> None:
        digest = blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
        self._key = np.array([int.from_bytes(digest, "little")], np.uint64)

    def bits(self, *counters: npt.NDArray[np.integer]) -> Bits:
        """64 random bits for each tuple of counters."""
        state = self._key
        for counter in counters:
            state = _mixed(state + (counter.astype(np.uint64) + np.uint64(1)) * _GAMMA)
        return state

    def uniform(self, *counters: npt.NDArray[np.integer]) -> Floats:
        """Uniform in [0, 1)."""
        return (self.bits(*counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def integers(self, high: int | Ints, *counters: npt.NDArray[np.integer]) -> Ints:
        """Uniform in [0, high), int64; `high` broadcasts against the counters."""
        return (self.uniform(*counters) * high).astype(np.int64)


def pick(uniform: Floats, shares: npt.ArrayLike) -> Ints:
    """The index whose share of [0, 1) holds each of `uniform`; `shares` sum to 1."""
    bounds = np.cumsum(shares)[:-1]
    return np.searchsorted(bounds, uniform, side="right").astype(np.int64)


def _mixed(state: Bits) -> Bits:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
