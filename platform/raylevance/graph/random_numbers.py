"""Random numbers tied to a node or a walker instead of a worker, so they are the same on any number of workers.

Source: SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
"""

import numpy as np
import numpy.typing as npt

from raylevance.graph.compiled import inlined

States = npt.NDArray[np.uint64]

GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
"""Added to a state to get the next one."""

_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


@inlined
def random_bits(state: np.uint64) -> np.uint64:
    """Return 64 random bits for `state`. The next state is `state + GOLDEN_GAMMA`."""
    state = (state ^ (state >> _30)) * _FIRST
    state = (state ^ (state >> _27)) * _SECOND
    return state ^ (state >> _31)


@inlined
def uniform(state: np.uint64) -> float:
    """Return a number uniform in [0, 1) for `state`. The next state is `state + GOLDEN_GAMMA`."""
    share: float = (random_bits(state) >> _11) * 2.0**-53
    return share


def initial_states(seed: int, keys: npt.NDArray[np.integer]) -> States:
    """Return the first state of each of `keys` [n], uint64 [n]. It depends on `seed` and the key alone."""
    with np.errstate(over="ignore"):
        start = _random_bits_of_array(np.uint64(seed % 2**64) + GOLDEN_GAMMA * np.ones(1, np.uint64))
        return _random_bits_of_array(start + GOLDEN_GAMMA * (keys.astype(np.uint64) + np.uint64(1)))


def _random_bits_of_array(states: States) -> States:
    states = (states ^ (states >> _30)) * _FIRST
    states = (states ^ (states >> _27)) * _SECOND
    return states ^ (states >> _31)
