"""Baskets: products that were bought, looked at or judged together, outside of any search of the log.

They relate products to each other and to nothing else: in the meta-path I-Q-I a basket stands where a query does.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, field_validator

from raylevance.config import Settings
from raylevance.data.files import column_names, require_columns
from raylevance.data.hashing import hash_strings
from raylevance.errors import RaylevanceError
from raylevance.graph.csr import Csr
from raylevance.graph.edges import Ids


class BasketFile(Settings):
    """A Parquet file with a row for each product of a basket. `basket`: the columns that name it together.

    `query`: the column with the query whose judged or clicked products a basket is (null: query_id, if that is one of
    the columns that name it, else none).
    """

    file: Path
    basket: tuple[str, ...] = Field(("basket_id",), min_length=1)
    product: str = "product_id"
    query: str | None = None

    @field_validator("file")
    @classmethod
    def _absolute(cls, file: Path) -> Path:
        """A job on a cluster runs in another folder."""
        return file.absolute()

    def check(self) -> None:
        """Raise `RaylevanceError` for a file that can't be read or lacks a column."""
        if not self.file.is_file():
            raise RaylevanceError(f"{self.file}: no such file of baskets")
        require_columns(self.file, column_names(self.file), self.columns)

    @property
    def of_query(self) -> str | None:
        return self.query or ("query_id" if "query_id" in self.basket else None)

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys([*self.basket, self.product, *([self.of_query] if self.of_query else [])]))


def read_baskets(settings: BasketFile, items: Ids, without: pa.Array) -> Csr:
    """Baskets by items, each of weight 1, as often as it may be in the file.

    Left out are products that `items` does not know, and the baskets of the queries `without` (ids), which are held
    out. Raises `RaylevanceError` where no basket has two products.
    """
    settings.check()
    table = pq.read_table(settings.file, columns=settings.columns)
    for name in (*settings.basket, settings.product):
        table = table.filter(table[name].is_valid())
    if settings.of_query:
        table = table.filter(pc.invert(pc.is_in(table[settings.of_query].cast(pa.string()), without.cast(pa.string()))))
    names = [pc.cast(table[name], pa.string()) for name in settings.basket]
    item = items.numbers(pc.cast(table[settings.product], pa.string()))
    _, basket = np.unique(hash_strings(pc.binary_join_element_wise(*names, "\x1f")), return_inverse=True)
    row, column = np.unique(np.stack([basket, item])[:, item >= 0], axis=1)
    if not (np.bincount(row) > 1).any():
        raise RaylevanceError(f"{settings.file}: no basket has two products of the catalogue")
    return Csr.from_edges(row, column, np.ones(len(row)), (int(row.max()) + 1, len(items.of)))
