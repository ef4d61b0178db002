"""The words of the demo shop: leaf categories, brands, colours and needs, all invented; `languages` has the others."""

from raylevance.demo.vocabulary import family, fashion, garden, home, kitchen, office, sports, technology
from raylevance.demo.vocabulary.brands import BRAND_GROUPS, TIERS
from raylevance.demo.vocabulary.colours import PALETTES
from raylevance.demo.vocabulary.leaf import Leaf, Term, terms
from raylevance.demo.vocabulary.needs import NEEDS
from raylevance.demo.vocabulary.phrases import LINES

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
    "BRAND_GROUPS",
    "LEAVES",
    "LINES",
    "NEEDS",
    "PALETTES",
    "TIERS",
    "Leaf",
    "Term",
    "terms",
]
