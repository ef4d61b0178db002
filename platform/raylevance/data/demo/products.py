"""The products table: attributes put into words as merchants do, tidy or stuffed, with gaps."""

from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.demo.columns import PRODUCT, fill_each, identifiers, with_gaps
from raylevance.data.demo.lexicon import ATTRIBUTES, BRAND, COLOUR, TYPE, Words, capitalised, words
from raylevance.data.demo.randomness import Draws, Ints, pick
from raylevance.data.demo.shop import Shop
from raylevance.data.demo.vocabulary import BULLETS, DESCRIPTIONS, LEAVES, LINES, TIERS, TITLES, terms
from raylevance.data.schema import PRODUCTS

LOCALE = "us"

GAPS = {"description": 0.10, "bullets": 0.08, "brand": 0.03, "color": 0.07}
"""Share of nulls by column."""


def products(shop: Shop, start: int, stop: int) -> pa.Table:
    """Rows `start` to `stop` of the products table."""
    rows = np.arange(start, stop)
    slots = shop.catalogue.slots(rows)
    leaves = shop.catalogue.leaves(slots)
    attributes = shop.catalogue.attributes(slots, leaves)
    text = _Text(shop.settings.seed, rows, leaves, attributes)
    columns = {
        "product_id": identifiers(PRODUCT, rows),
        "title": text.written("title", TITLES, capital=True),
        "description": text.written("description", DESCRIPTIONS),
        "bullets": text.written("bullets", BULLETS),
        "brand": text.words("brand", capital=True),
        "color": words().lexicons[COLOUR].titles.take(pa.array(_first_forms(attributes[COLOUR]))),
        "category": _categories().take(pa.array(leaves)),
        "locale": pa.repeat(pa.scalar(LOCALE, pa.string()), len(rows)),
    }
    for name, share in GAPS.items():
        columns[name] = with_gaps(columns[name], text.uniform(f"gap {name}") < share)
    return pa.table(columns, schema=PRODUCTS)


class _Text:
    """The words of some products, and the templates they are put into."""

    def __init__(self, seed: int, rows: Ints, leaves: Ints, attributes: Ints) -> None:
        self._seed = seed
        self._rows = rows
        self._forms = [
            lexicon.usual_forms(meanings, self.uniform(f"form {name}"))
            for name, lexicon, meanings in zip(ATTRIBUTES, words().lexicons, attributes, strict=True)
        ]
        self._synonyms = words().lexicons[TYPE].any_forms(attributes[TYPE], self.uniform("synonym"))
        self._leaves = leaves
        self._tiers = words().tiers[attributes[BRAND]]

    def uniform(self, name: str) -> npt.NDArray[np.float64]:
        """One draw a product, uniform in [0, 1)."""
        return Draws(self._seed, f"product {name}").uniform(self._rows)

    def words(self, name: str, capital: bool = False) -> pa.Array:
        """What fills `{name}` in a template."""
        if name in ATTRIBUTES:
            index = ATTRIBUTES.index(name)
            return _forms(words(), index, capital).take(pa.array(self._forms[index]))
        if name == "synonym":
            return _forms(words(), TYPE, capital).take(pa.array(self._synonyms))
        if name == "line":
            number = (self.uniform("number") * 90 + 10).astype(np.int64)
            return pc.binary_join_element_wise(
                pa.array(LINES).take(pa.array((self.uniform("line") * len(LINES)).astype(np.int64))),
                pa.array(number * 10).cast(pa.string()),
                " ",
            )
        if name == "use":
            uses, first, count = _uses(capital)
            return uses.take(
                pa.array(first[self._leaves] + (self.uniform("use") * count[self._leaves]).astype(np.int64))
            )
        if name == "tier":
            return pa.array(TIERS).take(pa.array(self._tiers))
        assert name == "leaf", name
        return pa.array([leaf.name.lower() for leaf in LEAVES]).take(pa.array(self._leaves))

    def written(self, name: str, templates: tuple[tuple[float, str], ...], capital: bool = False) -> pa.Array:
        """A column of filled templates, chosen by their shares."""
        which = pick(self.uniform(f"template {name}"), [share for share, _ in templates])
        used = [field for field in _FIELDS if any(f"{{{field}}}" in template for _, template in templates)]
        fields = {field: self.words(field, capital or field == "brand") for field in used}
        return fill_each([template for _, template in templates], which, fields)


_FIELDS = (*ATTRIBUTES, "synonym", "line", "use", "tier", "leaf")


def _forms(vocabulary: Words, attribute: int, capital: bool) -> pa.Array:
    lexicon = vocabulary.lexicons[attribute]
    return lexicon.titles if capital else lexicon.forms


def _first_forms(colours: Ints) -> Ints:
    """The color column has no synonyms: merchants choose it from a list."""
    return words().lexicons[COLOUR].usual_forms(colours, np.zeros(len(colours)))


@cache
def _categories() -> pa.Array:
    return pa.array([list(leaf.path) for leaf in LEAVES], pa.list_(pa.string()))


@cache
def _uses(capital: bool) -> tuple[pa.Array, Ints, Ints]:
    """All uses, and by leaf the first one and how many."""
    by_leaf = [[form for (form,) in terms(leaf.uses)] for leaf in LEAVES]
    counts = np.array([len(uses) for uses in by_leaf])
    flat = [capitalised(use) if capital else use for uses in by_leaf for use in uses]
    return pa.array(flat), np.cumsum(counts) - counts, counts
