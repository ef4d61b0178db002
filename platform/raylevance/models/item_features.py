"""What an item encoder knows of an item besides its neighbours, as numbers: id, category, brand, price and text.

A feature that an item lacks, or that training never saw, is number 0. A new item is therefore known by the features
that it shares with others.
"""

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.schema import CATEGORY_SEPARATOR

Ints = npt.NDArray[np.int64]

PRICE_BUCKETS = 16
"""Prices are cut at quantiles of the catalogue into so many buckets (our choice)."""

CATEGORY, BRAND, PRICE = range(3)
"""The columns of `ItemVocabulary.numbers`."""


@dataclass(frozen=True)
class ItemVocabulary:
    """The categories, brands and price cuts of a catalogue.

    `categories` are paths joined by ` > `, `price_cuts` ascend.
    """

    categories: tuple[str, ...]
    brands: tuple[str, ...]
    price_cuts: tuple[float, ...]

    @classmethod
    def of(cls, products: pa.Table) -> Self:
        """Return the vocabulary of `products` (category, brand, price), in ascending order."""
        prices = pc.drop_null(products["price"]).to_numpy()
        shares = np.linspace(0, 1, PRICE_BUCKETS + 1)[1:-1]
        cuts = np.unique(np.quantile(prices, shares)) if len(prices) else np.empty(0)
        return cls(_distinct(category_ids(products)), _distinct(products["brand"]), tuple(cuts.tolist()))

    def numbers(self, products: pa.Table) -> Ints:
        """Return the number of each product's category, brand and price bucket, int64 [n, 3]; 0 where it is unknown."""
        prices = products["price"].cast(pa.float64()).to_numpy()
        buckets = np.searchsorted(self.price_cuts, prices, side="right") + 1
        columns = (
            _places(category_ids(products), self.categories),
            _places(products["brand"], self.brands),
            np.where(np.isnan(prices), 0, buckets),
        )
        return np.stack(columns, axis=1).astype(np.int64)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Return how many numbers each feature has, number 0 included."""
        return len(self.categories) + 1, len(self.brands) + 1, len(self.price_cuts) + 2

    def save(self, file: Path) -> None:
        """Write the vocabulary to `file` as JSON."""
        values = {"categories": self.categories, "brands": self.brands, "price_cuts": self.price_cuts}
        file.write_text(json.dumps(values, ensure_ascii=False, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read the vocabulary in `file`."""
        values = json.loads(file.read_text(encoding="utf-8"))
        return cls(tuple(values["categories"]), tuple(values["brands"]), tuple(values["price_cuts"]))


def category_ids(products: pa.Table) -> pa.Array:
    """Return the id of each product's leaf category, string [n]: its path joined by ` > `, null where it has none."""
    paths = products["category"].combine_chunks()
    joined = pc.binary_join(paths, CATEGORY_SEPARATOR)
    return pc.if_else(pc.equal(joined, ""), pa.scalar(None, pa.string()), joined)


def numbered_categories(products: pa.Table) -> tuple[Ints, tuple[str, ...]]:
    """Return the number of each product's category, int64 [n], 0 where it has none, and the category of each number.

    They are numbered from 1 in ascending order of `category_ids`, as in the vocabulary of `products`.
    """
    paths = category_ids(products)
    names = _distinct(paths)
    return _places(paths, names), names


def categories_below(names: Sequence[str]) -> Ints:
    """Return, for each number of a category, the numbers of those below it, int64 [categories + 1, 2].

    `names` are the categories from number 1, ascending, so those below one follow each other: their first number, and
    the number after their last. Number 0, which stands for no category, has none.
    """
    first = [bisect_left(names, f"{name}{CATEGORY_SEPARATOR}") + 1 for name in names]
    # "!" is the character after the space that ends the separator.
    after = [bisect_left(names, f"{name}{CATEGORY_SEPARATOR[:-1]}!") + 1 for name in names]
    return np.array([[0, *first], [0, *after]], np.int64).T


def _distinct(values: pa.Array | pa.ChunkedArray) -> tuple[str, ...]:
    return tuple(sorted(pc.drop_null(pc.unique(values)).to_pylist()))


def _places(values: pa.Array | pa.ChunkedArray, known: Sequence[str]) -> Ints:
    places = pc.index_in(values, pa.array(known, pa.string()), skip_nulls=True)
    return np.asarray(pc.fill_null(pc.add(places, 1), 0).to_numpy(zero_copy_only=False), np.int64)
