"""The neighbour queries of products, found by the product's id or by its text."""

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
from raylevance.index.transfer import NeighbourQueries
from raylevance.inference.encoding import encode_texts, write_npy

PRODUCTS, QUERIES, VECTORS = "products.parquet", "queries.parquet", "query_vectors.npy"

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ProductQueries:
    """Products by row: `product_ids` string [n] and `text_hashes` uint64 [n], of the text that an encoder reads.

    `queries` string [m] are the texts of `neighbours.vectors` [m, d].
    """

    product_ids: pa.Array
    text_hashes: pa.Array
    queries: pa.Array
    neighbours: NeighbourQueries

    @classmethod
    def of(cls, products: pa.Table, encoder: Path) -> Self:
        """From rows of product_id, product_text, queries (list of texts) and weights (list of float, as many).

        Each distinct query is encoded once, by the encoder in the folder `encoder`. A null list is an empty one.
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
        """What `save` wrote."""
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
        """The row [n] of each product by its id in `ids` [n], else by its text in `texts` [n]; -1 where unknown."""
        hashes = pa.array(hash_strings(pa.array(texts, pa.string())))
        found = pc.index_in(hashes, self.text_hashes)
        if ids is not None:
            found = pc.coalesce(pc.index_in(pa.array(ids, pa.string()), self.product_ids), found)
        rows: Rows = pc.fill_null(found, -1).to_numpy().astype(np.int64)
        return rows
