"""Judged pairs of query and product as texts, for training and measuring judges."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylevance.data.id_rows import find_rows
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.text import ProductText


@dataclass(frozen=True)
class GradedPairs:
    """Judged pairs, as lists of one length.

    `texts` are product texts. `categories` are the first level of each product's category path, or "" without one.
    """

    query_ids: list[str]
    product_ids: list[str]
    queries: list[str]
    texts: list[str]
    grades: list[int]
    categories: list[str]

    @classmethod
    def from_tables(cls, judged: JudgedTables, text: ProductText) -> Self:
        """Return the judgements whose query and product are in `judged`, with product texts by the template `text`."""
        queries = dict(zip(*(judged.queries[name].to_pylist() for name in ("query_id", "query")), strict=True))
        ids = judged.products["product_id"].to_pylist()
        texts = dict(zip(ids, text.compose(judged.products), strict=True))
        levels = dict(zip(ids, judged.products["category"].to_pylist(), strict=True))
        rows = [
            (query, product, queries[query], texts[product], grade, (levels[product] or [""])[0])
            for query, product, grade in zip(
                *(judged.judgements[name].to_pylist() for name in ("query_id", "product_id", "grade")), strict=True
            )
            if query in queries and product in texts
        ]
        return cls(*(list(column) for column in zip(*rows, strict=True))) if rows else cls([], [], [], [], [], [])

    def joined(self, other: Self) -> Self:
        """Return these pairs followed by those of `other`."""
        return type(self)(*([*getattr(self, field.name), *getattr(other, field.name)] for field in fields(self)))

    def write(self, file: Path) -> None:
        """Write a Parquet file with the columns query_id, query, product_text and grade."""
        columns = {"query_id": self.query_ids, "query": self.queries, "product_text": self.texts}
        pq.write_table(pa.table({**columns, "grade": pa.array(self.grades, pa.int8())}), file)


def pair_texts(judged: JudgedTables, pairs: pa.Table, text: ProductText) -> pa.Table:
    """Return the columns query and product_text of each row of `pairs` (query_id, product_id).

    The texts of unknown ids are null.
    """
    products = judged.products
    query_rows = find_rows(pairs["query_id"], judged.queries["query_id"])
    product_rows = find_rows(pairs["product_id"], products["product_id"])
    distinct = pc.unique(product_rows)
    texts = pa.array(text.compose(products.take(distinct)), pa.string())
    return pa.table(
        {
            "query": judged.queries["query"].take(query_rows),
            "product_text": texts.take(pc.index_in(product_rows, distinct)),
        }
    )
