"""The import checks at least a million rows a minute on two processors."""

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylevance.data.importing import import_tables
from raylevance.data.readers.tables import read_tables

JUDGEMENTS, PRODUCTS, QUERIES = 2_000_000, 200_000, 50_000


@pytest.mark.long
@pytest.mark.ray
def test_two_million_judgements(ray_cluster: None, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    random = np.random.default_rng(0)
    product_ids = pa.array([f"B{number:09d}" for number in range(PRODUCTS)])
    query_ids = pa.array([f"{number}" for number in range(QUERIES)])
    pq.write_table(pa.table({"product_id": product_ids, "title": product_ids}), shop / "products.parquet")
    pq.write_table(pa.table({"query_id": query_ids, "query": query_ids}), shop / "queries.parquet")
    grades = random.integers(0, 3, JUDGEMENTS).astype(np.int8)
    grades[::10_000] = 7
    judgements = {
        "query_id": query_ids.take(random.integers(0, QUERIES, JUDGEMENTS)),
        "product_id": product_ids.take(random.integers(0, PRODUCTS, JUDGEMENTS)),
        "grade": grades,
        "source": pa.repeat("human", JUDGEMENTS),
    }
    pq.write_table(pa.table(judgements), shop / "judgements.parquet", row_group_size=250_000)

    start = time.perf_counter()
    summary = import_tables(read_tables(shop), tmp_path / "tables", on_bad_row="quarantine")
    seconds = time.perf_counter() - start
    assert summary.rows == {"products": PRODUCTS, "queries": QUERIES, "judgements": JUDGEMENTS - 200}
    assert summary.quarantined == {"judgements": {"grade is not 0, 1 or 2": 200}}
    rate = (JUDGEMENTS + PRODUCTS + QUERIES) / seconds * 60
    assert rate >= 1_000_000, f"{rate:,.0f} rows a minute"
