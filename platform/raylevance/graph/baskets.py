"""Baskets: products that were bought, viewed or judged together, outside the searches of the log.

Baskets add edges between products only. In the meta-path item-query-item, a basket takes the place of the query.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from raylevance.config import AbsolutePath, Settings
from raylevance.data.hashing import hash_strings
from raylevance.data.streamed_files import column_names, require_columns
from raylevance.errors import RaylevanceError
from raylevance.graph.csr import Csr
from raylevance.graph.edges import NodeIds


class BasketFile(Settings):
    """A Parquet file of baskets, with one row for each product of a basket."""

    file: AbsolutePath
    """Path of the Parquet file."""
    basket: tuple[str, ...] = Field(("basket_id",), min_length=1)
    """Names of the columns that together identify a basket."""
    product: str = "product_id"
    """Name of the column with the product id."""
    query: str | None = None
    """Name of the column with the id of the query that the basket's products were judged or clicked for. Null means
    query_id if that is one of the columns in `basket`, and no query otherwise."""

    def check(self) -> None:
        """Raise `RaylevanceError` if the file does not exist, cannot be read, or lacks a column."""
        if not self.file.is_file():
            raise RaylevanceError(f"{self.file}: no such basket file")
        require_columns(self.file, column_names(self.file), self.columns)

    @property
    def query_column(self) -> str | None:
        """Name of the column with the query id, or None if baskets belong to no query."""
        return self.query or ("query_id" if "query_id" in self.basket else None)

    @property
    def columns(self) -> list[str]:
        """Names of all columns that are read."""
        return list(dict.fromkeys([*self.basket, self.product, *([self.query_column] if self.query_column else [])]))


def read_baskets(settings: BasketFile, items: NodeIds, held_out_queries: pa.Array) -> Csr:
    """Read a basket file as a graph from baskets to `items`. Every edge has weight 1, however often it is in the file.

    Products that are not in `items` and baskets of the `held_out_queries` (ids) are left out.

    Raises `RaylevanceError` if the file cannot be read or no basket has two products.
    """
    settings.check()
    table = pq.read_table(settings.file, columns=settings.columns)
    for name in (*settings.basket, settings.product):
        table = table.filter(table[name].is_valid())
    if settings.query_column:
        queries = table[settings.query_column].cast(pa.string())
        table = table.filter(pc.invert(pc.is_in(queries, held_out_queries.cast(pa.string()))))
    names = [pc.cast(table[name], pa.string()) for name in settings.basket]
    item = items.lookup(pc.cast(table[settings.product], pa.string()))
    _, basket = np.unique(hash_strings(pc.binary_join_element_wise(*names, "\x1f")), return_inverse=True)
    row, column = np.unique(np.stack([basket, item])[:, item >= 0], axis=1)
    if not (np.bincount(row) > 1).any():
        raise RaylevanceError(f"{settings.file}: no basket has two products of the catalogue")
    return Csr.from_edges(row, column, np.ones(len(row)), (int(row.max()) + 1, len(items)))
