"""The words of the demo shop: leaf categories, brands, colours and needs, all invented."""

from raylevance.data.demo.vocabulary import family, fashion, home, outdoors, technology
from raylevance.data.demo.vocabulary.brands import BRAND_GROUPS, TIERS
from raylevance.data.demo.vocabulary.colours import PALETTES
from raylevance.data.demo.vocabulary.leaf import Leaf, Term, terms
from raylevance.data.demo.vocabulary.needs import NEED_FRAMES, NEEDS

LEAVES: tuple[Leaf, ...] = (
    *home.LEAVES,
    *fashion.LEAVES,
    *technology.LEAVES,
    *outdoors.LEAVES,
    *family.LEAVES,
)

__all__ = ["BRAND_GROUPS", "LEAVES", "NEEDS", "NEED_FRAMES", "PALETTES", "TIERS", "Leaf", "Term", "terms"]
