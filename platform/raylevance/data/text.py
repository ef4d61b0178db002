"""Text of products and queries: what an encoder reads, and what makes two queries the same."""

from collections.abc import Sequence
from functools import reduce
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from raylevance.config import Settings
from raylevance.data.hashing import hash_strings
from raylevance.data.schema import CATEGORY_SEPARATOR

BASELINE = ("title", "brand", "color")
EVERYTHING = (*BASELINE, "category", "bullets", "description")


class ProductText(Settings):
    """The template of a product's text: "<title>. Brand: <brand>. Color: <color>. Category: <level 1> > <level 2>".

    `details` follow: the bullets, the description. They are last, since a model cuts the end of what is long for it.

    Title and a two-level taxonomy path in a natural-language template are Mine and Refine's (arXiv 2602.17654, section
    on the architecture); its words, the brand and the colour are our choice. What a product lacks is left out.
    """

    attributes: tuple[Literal["brand", "color"], ...] = ("brand", "color")
    taxonomy_levels: Literal[0, 2, 4] = 2
    details: tuple[Literal["bullets", "description"], ...] = ()

    @property
    def columns(self) -> list[str]:
        """What `compose` reads of products."""
        return ["title", *self.attributes, *(["category"] if self.taxonomy_levels else []), *self.details]

    def compose(self, products: pa.Table) -> list[str]:
        """One text a row of `products` (with the `columns`)."""
        texts: list[str] = self.column(products).to_pylist()
        return texts

    def column(self, products: pa.Table) -> pa.ChunkedArray:
        """The texts as an Arrow column, string [n]."""
        parts = [_clean(products["title"])]
        for name in self.attributes:
            parts.append(_labelled(name.capitalize(), _clean(products[name])))
        if self.taxonomy_levels:
            parts.append(_labelled("Category", _path(products["category"], self.taxonomy_levels)))
        parts += [_clean(products[name]) for name in self.details]
        return _joined(parts, ". ")


def baseline_text(products: pa.Table) -> list[str]:
    """Title, brand and colour joined by spaces: what BM25 and zero-shot encoders are compared on."""
    return _words_of(products, BASELINE)


def full_text(products: pa.Table) -> list[str]:
    """All that is said of each product, joined by spaces: what BM25 reads in a search.

    Of brand, colour, category, bullets and description those that `products` has.
    """
    return _words_of(products, [name for name in EVERYTHING if name in products.column_names])


def normalised_query(queries: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Queries with case, Unicode compatibility forms and runs of white space made equal."""
    folded = pc.utf8_lower(pc.utf8_normalize(queries, form="NFKC"))
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(folded, r"\s+", " "))


def query_key(queries: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """An id for each query text, string [n]: equal where the normalised texts are; null for null."""
    keys = pa.array([f"{value:016x}" for value in hash_strings(normalised_query(queries))], pa.string())
    return pc.if_else(queries.is_valid(), keys, pa.scalar(None, pa.string()))


def _words_of(products: pa.Table, names: Sequence[str]) -> list[str]:
    columns = [pc.binary_join(products[name], " ") if name == "category" else products[name] for name in names]
    texts: list[str] = _joined([column.cast(pa.string()) for column in columns], " ").to_pylist()
    return texts


def _clean(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Trimmed; null where nothing is left."""
    trimmed = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def _labelled(label: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(f"{label}:", column, " ")


def _path(category: pa.ChunkedArray, levels: int) -> pa.ChunkedArray:
    """The first `levels` of each path; null for a path that is null or empty."""
    return _clean(pc.binary_join(pc.list_slice(category, 0, levels), CATEGORY_SEPARATOR))


def _joined(parts: list[pa.ChunkedArray], separator: str) -> pa.ChunkedArray:
    """Row by row, without what is null; "" where all is: the join alone would leave that row out."""
    nothing = reduce(pc.and_, [part.is_null() for part in parts])
    first = pc.if_else(nothing, "", parts[0])
    return pc.binary_join_element_wise(first, *parts[1:], separator, null_handling="skip")
