"""The click model: what a simulated user does with a list of results. No real user was observed.

Position-based model (Craswell et al. 2008, "An experimental comparison of click position-bias models"): a click is an
examination, which depends on the position alone, times an attraction, which does not depend on it. Examination falls
as (1 / position) ^ eta (as in the simulations of Joachims et al. 2017, arXiv 1608.04468). Cart and purchase follow a
click as a funnel.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

ETA = 1.0

CLICK_IF_EXAMINED = np.array([0.45, 0.20, 0.10, 0.03])
CART_IF_CLICKED = np.array([0.30, 0.15, 0.12, 0.02])
PURCHASE_IF_CART = np.array([0.50, 0.40, 0.40, 0.20])
"""Probabilities by label, in the order E, S, C, I, for a user of neutral taste; our choice."""

LIKELIEST = 0.95

ENGINE_SCORES = np.array([2.0, 1.2, 0.6, 0.0])
"""The simulated engine's mean score by label, in the order E, S, C, I."""
ENGINE_NOISE = 0.5
"""The scale of the Gumbel noise that the engine adds to its scores."""
LOG_START = np.datetime64("2025-01-01T00:00:00", "ms").astype(np.int64)
"""The first moment of a simulated log, in milliseconds since 1970."""

Labels = npt.NDArray[np.int8]
"""Indices into the labels E, S, C, I."""
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Actions(NamedTuple):
    """What was done with each result shown, bool, all of one shape; each implies the one before."""

    click: Flags
    cart: Flags
    purchase: Flags


def examination(positions: npt.NDArray[np.integer]) -> Floats:
    """The probability that the result at a position (1 is the top) is examined."""
    return (1.0 / positions) ** ETA


def attraction(labels: Labels, factor: Floats) -> Floats:
    """The probability that an examined result is clicked; `factor` is taste and appeal."""
    return np.minimum(CLICK_IF_EXAMINED[labels] * factor, LIKELIEST)


def act(positions: npt.NDArray[np.integer], labels: Labels, factor: Floats, uniform: Floats) -> Actions:
    """The actions on results at `positions`; `uniform` [3, ...] are the draws for click, cart and purchase."""
    click = uniform[0] < examination(positions) * attraction(labels, factor)
    cart = click & (uniform[1] < np.minimum(CART_IF_CLICKED[labels] * factor, LIKELIEST))
    purchase = cart & (uniform[2] < PURCHASE_IF_CART[labels])
    return Actions(click, cart, purchase)
