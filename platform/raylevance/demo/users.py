"""Shoppers' tastes: brands and colours a user is drawn to, and the price tier they shop in."""

import numpy as np

from raylevance.demo.randomness import Draws, Floats, Ints
from raylevance.demo.vocabulary import TIERS

LIKED_BRANDS, LIKED_COLOURS = 0.15, 0.2
"""Share of all brands and colours that a user likes."""

BRAND_WEIGHT, COLOUR_WEIGHT, TIER_WEIGHT = 0.6, 0.4, -0.3
"""Change of log attraction for a liked brand, a liked colour, and each price tier apart; our choice."""


class Tastes:
    """The tastes of any user, by number."""

    def __init__(self, seed: int) -> None:
        self._brand, self._colour, self._tier = (Draws(seed, f"taste {name}") for name in ("brand", "colour", "tier"))

    def factor(self, users: Ints, brands: Ints, colours: Ints, tiers: Ints) -> Floats:
        """What multiplies a product's attraction for a user: 1 is neutral. The arguments broadcast."""
        likes_brand = self._brand.uniform(users, brands) < LIKED_BRANDS
        likes_colour = self._colour.uniform(users, colours) < LIKED_COLOURS
        apart = np.abs(self._tier.integers(len(TIERS), users) - tiers)
        weight: Floats = BRAND_WEIGHT * likes_brand + COLOUR_WEIGHT * likes_colour + TIER_WEIGHT * apart
        return np.exp(weight)
