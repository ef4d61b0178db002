"""The products table: attributes put into words as merchants do, tidy or stuffed, with gaps."""

from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.schema import PRODUCTS
from raylevance.demo.columns import PRODUCT, fill_each, identifiers, with_gaps
from raylevance.demo.lexicon import ATTRIBUTES, BRAND, COLOUR, TYPE, Lexicon, Words, capitalised, words
from raylevance.demo.randomness import Draws, Ints, pick
from raylevance.demo.shop import Shop, Storefront
from raylevance.demo.vocabulary import LINES, terms
from raylevance.demo.vocabulary.language import Templates
from raylevance.demo.vocabulary.languages import LANGUAGES, Locale

GAPS = {"description": 0.10, "bullets": 0.08, "brand": 0.03, "color": 0.07}
"""Share of nulls by column."""


def products(shop: Shop, start: int, stop: int) -> pa.Table:
    """Rows `start` to `stop` of the products table."""
    return shop.table(start, stop, _products)


def _products(storefront: Storefront, rows: Ints) -> pa.Table:
    slots = storefront.catalogue.slots(rows)
    leaves = storefront.catalogue.leaves(slots)
    attributes = storefront.catalogue.attributes(slots, leaves)
    text = _Text(storefront, rows, leaves, attributes)
    language, colours = storefront.language, words(storefront.locale).lexicons[COLOUR]
    columns = {
        "product_id": identifiers(PRODUCT, storefront.numbers(rows)),
        "title": text.written("title", language.titles, capital=language.title_case),
        "description": text.written("description", language.descriptions),
        "bullets": text.written("bullets", language.bullets),
        "brand": text.words("brand", capital=True),
        "color": colours.titles.take(pa.array(_first_forms(colours, attributes[COLOUR]))),
        "category": _categories(storefront.locale).take(pa.array(leaves)),
        "locale": pa.repeat(pa.scalar(storefront.locale, pa.string()), len(rows)),
    }
    if not language.title_case:
        columns |= {name: _sentences(columns[name]) for name in ("title", "description")}
    for name, share in GAPS.items():
        columns[name] = with_gaps(columns[name], text.uniform(f"gap {name}") < share)
    return pa.table(columns, schema=PRODUCTS)


class _Text:
    """The words of some products, and the templates they are put into."""

    def __init__(self, storefront: Storefront, rows: Ints, leaves: Ints, attributes: Ints) -> None:
        self._storefront = storefront
        self._rows = rows
        self._vocabulary = words(storefront.locale)
        self._forms = [
            lexicon.usual_forms(meanings, self.uniform(f"form {name}"))
            for name, lexicon, meanings in zip(ATTRIBUTES, self._vocabulary.lexicons, attributes, strict=True)
        ]
        self._synonyms = self._vocabulary.lexicons[TYPE].any_forms(attributes[TYPE], self.uniform("synonym"))
        self._leaves = leaves
        self._tiers = self._vocabulary.tiers[attributes[BRAND]]

    def uniform(self, name: str) -> npt.NDArray[np.float64]:
        """One draw a product, uniform in [0, 1)."""
        return Draws(self._storefront.seed, f"product {name}").uniform(self._rows)

    def words(self, name: str, capital: bool = False) -> pa.Array:
        """What fills `{name}` in a template."""
        if name in ATTRIBUTES:
            index = ATTRIBUTES.index(name)
            return _forms(self._vocabulary, index, capital).take(pa.array(self._forms[index]))
        if name == "synonym":
            return _forms(self._vocabulary, TYPE, capital).take(pa.array(self._synonyms))
        if name == "line":
            number = (self.uniform("number") * 90 + 10).astype(np.int64)
            return pc.binary_join_element_wise(
                pa.array(LINES).take(pa.array((self.uniform("line") * len(LINES)).astype(np.int64))),
                pa.array(number * 10).cast(pa.string()),
                " ",
            )
        if name == "use":
            uses, first, count = _uses(self._storefront.locale, capital)
            return uses.take(
                pa.array(first[self._leaves] + (self.uniform("use") * count[self._leaves]).astype(np.int64))
            )
        if name == "tier":
            return pa.array(self._storefront.language.tiers).take(pa.array(self._tiers))
        assert name == "leaf", name
        return pa.array([leaf.name.lower() for leaf in self._storefront.language.leaves]).take(pa.array(self._leaves))

    def written(self, name: str, templates: Templates, capital: bool = False) -> pa.Array:
        """A column of filled templates, chosen by their shares."""
        which = pick(self.uniform(f"template {name}"), [share for share, _ in templates])
        used = [field for field in _FIELDS if any(f"{{{field}}}" in template for _, template in templates)]
        fields = {field: self.words(field, capital or field == "brand") for field in used}
        return fill_each([template for _, template in templates], which, fields)


_FIELDS = (*ATTRIBUTES, "synonym", "line", "use", "tier", "leaf")


def _forms(vocabulary: Words, attribute: int, capital: bool) -> pa.Array:
    lexicon = vocabulary.lexicons[attribute]
    return lexicon.titles if capital else lexicon.forms


def _first_forms(lexicon: Lexicon, colours: Ints) -> Ints:
    """The color column has no synonyms: merchants choose it from a list."""
    return lexicon.usual_forms(colours, np.zeros(len(colours)))


def _sentences(texts: pa.Array) -> pa.Array:
    """`texts` with the first letter in upper case."""
    return pc.binary_join_element_wise(
        pc.utf8_upper(pc.utf8_slice_codeunits(texts, 0, 1)), pc.utf8_slice_codeunits(texts, 1), ""
    )


@cache
def _categories(locale: Locale) -> pa.Array:
    return pa.array([list(leaf.path) for leaf in LANGUAGES[locale].leaves], pa.list_(pa.string()))


@cache
def _uses(locale: Locale, capital: bool) -> tuple[pa.Array, Ints, Ints]:
    """All uses, and by leaf the first one and how many."""
    by_leaf = [[form for (form,) in terms(leaf.uses)] for leaf in LANGUAGES[locale].leaves]
    counts = np.array([len(uses) for uses in by_leaf])
    flat = [capitalised(use) if capital else use for uses in by_leaf for use in uses]
    return pa.array(flat), np.cumsum(counts) - counts, counts
