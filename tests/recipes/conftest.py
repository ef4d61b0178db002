"""ESCI files small enough to make wrong by hand."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PRODUCTS = pa.table(
    {
        "product_id": ["a", "b", "c"],
        "product_title": ["red kettle", "blue lamp", "garden hose"],
        "product_description": ["for water", None, None],
        "product_bullet_point": [None, None, "20 m"],
        "product_brand": ["Kestrel", None, "Brigg"],
        "product_color": ["red", "blue", None],
        "product_locale": ["us", "us", "us"],
    }
)
EXAMPLES = pa.table(
    {
        "query_id": [1, 1, 2, 2],
        "query": ["kettle", "kettle", "lamp", "lamp"],
        "product_id": ["a", "b", "b", "c"],
        "product_locale": ["us"] * 4,
        "esci_label": ["E", "I", "E", "C"],
        "split": ["train", "train", "test", "test"],
    }
)


@pytest.fixture
def esci(tmp_path: Path) -> Path:
    """A folder of ESCI files: two queries, three products."""
    folder = tmp_path / "esci"
    folder.mkdir()
    pq.write_table(PRODUCTS, folder / "shopping_queries_dataset_products.parquet")
    pq.write_table(EXAMPLES, folder / "shopping_queries_dataset_examples.parquet")
    return folder
