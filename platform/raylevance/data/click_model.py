"""A click model: how a simulated user reacts to a list of results. No real user was observed.

In the position-based model (Craswell et al. 2008, "An experimental comparison of click position-bias models") the
probability of a click is the probability of examination, which depends on the position alone, times the probability of
attraction, which does not depend on the position. Examination is (1 / position) ^ eta (as in the simulations of
Joachims et al. 2017, arXiv 1608.04468). Adding to the cart and buying follow a click as a funnel.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

ETA = 1.0
"""The exponent of position bias."""

CLICK_IF_EXAMINED = np.array([0.45, 0.20, 0.10, 0.03])
CART_IF_CLICKED = np.array([0.30, 0.15, 0.12, 0.02])
PURCHASE_IF_CART = np.array([0.50, 0.40, 0.40, 0.20])
"""Probabilities by label, in the order E, S, C, I, for a user without preferences (our choice)."""

MAX_PROBABILITY = 0.95
"""The highest probability of a click, or of adding to the cart, whatever the user's preferences."""

ENGINE_SCORES = np.array([2.0, 1.2, 0.6, 0.0])
"""The mean score that the simulated engine gives by label, in the order E, S, C, I."""

ENGINE_NOISE = 0.5
"""The scale of the Gumbel noise that the engine adds to its scores."""

LOG_START = np.datetime64("2025-01-01T00:00:00", "ms").astype(np.int64)
"""The start of a simulated log, in milliseconds since 1970."""

Labels = npt.NDArray[np.int8]
"""Indices into the labels E, S, C, I."""
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Actions(NamedTuple):
    """The actions on the results shown, three bool arrays of one shape. Each action implies the one before it."""

    click: Flags
    cart: Flags
    purchase: Flags


def examination_probability(positions: npt.NDArray[np.integer]) -> Floats:
    """Return the probability that the result at each position is examined. Position 1 is the top."""
    return (1.0 / positions) ** ETA


def attraction_probability(labels: Labels, factor: Floats) -> Floats:
    """Return the probability that an examined result is clicked.

    `factor` is how much the user's taste and the product's appeal raise the probability; 1 is neutral.
    """
    return np.minimum(CLICK_IF_EXAMINED[labels] * factor, MAX_PROBABILITY)


def simulate_actions(positions: npt.NDArray[np.integer], labels: Labels, factor: Floats, uniform: Floats) -> Actions:
    """Return the simulated actions on the results at `positions`.

    `positions`, `labels` and `factor` have one shape. `uniform` [3, ...] are random numbers in [0, 1) that decide on
    click, cart and purchase.
    """
    click = uniform[0] < examination_probability(positions) * attraction_probability(labels, factor)
    cart = click & (uniform[1] < np.minimum(CART_IF_CLICKED[labels] * factor, MAX_PROBABILITY))
    purchase = cart & (uniform[2] < PURCHASE_IF_CART[labels])
    return Actions(click, cart, purchase)
