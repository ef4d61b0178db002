"""What the shop sells under one leaf category, in the words of its merchants and its customers."""

from dataclasses import dataclass

from raylevance.data.schema import CATEGORY_SEPARATOR

Term = tuple[str, ...]
"""One meaning and its surface forms: the first is the merchants' usual word, the others are synonyms."""


@dataclass(frozen=True)
class Leaf:
    """A leaf category. Values go from common to rare: `a/b, c` is a meaning with the forms a and b, and one with c.

    `brands`: a group of `BRAND_GROUPS`. `types`: what the thing is called, each form in one leaf only. `colours`: a
    palette of `PALETTES`. `uses`: phrases after "made for". `complements`: names of leaves whose products go with this
    one without replacing it.
    """

    category: str
    brands: str
    types: str
    colours: str
    materials: str
    styles: str
    sizes: str
    uses: str
    complements: tuple[str, ...] = ()

    @property
    def path(self) -> tuple[str, ...]:
        """The category path from the root, three levels."""
        return tuple(self.category.split(CATEGORY_SEPARATOR))

    @property
    def name(self) -> str:
        """The last level, unique among the leaves."""
        return self.path[-1]


def terms(text: str) -> list[Term]:
    """`"sofa/couch, loveseat"` as [("sofa", "couch"), ("loveseat",)]."""
    return [tuple(form.strip() for form in meaning.split("/")) for meaning in text.split(",")]
