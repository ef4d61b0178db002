"""The words of the demo shop: leaf categories, brands, colours and needs, all invented; `languages` has the others."""

from raylevance.data.demo.vocabulary import family, fashion, garden, home, kitchen, office, sports, technology
from raylevance.data.demo.vocabulary.brands import BRAND_GROUPS, TIERS
from raylevance.data.demo.vocabulary.colours import PALETTES
from raylevance.data.demo.vocabulary.leaf import Leaf, Term, terms
from raylevance.data.demo.vocabulary.needs import NEEDS
from raylevance.data.demo.vocabulary.phrases import LINES

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
