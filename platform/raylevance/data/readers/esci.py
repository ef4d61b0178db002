"""Read ESCI, Amazon's Shopping Queries data set (Reddy et al. 2022, arXiv 2206.06588), from its official files."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.data.checked_rows import DROPPED, FAULT, FILE, ROW, grades_from_labels
from raylevance.data.conversions import ID, INTEGER, PATH, TEXT
from raylevance.data.hash_buckets import distinct_rows
from raylevance.data.input_files import named_file
from raylevance.data.schema import ESCI_GRADES, REPEATED_QUERY
from raylevance.data.streamed_files import Columns, buckets_for_files, read_rows

EXAMPLES = "shopping_queries_dataset_examples.parquet"
PRODUCTS = "shopping_queries_dataset_products.parquet"
EXAMPLE_COLUMNS = Columns(
    {
        "query": TEXT,
        "query_id": ID,
        "product_id": ID,
        "product_locale": TEXT,
        "esci_label": TEXT,
        "split": TEXT,
        "small_version": INTEGER,
        "large_version": INTEGER,
    },
    required=("query", "query_id", "product_id", "product_locale", "esci_label", "split"),
)
PRODUCT_COLUMNS = Columns(
    {
        "product_id": ID,
        "product_title": TEXT,
        "product_description": TEXT,
        "product_bullet_point": TEXT,
        "product_brand": TEXT,
        "product_color": TEXT,
        "product_locale": TEXT,
        "product_category": PATH,
    },
    required=(
        "product_id",
        "product_title",
        "product_description",
        "product_bullet_point",
        "product_brand",
        "product_color",
        "product_locale",
    ),
)

Version = Literal["small", "large", "all"]


def read_esci(folder: Path, locale: str = "us", version: Version = "large") -> dict[str, ray.data.Dataset]:
    """Return the rows of products, queries and judgements of one `locale` (us, es or jp).

    `version` is small (the harder queries, for task 1 of the paper), large (for tasks 2 and 3) or all (every example,
    whatever its version). The category of products is read from the column `product_category`, which files that were
    joined with ESCI-S have.

    Raises `RaylevanceError` if a file is missing or unreadable, or if a column is missing.
    """
    left_out = functools.partial(_left_out, locale=locale, version=version)
    examples = [named_file(folder, EXAMPLES)]
    queries = read_rows(examples, "queries", EXAMPLE_COLUMNS, functools.partial(_queries, left_out=left_out))
    return {
        "products": read_rows(
            [named_file(folder, PRODUCTS)], "products", PRODUCT_COLUMNS, functools.partial(_products, locale=locale)
        ),
        "queries": distinct_rows(
            queries, "queries", ["query_id", "query", "locale"], buckets_for_files(examples), REPEATED_QUERY
        ),
        "judgements": read_rows(
            examples, "judgements", EXAMPLE_COLUMNS, functools.partial(_judgements, left_out=left_out)
        ),
    }


def _left_out(examples: pa.Table, locale: str, version: Version) -> pa.Array:
    """Return why an example is left out, null for those that are read."""
    reason = _of_other_locale(examples, locale)
    if version == "all":
        return reason
    other = pc.fill_null(pc.not_equal(examples[f"{version}_version"], 1), False)
    return pc.coalesce(reason, _reason(other, f"not of the {version} version"))


def _of_other_locale(rows: pa.Table, locale: str) -> pa.Array:
    return _reason(pc.fill_null(pc.not_equal(rows["product_locale"], locale), False), f"locale is not {locale}")


def _reason(applies: pa.ChunkedArray, reason: str) -> pa.Array:
    return pc.if_else(applies, reason, pa.scalar(None, pa.string()))


def _products(rows: pa.Table, locale: str) -> pa.Table:
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
            DROPPED: _of_other_locale(rows, locale),
        }
    )


def _queries(rows: pa.Table, left_out: Callable[[pa.Table], pa.Array]) -> pa.Table:
    columns = {"query_id": rows["query_id"], "query": rows["query"], "locale": rows["product_locale"]}
    return pa.table({**columns, FILE: rows[FILE], ROW: rows[ROW], DROPPED: left_out(rows)})


def _judgements(rows: pa.Table, left_out: Callable[[pa.Table], pa.Array]) -> pa.Table:
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
            DROPPED: left_out(rows),
        }
    )
