"""The readers import every row of the public samples, with its types, and give the same result twice."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from raylevance.data.checked_rows import DROPPED
from raylevance.data.importing import import_tables
from raylevance.data.readers.esci import EXAMPLES, read_esci
from raylevance.data.readers.tables import read_tables
from raylevance.data.readers.uci import read_uci
from raylevance.data.readers.wands import read_wands
from raylevance.data.schema import TABLES

pytestmark = pytest.mark.ray


def hashes(folder: Path) -> Mapping[str, str]:
    files = sorted(folder.rglob("*.parquet"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_esci_sample(ray_cluster: None, public_data: Path, tmp_path: Path) -> None:
    summary = import_tables(read_esci(public_data / "esci"), tmp_path / "tables")
    assert summary.rows == {"products": 6764, "queries": 100, "judgements": 4422}
    assert summary.quarantined == {}
    for table in summary.rows:
        assert pq.read_table(tmp_path / "tables" / table).schema.equals(TABLES[table])

    judgements = pq.read_table(tmp_path / "tables" / "judgements")
    examples = pq.read_table(public_data / "esci" / EXAMPLES)
    assert judgements["product_id"].to_pylist() == examples["product_id"].to_pylist()
    grades = Counter(zip(judgements["label"].to_pylist(), judgements["grade"].to_pylist(), strict=True))
    assert set(grades) == {("E", 2), ("S", 1), ("C", 1), ("I", 0)}
    test_queries = judgements.filter(pc.equal(judgements["split"], "test"))["query_id"].unique()
    assert len(test_queries) == 40


def test_esci_imports_to_the_same_bytes(ray_cluster: None, public_data: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        import_tables(read_esci(public_data / "esci"), tmp_path / name)
    assert hashes(tmp_path / "first") == hashes(tmp_path / "second")


def test_esci_versions_and_locales(ray_cluster: None, public_data: Path, tmp_path: Path) -> None:
    examples = pq.read_table(public_data / "esci" / EXAMPLES)
    small = pc.sum(pc.equal(examples["small_version"], 1)).as_py()
    summary = import_tables(read_esci(public_data / "esci", version="small"), tmp_path / "tables")
    left_out = {"not of the small version": examples.num_rows - small} if small < examples.num_rows else {}
    assert summary.rows["judgements"] == small
    assert summary.dropped.get("judgements", {}) == left_out
    assert summary.dropped["queries"]["repeats a query"] == small - summary.rows["queries"]
    spanish = read_esci(public_data / "esci", locale="es")["judgements"]
    assert spanish.sum(DROPPED) == examples.num_rows, "they are counted, and there is no other row"
    assert spanish.count() == 1


def test_wands_queries_alone(ray_cluster: None, public_data: Path, tmp_path: Path) -> None:
    assert import_tables(read_wands(public_data / "wands"), tmp_path / "tables").rows == {"queries": 480}
    rows = pq.read_table(tmp_path / "tables" / "queries").slice(0, 2).to_pylist()
    assert [row["query"] for row in rows] == ["salon chair", "smart coffee table"]


def test_wands_products_and_labels(ray_cluster: None, tmp_path: Path) -> None:
    (tmp_path / "product.csv").write_text(
        "product_id\tproduct_name\tproduct_class\tcategory_hierarchy\tproduct_description\tproduct_features\t"
        "rating_count\taverage_rating\treview_count\n"
        '7\tsolid wood bed\tBeds\tFurniture / Bedroom Furniture / Beds\t"two\nlines"\tcolor:oak\t15\t4.5\t1\n'
        "8\tlamp\t\t\t\t\t\t\t\n",
        encoding="utf-8",
    )
    (tmp_path / "query.csv").write_text("query_id\tquery\tquery_class\n0\tbed\tBeds\n", encoding="utf-8")
    (tmp_path / "label.csv").write_text(
        "id\tquery_id\tproduct_id\tlabel\n1\t0\t7\tExact\n2\t0\t8\tIrrelevant\n3\t0\t7\tPartial\n", encoding="utf-8"
    )
    assert import_tables(read_wands(tmp_path), tmp_path / "tables").rows == {
        "products": 2,
        "queries": 1,
        "judgements": 3,
    }
    bed, lamp = pq.read_table(tmp_path / "tables" / "products").to_pylist()
    assert bed["category"] == ["Furniture", "Bedroom Furniture", "Beds"]
    assert (bed["description"], bed["bullets"]) == ("two\nlines", "color:oak")
    assert (lamp["category"], lamp["description"]) == (None, None)
    assert pq.read_table(tmp_path / "tables" / "judgements")["grade"].to_pylist() == [2, 0, 1]


def test_uci_purchases(ray_cluster: None, public_data: Path, tmp_path: Path) -> None:
    source = pq.read_table(public_data / "uci_online_retail" / "purchases.parquet")
    source = source.slice(0, 20_000)
    pq.write_table(source, tmp_path / "purchases.parquet", row_group_size=3_000)
    summary = import_tables(read_uci(tmp_path), tmp_path / "tables")
    names = pc.utf8_trim_whitespace(source["Description"])
    assert summary.rows == {"products": len(names.unique()), "events": 20_000}
    events = pq.read_table(tmp_path / "tables" / "events")
    assert events["product_id"].to_pylist() == names.to_pylist()
    assert set(events["action"].to_pylist()) == {"purchase"}
    baskets = {(row["CustomerID"], row["InvoiceDate"]) for row in source.to_pylist()}
    assert len(events["request_id"].unique()) == len(baskets)


def test_rows_keep_their_order_over_files_and_tasks(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raylevance.data.streamed_files.ROWS_PER_TASK", 100)
    expected = [f"q{number:04d}" for number in range(1000)]
    for file in range(2):
        ids = expected[file * 500 : file * 500 + 500]
        pq.write_table(
            pa.table({"query_id": ids, "query": ids}), tmp_path / f"queries-{file}.parquet", row_group_size=30
        )
    import_tables(read_tables(tmp_path), tmp_path / "tables")
    parts = sorted((tmp_path / "tables" / "queries").iterdir())
    assert len(parts) > 4
    assert [name for part in parts for name in pq.read_table(part)["query_id"].to_pylist()] == expected
