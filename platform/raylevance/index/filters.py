"""Filters of a search: which products may be found at all."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.config import Settings

LEVELS = "\x1f"
"""Joins the levels of a category path where it serves as a key: a character that no category name holds."""


class Filters(Settings):
    """What a product must match; null matches all. A value that no product has matches none."""

    brand: list[str] | None = None
    """Any of these, as the catalogue spells them."""
    category: list[str] | None = None
    """The first levels of the category path, from the root."""
    locale: str | None = None


class FilterColumns:
    """The columns that filters look at, each value held once: a filter is decided on the distinct values."""

    def __init__(self, products: pa.Table) -> None:
        """`products`: columns brand, category and locale of our products schema."""
        paths = pc.binary_join(products["category"], LEVELS)
        self._columns = {"brand": _Column(products["brand"]), "locale": _Column(products["locale"])}
        self._columns["category"] = _Column(paths)

    def allowed(self, filters: Filters) -> npt.NDArray[np.bool_] | None:
        """Which rows match all of `filters`, bool [n]; None where nothing is filtered."""
        matches = [self._columns[name].matches(test) for name, test in _tests(filters).items()]
        return np.logical_and.reduce(matches) if matches else None


class _Column:
    def __init__(self, values: pa.ChunkedArray) -> None:
        encoded = pc.dictionary_encode(values.combine_chunks() if values.num_chunks else pa.array([], pa.string()))
        self._distinct: list[str] = encoded.dictionary.to_pylist()
        self._codes = pc.fill_null(encoded.indices, len(self._distinct)).to_numpy(zero_copy_only=False)

    def matches(self, test: Callable[[str], bool]) -> npt.NDArray[np.bool_]:
        """A null matches nothing."""
        verdicts = np.array([*map(test, self._distinct), False])
        found: npt.NDArray[np.bool_] = verdicts[self._codes]
        return found


def _tests(filters: Filters) -> dict[str, Callable[[str], bool]]:
    tests: dict[str, Callable[[str], bool]] = {}
    if filters.brand is not None:
        tests["brand"] = set(filters.brand).__contains__
    if filters.locale is not None:
        tests["locale"] = filters.locale.__eq__
    if filters.category:
        prefix = filters.category
        tests["category"] = lambda path: path.split(LEVELS)[: len(prefix)] == prefix
    return tests
