"""The neighbour queries of products, looked up by the id of a product or by its text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylevance.data.hashing import hash_strings
from raylevance.data.npy_file import write_npy
from raylevance.index.transfer import NeighbourQueries
from raylevance.inference.encoding import encode_texts

PRODUCTS, QUERIES, VECTORS = "products.parquet", "queries.parquet", "query_vectors.npy"

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ProductQueries:
    """The neighbour queries of n products.

    `product_ids` string [n] and `text_hashes` uint64 [n] (hashes of the item texts) identify the products; `queries`
    string [m] are the texts of the query vectors `neighbours.vectors` [m, d].
    """

    product_ids: pa.Array
    text_hashes: pa.Array
    queries: pa.Array
    neighbours: NeighbourQueries

    @classmethod
    def of(cls, products: pa.Table, encoder: Path) -> Self:
        """Encode the neighbour queries in `products` by the encoder in the folder `encoder`, each distinct one once.

        `products` has the columns product_id, product_text, queries (list of string) and weights (list of float, one
        for each query); a null list counts as an empty one.
        """
        texts = pc.list_flatten(products["queries"]).combine_chunks().dictionary_encode()
        queries = texts.dictionary.cast(pa.string())
        degree = pc.fill_null(pc.list_value_length(products["queries"]), 0).to_numpy()
        neighbours = NeighbourQueries(
            indptr=np.concatenate([[0], np.cumsum(degree)]).astype(np.int64),
            queries=texts.indices.to_numpy().astype(np.int64),
            weights=pc.list_flatten(products["weights"]).to_numpy().astype(np.float32),
            vectors=encode_texts(encoder, queries.to_pylist(), "query"),
        )
        ids = products["product_id"].cast(pa.string()).combine_chunks()
        return cls(ids, pa.array(hash_strings(products["product_text"])), queries, neighbours)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load the product queries that `save` wrote."""
        products = pq.read_table(folder / PRODUCTS)
        lists = products["queries"].combine_chunks()
        neighbours = NeighbourQueries(
            indptr=lists.offsets.to_numpy().astype(np.int64),
            queries=lists.values.to_numpy().astype(np.int64),
            weights=products["weights"].combine_chunks().values.to_numpy(),
            vectors=np.load(folder / VECTORS, mmap_mode="r"),
        )
        ids, hashes = (products[name].combine_chunks() for name in ("product_id", "text_hash"))
        return cls(ids, hashes, pq.read_table(folder / QUERIES)["query"].combine_chunks(), neighbours)

    def save(self, folder: Path) -> None:
        """Write `products.parquet`, `queries.parquet` and `query_vectors.npy` to `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        known = self.neighbours
        columns = {
            "product_id": self.product_ids,
            "text_hash": self.text_hashes,
            "queries": pa.ListArray.from_arrays(known.indptr.astype(np.int32), known.queries.astype(np.int32)),
            "weights": pa.ListArray.from_arrays(known.indptr.astype(np.int32), known.weights),
        }
        pq.write_table(pa.table(columns), folder / PRODUCTS)
        pq.write_table(pa.table({"query": self.queries}), folder / QUERIES)
        write_npy(folder / VECTORS, known.vectors)

    def rows(self, texts: Sequence[str], ids: Sequence[str | None] | None) -> Rows:
        """Return the row of each product by its id in `ids` [n], else by its text in `texts` [n]; -1 for none."""
        hashes = pa.array(hash_strings(pa.array(texts, pa.string())))
        found = pc.index_in(hashes, self.text_hashes)
        if ids is not None:
            found = pc.coalesce(pc.index_in(pa.array(ids, pa.string()), self.product_ids), found)
        rows: Rows = pc.fill_null(found, -1).to_numpy().astype(np.int64)
        return rows
