"""The products table: the attributes in the words of merchants, in templates from tidy to keyword-stuffed."""

from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.schema import PRODUCTS
from raylevance.demo.columns import PRODUCT, fill_each, identifiers, with_nulls
from raylevance.demo.lexicon import BRAND, COLOUR, TYPE, Lexicon, WordTables, capitalised, word_tables
from raylevance.demo.randomness import Draws, Ints, pick
from raylevance.demo.shop import Shop, Storefront
from raylevance.demo.vocabulary import ENGLISH, Locale, language
from raylevance.demo.vocabulary.schema import ATTRIBUTES, PLACEHOLDERS, ProductTemplates

NULL_SHARES = {"description": 0.10, "bullets": 0.08, "brand": 0.03, "color": 0.07}
"""The share of nulls by column."""


def products(shop: Shop, start: int, stop: int) -> pa.Table:
    """Return rows `start` to `stop` of the products table."""
    return shop.table(start, stop, _storefront_products)


def _storefront_products(storefront: Storefront, rows: Ints) -> pa.Table:
    slots = storefront.catalogue.slots(rows)
    leaves = storefront.catalogue.leaves(slots)
    attributes = storefront.catalogue.attributes(slots, leaves)
    text = _ProductText(storefront, rows, leaves, attributes)
    templates = storefront.language.templates
    colours = word_tables(storefront.locale).lexicons[COLOUR]
    columns = {
        "product_id": identifiers(PRODUCT, storefront.numbers(rows)),
        "title": text.filled("title", templates.titles, capital=templates.title_case),
        "description": text.filled("description", templates.descriptions),
        "bullets": text.filled("bullets", templates.bullets),
        "brand": text.words("brand", capital=True),
        "color": colours.titles.take(pa.array(_first_forms(colours, attributes[COLOUR]))),
        "category": _categories(storefront.locale).take(pa.array(leaves)),
        "locale": pa.repeat(pa.scalar(storefront.locale, pa.string()), len(rows)),
        "price": pa.nulls(len(rows), pa.float64()),
    }
    if not templates.title_case:
        columns |= {name: _with_first_capital(columns[name]) for name in ("title", "description")}
    for name, share in NULL_SHARES.items():
        columns[name] = with_nulls(columns[name], text.uniform(f"gap {name}") < share)
    return pa.table(columns, schema=PRODUCTS)


class _ProductText:
    """The words of some products, and their texts."""

    def __init__(self, storefront: Storefront, rows: Ints, leaves: Ints, attributes: Ints) -> None:
        self._storefront = storefront
        self._rows = rows
        self._word_tables = word_tables(storefront.locale)
        self._forms = [
            lexicon.usual_forms(meanings, self.uniform(f"form {name}"))
            for name, lexicon, meanings in zip(ATTRIBUTES, self._word_tables.lexicons, attributes, strict=True)
        ]
        self._synonyms = self._word_tables.lexicons[TYPE].any_forms(attributes[TYPE], self.uniform("synonym"))
        self._leaves = leaves
        self._tiers = self._word_tables.tiers[attributes[BRAND]]

    def uniform(self, name: str) -> npt.NDArray[np.float64]:
        """Return one draw per product, uniform in [0, 1)."""
        return Draws(self._storefront.seed, f"product {name}").uniform(self._rows)

    def words(self, name: str, capital: bool = False) -> pa.Array:
        """Return the words that replace `{name}` in a template."""
        if name in ATTRIBUTES:
            index = ATTRIBUTES.index(name)
            return _forms(self._word_tables, index, capital).take(pa.array(self._forms[index]))
        if name == "synonym":
            return _forms(self._word_tables, TYPE, capital).take(pa.array(self._synonyms))
        if name == "line":
            lines = ENGLISH.product_lines
            number = (self.uniform("number") * 90 + 10).astype(np.int64)
            return pc.binary_join_element_wise(
                pa.array(lines).take(pa.array((self.uniform("line") * len(lines)).astype(np.int64))),
                pa.array(number * 10).cast(pa.string()),
                " ",
            )
        if name == "use":
            uses, first, count = _uses(self._storefront.locale, capital)
            return uses.take(
                pa.array(first[self._leaves] + (self.uniform("use") * count[self._leaves]).astype(np.int64))
            )
        if name == "tier":
            return pa.array(self._storefront.language.price_tiers).take(pa.array(self._tiers))
        assert name == "leaf", name
        return pa.array([leaf.name.lower() for leaf in self._storefront.language.leaves]).take(pa.array(self._leaves))

    def filled(self, name: str, templates: ProductTemplates, capital: bool = False) -> pa.Array:
        """Return a column of filled templates, which are drawn by their shares."""
        which = pick(self.uniform(f"template {name}"), [template.share for template in templates])
        used = [name for name in PLACEHOLDERS if any(f"{{{name}}}" in template.text for template in templates)]
        fields = {name: self.words(name, capital or name == "brand") for name in used}
        return fill_each([template.text for template in templates], which, fields)


def _forms(tables: WordTables, attribute: int, capital: bool) -> pa.Array:
    lexicon = tables.lexicons[attribute]
    return lexicon.titles if capital else lexicon.forms


def _first_forms(lexicon: Lexicon, colours: Ints) -> Ints:
    """Return the first form of each colour. The color column has no synonyms, as merchants choose from a list."""
    return lexicon.usual_forms(colours, np.zeros(len(colours)))


def _with_first_capital(texts: pa.Array) -> pa.Array:
    """Return `texts` with the first letter in upper case."""
    return pc.binary_join_element_wise(
        pc.utf8_upper(pc.utf8_slice_codeunits(texts, 0, 1)), pc.utf8_slice_codeunits(texts, 1), ""
    )


@cache
def _categories(locale: Locale) -> pa.Array:
    return pa.array([list(leaf.path) for leaf in language(locale).leaves], pa.list_(pa.string()))


@cache
def _uses(locale: Locale, capital: bool) -> tuple[pa.Array, Ints, Ints]:
    """Return all uses, and for each leaf the index of its first use and the number of its uses."""
    by_leaf = [leaf.uses for leaf in language(locale).leaves]
    counts = np.array([len(uses) for uses in by_leaf])
    flat = [capitalised(use) if capital else use for uses in by_leaf for use in uses]
    return pa.array(flat), np.cumsum(counts) - counts, counts
