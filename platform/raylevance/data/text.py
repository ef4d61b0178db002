"""Compose the texts of products that models read, and normalise queries to compare them."""

from collections.abc import Sequence
from functools import reduce
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from raylevance.config import Settings
from raylevance.data.hashing import hash_strings
from raylevance.data.normal_form import clean_column, normal_form_column
from raylevance.data.schema import CATEGORY_SEPARATOR

BASELINE_COLUMNS = ("title", "brand", "color")
FULL_TEXT_COLUMNS = (*BASELINE_COLUMNS, "category", "bullets", "description")


class ProductText(Settings):
    """A template of product texts: "<title>. Brand: <brand>. Color: <color>. Category: <level 1> > <level 2>".

    The `details` follow. They come last because a model cuts off the end of a text that is too long. Fields that a
    product does not have are left out.

    Source: Mine and Refine (arXiv 2602.17654), section on the architecture, for the title and two levels of the
    taxonomy in a natural-language template. The words of the template, the brand and the colour are our choice.
    """

    attributes: tuple[Literal["brand", "color"], ...] = ("brand", "color")
    """The attributes in the text, each with its name."""

    taxonomy_levels: Literal[0, 2, 4] = 2
    """The number of levels of the category path in the text, from the root; 0 leaves the category out."""

    details: tuple[Literal["bullets", "description"], ...] = ()
    """The long texts that follow, without a name."""

    @property
    def columns(self) -> list[str]:
        """The product columns that `compose` reads."""
        return ["title", *self.attributes, *(["category"] if self.taxonomy_levels else []), *self.details]

    def compose(self, products: pa.Table) -> list[str]:
        """Return the text of each row of `products`, which has the columns `columns`."""
        texts: list[str] = self.compose_column(products).to_pylist()
        return texts

    def compose_column(self, products: pa.Table) -> pa.ChunkedArray:
        """Return the texts of `compose` as an Arrow column, string [n]."""
        parts = [_clean(products["title"])]
        for name in self.attributes:
            parts.append(_labelled(name.capitalize(), _clean(products[name])))
        if self.taxonomy_levels:
            parts.append(_labelled("Category", _path(products["category"], self.taxonomy_levels)))
        parts += [_clean(products[name]) for name in self.details]
        return _joined(parts, ". ")


def baseline_text(products: pa.Table) -> list[str]:
    """Join title, brand and colour of each product by spaces. BM25 and zero-shot encoders are compared on this text."""
    return _joined_columns(products, BASELINE_COLUMNS)


def full_text(products: pa.Table) -> list[str]:
    """Join all text columns of each product by spaces. BM25 searches in this text.

    The columns are `FULL_TEXT_COLUMNS`, as far as `products` has them.
    """
    return _joined_columns(products, [name for name in FULL_TEXT_COLUMNS if name in products.column_names])


def field_texts(products: pa.Table) -> dict[str, list[str]]:
    """Return the text of each product by field, [n] each. BM25F weighs these fields.

    The fields are `FULL_TEXT_COLUMNS`, as far as `products` has them. A product without a field has an empty text.
    """
    return {name: _joined_columns(products, [name]) for name in FULL_TEXT_COLUMNS if name in products.column_names}


def normalised_query(queries: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return the `normal_form` of each query, string [n]; null stays null."""
    return normal_form_column(queries)


def query_key(queries: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return an id for each query, string [n]. Queries with equal normalised texts have equal ids; null stays null."""
    keys = pa.array([f"{value:016x}" for value in hash_strings(normalised_query(queries))], pa.string())
    return pc.if_else(queries.is_valid(), keys, pa.scalar(None, pa.string()))


def _joined_columns(products: pa.Table, names: Sequence[str]) -> list[str]:
    columns = [pc.binary_join(products[name], " ") if name == "category" else products[name] for name in names]
    texts: list[str] = _joined([clean_column(column.cast(pa.string())) for column in columns], " ").to_pylist()
    return texts


def _clean(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decode entities, remove invisible characters, trim white space, and replace empty strings by null."""
    trimmed = pc.utf8_trim_whitespace(clean_column(column.cast(pa.string())))
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def _labelled(label: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(f"{label}:", column, " ")


def _path(category: pa.ChunkedArray, levels: int) -> pa.ChunkedArray:
    """Join the first `levels` of each path; null for a path that is null or empty."""
    return _clean(pc.binary_join(pc.list_slice(category, 0, levels), CATEGORY_SEPARATOR))


def _joined(parts: list[pa.ChunkedArray], separator: str) -> pa.ChunkedArray:
    """Join the columns `parts` row by row, without null values. A row of nulls gives an empty string."""
    # The join alone would give null for such a row.
    all_null = reduce(pc.and_, [part.is_null() for part in parts])
    first = pc.if_else(all_null, "", parts[0])
    return pc.binary_join_element_wise(first, *parts[1:], separator, null_handling="skip")
