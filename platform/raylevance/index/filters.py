"""Filters of a search: which products may be returned."""

from collections.abc import Callable
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, StringConstraints

from raylevance.config import Settings
from raylevance.data.schema import CATEGORY_SEPARATOR

Value = Annotated[str, StringConstraints(max_length=1000)]
"""A value of a filter. With a constraint pydantic also refuses half of a surrogate pair, which is no Unicode."""


class Filters(Settings):
    """Conditions that a product must meet. Null or an empty list places none. A value that no product has matches none.

    An empty list is what a form sends in which nothing is chosen.
    """

    brand: list[Value] | None = Field(
        default=None,
        description="The product's brand must be one of these, spelt as in the catalogue, upper and lower case "
        "included. An empty list means any brand.",
    )
    category: list[Value] | None = Field(
        default=None,
        description="The product's category path must begin with this one, from the root and spelt as in the "
        "catalogue: its levels, or one text with the levels joined by ' > '. An empty list means any category.",
    )
    locale: Value | None = Field(default=None, description="The product's locale must be this one.")


class FilterColumns:
    """The product columns that filters test. A condition is tested once for each distinct value, not for each row."""

    def __init__(self, products: pa.Table) -> None:
        """Prepare the columns brand, category and locale of `products`, which has our products schema."""
        paths = pc.binary_join(products["category"], CATEGORY_SEPARATOR)
        self._columns = {"brand": _Column(products["brand"]), "locale": _Column(products["locale"])}
        self._columns["category"] = _Column(paths)

    def allowed(self, filters: Filters) -> npt.NDArray[np.bool_] | None:
        """Return a mask of the rows that meet all conditions, bool [n], or None if `filters` has no condition."""
        matches = [self._columns[name].matches(test) for name, test in _tests(filters).items()]
        return np.logical_and.reduce(matches) if matches else None


class _Column:
    def __init__(self, values: pa.ChunkedArray) -> None:
        encoded = pc.dictionary_encode(values.combine_chunks() if values.num_chunks else pa.array([], pa.string()))
        self._distinct: list[str] = encoded.dictionary.to_pylist()
        self._codes = pc.fill_null(encoded.indices, len(self._distinct)).to_numpy(zero_copy_only=False)

    def matches(self, test: Callable[[str], bool]) -> npt.NDArray[np.bool_]:
        """Return a mask of the rows whose value passes `test`. A null never does."""
        passes = np.array([*map(test, self._distinct), False])
        mask: npt.NDArray[np.bool_] = passes[self._codes]
        return mask


def _tests(filters: Filters) -> dict[str, Callable[[str], bool]]:
    tests: dict[str, Callable[[str], bool]] = {}
    if filters.brand:
        tests["brand"] = set(filters.brand).__contains__
    if filters.locale is not None:
        tests["locale"] = filters.locale.__eq__
    if filters.category:
        prefix = CATEGORY_SEPARATOR.join(filters.category)
        below = prefix + CATEGORY_SEPARATOR
        tests["category"] = lambda path: path == prefix or path.startswith(below)
    return tests
