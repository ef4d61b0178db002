"""The tastes of users: the brands and colours that they like, and their price tier."""

import numpy as np

from raylevance.demo.randomness import Draws, Floats, Ints
from raylevance.demo.vocabulary import ENGLISH

LIKED_BRAND_SHARE, LIKED_COLOUR_SHARE = 0.15, 0.2
"""The shares of all brands and of all colours that a user likes."""

BRAND_WEIGHT, COLOUR_WEIGHT, TIER_WEIGHT = 0.6, 0.4, -0.3
"""The change in log attraction for a liked brand, a liked colour, and each price tier of distance; our choice."""


class Tastes:
    """Computes the tastes of users from their numbers."""

    def __init__(self, seed: int) -> None:
        self._brand, self._colour, self._tier = (Draws(seed, f"taste {name}") for name in ("brand", "colour", "tier"))

    def factor(self, users: Ints, brands: Ints, colours: Ints, tiers: Ints) -> Floats:
        """Return the factor of a product's attraction for a user, where 1 is neutral. The arguments broadcast."""
        likes_brand = self._brand.uniform(users, brands) < LIKED_BRAND_SHARE
        likes_colour = self._colour.uniform(users, colours) < LIKED_COLOUR_SHARE
        distance = np.abs(self._tier.integers(len(ENGLISH.price_tiers), users) - tiers)
        weight: Floats = BRAND_WEIGHT * likes_brand + COLOUR_WEIGHT * likes_colour + TIER_WEIGHT * distance
        return np.exp(weight)
