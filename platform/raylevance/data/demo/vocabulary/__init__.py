"""The words of the demo shop: leaf categories, brands, colours and needs, all invented."""

from raylevance.data.demo.vocabulary import family, fashion, garden, home, kitchen, office, sports, technology
from raylevance.data.demo.vocabulary.brands import BRAND_GROUPS, TIERS
from raylevance.data.demo.vocabulary.colours import PALETTES
from raylevance.data.demo.vocabulary.leaf import Leaf, Term, terms
from raylevance.data.demo.vocabulary.needs import NEED_FRAMES, NEEDS
from raylevance.data.demo.vocabulary.phrases import (
    AFTER_THE_TYPE,
    BULLETS,
    DESCRIPTIONS,
    LINES,
    LONG_TAIL_FRAMES,
    TITLES,
)

LEAVES: tuple[Leaf, ...] = (
    *home.LEAVES,
    *kitchen.LEAVES,
    *fashion.LEAVES,
    *technology.LEAVES,
    *office.LEAVES,
    *sports.LEAVES,
    *garden.LEAVES,
    *family.LEAVES,
)

__all__ = [
    "AFTER_THE_TYPE",
    "BRAND_GROUPS",
    "BULLETS",
    "DESCRIPTIONS",
    "LEAVES",
    "LINES",
    "LONG_TAIL_FRAMES",
    "NEEDS",
    "NEED_FRAMES",
    "PALETTES",
    "TIERS",
    "TITLES",
    "Leaf",
    "Term",
    "terms",
]
