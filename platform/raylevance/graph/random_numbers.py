"""Random numbers that belong to a node or a walker, not to a worker: the same on any number of workers.

SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"), compiled.
"""

import numpy as np
import numpy.typing as npt

from raylevance.graph.compiled import inlined

States = npt.NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


@inlined
def mixed(state: np.uint64) -> np.uint64:
    """The state scrambled: 64 random bits."""
    state = (state ^ (state >> _30)) * _FIRST
    state = (state ^ (state >> _27)) * _SECOND
    return state ^ (state >> _31)


@inlined
def unit(state: np.uint64) -> float:
    """The state as a number uniform in [0, 1); the next state is `state + GOLDEN`."""
    share: float = (mixed(state) >> _11) * 2.0**-53
    return share


def states(seed: int, keys: npt.NDArray[np.integer]) -> States:
    """A first state for each of `keys` [n], uint64 [n]."""
    with np.errstate(over="ignore"):
        start = _scramble(np.uint64(seed % 2**64) + GOLDEN * np.ones(1, np.uint64))
        return _scramble(start + GOLDEN * (keys.astype(np.uint64) + np.uint64(1)))


def _scramble(values: States) -> States:
    values = (values ^ (values >> _30)) * _FIRST
    values = (values ^ (values >> _27)) * _SECOND
    return values ^ (values >> _31)
