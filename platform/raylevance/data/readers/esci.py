"""Read ESCI, Amazon's Shopping Queries data set (Reddy et al. 2022, arXiv 2206.06588), from its official files."""

import functools
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.data.checked_rows import FAULT, FILE, ROW, grades_from_labels
from raylevance.data.hash_buckets import distinct_rows
from raylevance.data.schema import ESCI_GRADES
from raylevance.data.streamed_files import Columns, RowMapping, buckets_for_files, read_rows

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
    """Return the rows of products, queries and judgements of one `locale` (us, es or jp).

    `version` is small (the harder queries, for task 1 of the paper), large (for tasks 2 and 3) or all (every example,
    whatever its version). The category of products is read from the column `product_category`, which files that were
    joined with ESCI-S have.

    Raises `RaylevanceError` if a file is missing or unreadable, or if a column is missing.
    """
    choose = functools.partial(_choose, locale=locale, version=version)
    examples = [folder / EXAMPLES]
    queries = read_rows(examples, "queries", EXAMPLE_COLUMNS, functools.partial(_queries, choose=choose))
    return {
        "products": read_rows(
            [folder / PRODUCTS], "products", PRODUCT_COLUMNS, functools.partial(_products, locale=locale)
        ),
        "queries": distinct_rows(queries, "queries", ["query_id", "query", "locale"], buckets_for_files(examples)),
        "judgements": read_rows(examples, "judgements", EXAMPLE_COLUMNS, functools.partial(_judgements, choose=choose)),
    }


def _choose(examples: pa.Table, locale: str, version: Version) -> pa.Table:
    examples = _filter_locale(examples, locale)
    if version == "all":
        return examples
    return examples.filter(pc.fill_null(pc.equal(examples[f"{version}_version"].cast(pa.int64()), 1), True))


def _filter_locale(rows: pa.Table, locale: str) -> pa.Table:
    return rows.filter(pc.fill_null(pc.equal(rows["product_locale"], locale), True))


def _products(rows: pa.Table, locale: str) -> pa.Table:
    rows = _filter_locale(rows, locale)
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


def _queries(examples: pa.Table, choose: RowMapping) -> pa.Table:
    rows = choose(examples)
    columns = {"query_id": rows["query_id"], "query": rows["query"], "locale": rows["product_locale"]}
    return pa.table({**columns, FILE: rows[FILE], ROW: rows[ROW]})


def _judgements(examples: pa.Table, choose: RowMapping) -> pa.Table:
    rows = choose(examples)
    grade, fault = grades_from_labels(rows["esci_label"], ESCI_GRADES)
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
