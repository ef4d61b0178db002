"""ESCI, Amazon's Shopping Queries data set (Reddy et al. 2022, arXiv 2206.06588), in its official files and columns."""

import functools
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.data.buckets import distinct_rows
from raylevance.data.files import Columns, Mapping, buckets_of, read_rows
from raylevance.data.rows import FAULT, FILE, ROW, grades_of
from raylevance.data.schema import ESCI_GRADES

EXAMPLES = "shopping_queries_dataset_examples.parquet"
PRODUCTS = "shopping_queries_dataset_products.parquet"
EXAMPLE_COLUMNS = Columns(
    ("query", "query_id", "product_id", "product_locale", "esci_label", "split"), ("small_version", "large_version")
)
PRODUCT_COLUMNS = Columns(
    (
        "product_id",
        "product_title",
        "product_description",
        "product_bullet_point",
        "product_brand",
        "product_color",
        "product_locale",
    ),
    ("product_category",),
)

Version = Literal["small", "large", "all"]


def read_esci(folder: Path, locale: str = "us", version: Version = "large") -> dict[str, ray.data.Dataset]:
    """Rows of products, queries and judgements of one `locale` (us, es or jp).

    `version`: the reduced set of harder queries (task 1 of the paper), the full one (tasks 2 and 3), or every example
    whatever its version. `product_category`, a path, is taken from files that were joined with ESCI-S. Raises
    `RaylevanceError` for a missing or torn file and for a missing column.
    """
    chosen = functools.partial(_chosen, locale=locale, version=version)
    examples = [folder / EXAMPLES]
    queries = read_rows(examples, "queries", EXAMPLE_COLUMNS, functools.partial(_queries, chosen=chosen))
    return {
        "products": read_rows(
            [folder / PRODUCTS], "products", PRODUCT_COLUMNS, functools.partial(_products, locale=locale)
        ),
        "queries": distinct_rows(queries, "queries", ["query_id", "query", "locale"], buckets_of(examples)),
        "judgements": read_rows(examples, "judgements", EXAMPLE_COLUMNS, functools.partial(_judgements, chosen=chosen)),
    }


def _chosen(examples: pa.Table, locale: str, version: Version) -> pa.Table:
    examples = _of_locale(examples, locale)
    if version == "all":
        return examples
    return examples.filter(pc.fill_null(pc.equal(examples[f"{version}_version"].cast(pa.int64()), 1), True))


def _of_locale(rows: pa.Table, locale: str) -> pa.Table:
    return rows.filter(pc.fill_null(pc.equal(rows["product_locale"], locale), True))


def _products(rows: pa.Table, locale: str) -> pa.Table:
    rows = _of_locale(rows, locale)
    return pa.table(
        {
            "product_id": rows["product_id"],
            "title": rows["product_title"],
            "description": rows["product_description"],
            "bullets": rows["product_bullet_point"],
            "brand": rows["product_brand"],
            "color": rows["product_color"],
            "category": rows["product_category"],
            "locale": rows["product_locale"],
            FILE: rows[FILE],
            ROW: rows[ROW],
        }
    )


def _queries(examples: pa.Table, chosen: Mapping) -> pa.Table:
    rows = chosen(examples)
    columns = {"query_id": rows["query_id"], "query": rows["query"], "locale": rows["product_locale"]}
    return pa.table({**columns, FILE: rows[FILE], ROW: rows[ROW]})


def _judgements(examples: pa.Table, chosen: Mapping) -> pa.Table:
    rows = chosen(examples)
    grade, fault = grades_of(rows["esci_label"], ESCI_GRADES)
    return pa.table(
        {
            "query_id": rows["query_id"],
            "product_id": rows["product_id"],
            "label": rows["esci_label"],
            "grade": grade,
            "source": pa.repeat("human", rows.num_rows),
            "confidence": pa.repeat(1.0, rows.num_rows),
            "split": rows["split"],
            FILE: rows[FILE],
            ROW: rows[ROW],
            FAULT: fault,
        }
    )
