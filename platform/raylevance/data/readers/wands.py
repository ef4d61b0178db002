"""Read WANDS, Wayfair's relevance data set (Chen et al., ECIR 2022), from its official tab-separated files."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.data.checked_rows import FAULT, FILE, ROW, grades_from_labels
from raylevance.data.conversions import ID, TEXT
from raylevance.data.input_files import named_file
from raylevance.data.streamed_files import Columns, read_rows
from raylevance.errors import RaylevanceError

GRADES = {"Exact": 2, "Partial": 1, "Irrelevant": 0}
LOCALE = "us"


def read_wands(folder: Path) -> dict[str, ray.data.Dataset]:
    """Return the rows of products, queries and judgements from product.csv, query.csv and label.csv in `folder`.

    A missing file leaves its table out. Raises `RaylevanceError` if all three are missing, if a column is missing or
    if a file is empty.
    """
    readers = {
        "products": ("product.csv", PRODUCT_COLUMNS, _products),
        "queries": ("query.csv", QUERY_COLUMNS, _queries),
        "judgements": ("label.csv", LABEL_COLUMNS, _judgements),
    }
    files = {table: named_file(folder, name) for table, (name, *_) in readers.items()}
    present = {table: reader for table, reader in readers.items() if files[table].exists()}
    if not present:
        raise RaylevanceError(f"{folder}: has no product.csv, query.csv or label.csv of WANDS")
    return {
        table: read_rows([files[table]], table, columns, mapping, delimiter="\t")
        for table, (_, columns, mapping) in present.items()
    }


PRODUCT_COLUMNS = Columns(
    {
        "product_id": ID,
        "product_name": TEXT,
        "category_hierarchy": TEXT,
        "product_description": TEXT,
        "product_features": TEXT,
    },
    ("product_id", "product_name", "category_hierarchy", "product_description", "product_features"),
    one_line=("product_name",),
)
QUERY_COLUMNS = Columns({"query_id": ID, "query": TEXT}, ("query_id", "query"), one_line=("query",))
LABEL_COLUMNS = Columns({"query_id": ID, "product_id": ID, "label": TEXT}, ("query_id", "product_id", "label"))
LEVEL_SEPARATOR = r"\s+/\s+"
"""A slash without spaces is a part of a name, as in Changing/Dressing Tables."""


def _products(rows: pa.Table) -> pa.Table:
    path = pc.split_pattern_regex(pc.utf8_trim_whitespace(rows["category_hierarchy"]), LEVEL_SEPARATOR)
    return pa.table(
        {
            "product_id": rows["product_id"],
            "title": rows["product_name"],
            "description": rows["product_description"],
            "bullets": rows["product_features"],
            "category": path,
            "locale": pa.repeat(LOCALE, rows.num_rows),
            FILE: rows[FILE],
            ROW: rows[ROW],
        }
    )


def _queries(rows: pa.Table) -> pa.Table:
    return rows.append_column("locale", pa.repeat(LOCALE, rows.num_rows))


def _judgements(rows: pa.Table) -> pa.Table:
    grade, fault = grades_from_labels(rows["label"], GRADES)
    columns = {
        "grade": grade,
        "source": pa.repeat("human", rows.num_rows),
        "confidence": pa.repeat(1.0, rows.num_rows),
        FAULT: fault,
    }
    for name, values in columns.items():
        rows = rows.append_column(name, values)
    return rows
