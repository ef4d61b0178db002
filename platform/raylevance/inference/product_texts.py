"""The item texts of a catalogue, composed by id as a scorer's model reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset

from raylevance.artifacts import Store
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError
from raylevance.inference.encoder import read_template


@dataclass(frozen=True)
class ProductTexts:
    """The columns of the products that a template reads, and the row of each product."""

    products: pa.Table
    row_of: dict[str, int]
    text: ProductText

    def find(self, product_ids: Sequence[str]) -> list[str | None]:
        """Return the item text of each product; None for one that the catalogue does not have."""
        rows = [self.row_of.get(product_id) for product_id in product_ids]
        known = [row for row in rows if row is not None]
        texts = iter(self.text.compose(self.products.take(pa.array(known, pa.int64()))))
        return [None if row is None else next(texts) for row in rows]


def load(store: Store, tables: str, scorer: str) -> ProductTexts:
    """Load the products of `tables/NAME[@VERSION]` with the template of `scorer/NAME[@VERSION]`.

    Memory is bounded by the columns that the template reads. Raises `RaylevanceError` when an artifact is missing or
    damaged, has no products, or has no template.
    """
    text = read_template(store.path(scorer))
    if text is None:
        raise RaylevanceError(f"{scorer}: has no template of item texts; train the scorer again")
    folder = store.path(tables) / "products"
    if not folder.is_dir():
        raise RaylevanceError(f"{tables}: has no products, which {scorer} needs to read their texts")
    return read(folder, text)


def read(folder: Path, text: ProductText) -> ProductTexts:
    """Read the products table in `folder`: its ids, and the columns that `text` reads."""
    columns = list(dict.fromkeys(["product_id", *text.columns]))
    products = pyarrow.dataset.dataset(folder, format="parquet").to_table(columns=columns)
    row_of = {product_id: row for row, product_id in enumerate(products["product_id"].to_pylist())}
    return ProductTexts(products, row_of, text)
