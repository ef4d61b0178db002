"""Counter-based random numbers: each draw is a pure function of a seed, a name and its counters, such as a row number.

A row is therefore the same in whatever block, worker or order it is generated. The mixing function is the finaliser of
SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
"""

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bits = npt.NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


class Draws:
    """A named source of draws. Counters are integer arrays that broadcast; each tuple of counters has its own draw."""

    def __init__(self, seed: int, name: str) -> None:
        digest = blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
        self._key = np.array([int.from_bytes(digest, "little")], np.uint64)

    def bits(self, *counters: npt.NDArray[np.integer]) -> Bits:
        """Return 64 random bits for each tuple of counters."""
        state = self._key
        for counter in counters:
            state = _mixed(state + (counter.astype(np.uint64) + np.uint64(1)) * _GAMMA)
        return state

    def uniform(self, *counters: npt.NDArray[np.integer]) -> Floats:
        """Return numbers that are uniform in [0, 1)."""
        return (self.bits(*counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def integers(self, high: int | Ints, *counters: npt.NDArray[np.integer]) -> Ints:
        """Return integers that are uniform in [0, high), int64. `high` broadcasts against the counters."""
        return (self.uniform(*counters) * high).astype(np.int64)


def pick(uniform: Floats, shares: npt.ArrayLike) -> Ints:
    """Return, for each of `uniform` in [0, 1), an index that is drawn by `shares`, which sum to 1."""
    bounds = np.cumsum(shares)[:-1]
    return np.searchsorted(bounds, uniform, side="right").astype(np.int64)


def _mixed(state: Bits) -> Bits:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
