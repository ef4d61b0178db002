"""Bad input gives one line with the file, the row and the reason and writes nothing, or goes to quarantine."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data

from raylevance.data.importing import import_tables
from raylevance.data.readers.esci import EXAMPLES, PRODUCTS, read_esci
from raylevance.data.readers.tables import read_tables
from raylevance.data.readers.ubi import read_ubi
from raylevance.data.readers.wands import read_wands
from raylevance.data.streamed_files import require_columns
from raylevance.data.whole_table import read_table
from raylevance.errors import RaylevanceError

pytestmark = pytest.mark.ray

Rows = list[dict[str, Any]]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder of three good tables in three formats."""
    folder = tmp_path / "shop"
    folder.mkdir()
    pq.write_table(pa.table({"product_id": ["p1", "p2"], "title": ["mug", "rug"]}), folder / "products.parquet")
    (folder / "queries.csv").write_text("query_id,query\nq1,a mug\nq2,a rug\n", encoding="utf-8")
    write_judgements(folder, [judgement("q1", "p1", 2), judgement("q2", "p1", 0)])
    return folder


def judgement(query: Any, product: Any, grade: Any, **more: Any) -> dict[str, Any]:
    return {"query_id": query, "product_id": product, "grade": grade, "source": "human", **more}


def write_judgements(folder: Path, rows: Rows) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "judgements.jsonl").write_text(lines, encoding="utf-8")


def error_of(action: Callable[[], object]) -> str:
    with pytest.raises(RaylevanceError) as caught:
        action()
    line = str(caught.value)
    assert "\n" not in line
    return line


def quarantined(tables: Path, table: str) -> Rows:
    rows: Rows = pq.read_table(tables / "quarantine" / table).to_pylist()
    return rows


def test_three_formats(ray_cluster: None, shop: Path, tmp_path: Path) -> None:
    summary = import_tables(read_tables(shop), tmp_path / "tables")
    assert summary.rows == {"products": 2, "queries": 2, "judgements": 2}
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == ["judgements", "products", "queries"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (judgement("q9", "p1", 2), "unknown query_id"),
        (judgement("q1", "p9", 2), "unknown product_id"),
        (judgement("q1", None, 2), "product_id is missing"),
        (judgement("q1", " ", 2), "product_id is missing"),
        (judgement("q1", "p1", 3), "grade is not 0, 1 or 2"),
        (judgement("q1", "p1", "high"), "grade is not of type int8"),
        (judgement("q1", "p1", None), "grade is missing"),
        (judgement("q1", "p1", 1, confidence=1.5), "confidence is not between 0 and 1"),
    ],
)
def test_a_bad_row_stops_or_goes_to_quarantine(
    ray_cluster: None, shop: Path, tmp_path: Path, bad: dict[str, Any], reason: str
) -> None:
    write_judgements(shop, [judgement("q1", "p1", 2), bad, judgement("q2", "p2", 1), bad])
    line = error_of(lambda: import_tables(read_tables(shop), tmp_path / "tables"))
    assert line.startswith(f"{shop / 'judgements.jsonl'}: row 2: {reason}: ")
    assert "(and 1 more bad rows of judgements)" in line
    assert sorted(tmp_path.iterdir()) == [shop], "something half written stays"

    summary = import_tables(read_tables(shop), tmp_path / "tables", on_bad_row="quarantine")
    assert summary.rows["judgements"] == 2
    assert summary.quarantined == {"judgements": {reason: 2}}
    first, second = quarantined(tmp_path / "tables", "judgements")
    assert (first["file"], first["row"], second["row"]) == (str(shop / "judgements.jsonl"), 2, 4)
    assert first["reason"] == reason
    assert json.loads(first["values"]).items() >= bad.items()


def test_an_id_that_is_not_unique(ray_cluster: None, shop: Path, tmp_path: Path) -> None:
    (shop / "queries.csv").write_text("query_id,query\nq1,first\nq2,a rug\nq1,second\nq1,third\n", encoding="utf-8")
    line = error_of(lambda: import_tables(read_tables(shop), tmp_path / "tables"))
    assert f"{shop / 'queries.csv'}: row 3: id is not unique" in line
    summary = import_tables(read_tables(shop), tmp_path / "tables", on_bad_row="quarantine")
    assert summary.rows["queries"] == 2
    assert summary.quarantined == {"queries": {"id is not unique": 2}}
    assert pq.read_table(tmp_path / "tables" / "queries")["query"].to_pylist() == ["first", "a rug"]
    assert [row["row"] for row in quarantined(tmp_path / "tables", "queries")] == [3, 4]


def test_a_judgement_of_a_quarantined_product_is_bad_too(ray_cluster: None, shop: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"product_id": ["p1", "p2"], "title": [None, "rug"]}), shop / "products.parquet")
    write_judgements(shop, [judgement("q1", "p1", 2), judgement("q2", "p2", 0)])
    summary = import_tables(read_tables(shop), tmp_path / "tables", on_bad_row="quarantine")
    assert summary.quarantined == {"products": {"title is missing": 1}, "judgements": {"unknown product_id": 1}}


def test_torn_text_rows(ray_cluster: None, shop: Path, tmp_path: Path) -> None:
    (shop / "queries.csv").write_text("query_id,query\nq1,a mug\nq5\nq2,a rug\nq3,a,b\n", encoding="utf-8")
    with (shop / "judgements.jsonl").open("a", encoding="utf-8") as lines:
        lines.write('[1, 2]\n{"query_id": "q1", "product')
    summary = import_tables(read_tables(shop), tmp_path / "tables", on_bad_row="quarantine")
    assert summary.rows == {"products": 2, "queries": 2, "judgements": 2}
    queries = quarantined(tmp_path / "tables", "queries")
    assert [(row["row"], row["reason"], row["values"]) for row in queries] == [
        (2, "row has 1 values, the header 2", "q5"),
        (4, "row has 3 values, the header 2", "q3,a,b"),
    ]
    judgements = quarantined(tmp_path / "tables", "judgements")
    assert [(row["row"], row["reason"]) for row in judgements] == [
        (3, "row is not a JSON object"),
        (4, "row is not a JSON object"),
    ]


def test_an_unknown_esci_label(ray_cluster: None, public_data: Path, tmp_path: Path) -> None:
    examples = pq.read_table(public_data / "esci" / EXAMPLES).slice(0, 50)
    labels = [*examples["esci_label"].to_pylist()[:49], "X"]
    column = examples.column_names.index("esci_label")
    pq.write_table(examples.set_column(column, "esci_label", pa.array(labels)), tmp_path / EXAMPLES)
    (tmp_path / PRODUCTS).symlink_to(public_data / "esci" / PRODUCTS)
    line = error_of(lambda: import_tables(read_esci(tmp_path), tmp_path / "tables"))
    assert f"{tmp_path / EXAMPLES}: row 50: label is not one of E, S, C, I" in line
    assert '"label": "X"' in line


def test_all_rows_bad(ray_cluster: None, shop: Path, tmp_path: Path) -> None:
    write_judgements(shop, [judgement("q1", "p1", 7)])
    line = error_of(lambda: import_tables(read_tables(shop), tmp_path / "tables", on_bad_row="quarantine"))
    assert line.endswith("no good row is left")


def test_output_that_has_something_in_it(ray_cluster: None, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    import_tables(read_tables(shop), tmp_path / "tables")
    assert "not empty" in error_of(lambda: import_tables(read_tables(shop), tmp_path / "tables"))


def test_a_torn_page_is_found_while_reading(ray_cluster: None, shop: Path, tmp_path: Path) -> None:
    file = shop / "products.parquet"
    content = bytearray(file.read_bytes())
    content[4:40] = b"\xff" * 36
    file.write_bytes(content)
    line = error_of(lambda: import_tables(read_tables(shop), tmp_path / "tables"))
    assert line.startswith(f"{file}: incomplete or unreadable")
    assert sorted(tmp_path.iterdir()) == [shop]


def test_a_full_disk(ray_cluster: None, shop: Path, tmp_path: Path) -> None:
    rows = read_tables(shop)["queries"].map_batches(_full_disk, batch_format="pyarrow")
    line = error_of(lambda: import_tables({"queries": rows}, tmp_path / "tables"))
    assert line.endswith("the disk is full")
    assert sorted(tmp_path.iterdir()) == [shop]


def _full_disk(rows: pa.Table) -> pa.Table:
    """Make this worker's Parquet writer fail once, as it does on a full disk."""
    import errno

    write_table = pq.ParquetWriter.write_table

    def fail(*_: object) -> None:
        pq.ParquetWriter.write_table = write_table
        raise OSError(errno.ENOSPC, "No space left on device")

    pq.ParquetWriter.write_table = fail
    return rows


def test_what_pandas_writes(ray_cluster: None, shop: Path, tmp_path: Path) -> None:
    """Large strings, categoricals, times in microseconds without a zone, and a missing level of a category."""
    products = {
        "product_id": pa.array(["p1", "p2", "p3"], pa.large_string()),
        "title": ["mug", "rug", "jug"],
        "category": pa.array(["Home > Kitchen", "Home", "Home"], pa.large_string()).dictionary_encode(),
    }
    pq.write_table(pa.table(products), shop / "products.parquet")
    times = ["2024-01-01T10:00:00.123456", "2024-01-01 10:00:00.123Z", "2024-01-01 11:00:00.123+01:00"]
    event = {"request_id": "r", "product_id": "p1", "action": "click", "query_id": "q1"}
    events = [event | {"timestamp": time} for time in times]
    (shop / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in events), encoding="utf-8")
    import_tables(read_tables(shop), tmp_path / "tables")
    paths = pq.read_table(tmp_path / "tables" / "products")["category"].to_pylist()
    assert paths == [["Home", "Kitchen"], ["Home"], ["Home"]]
    written = pq.read_table(tmp_path / "tables" / "events")["timestamp"].cast(pa.int64()).to_pylist()
    assert written == [1704103200123] * 3


def test_a_category_with_an_empty_level_keeps_the_others(ray_cluster: None, shop: Path, tmp_path: Path) -> None:
    paths = pa.array([["Home", None, "Rugs"], [None, ""]], pa.list_(pa.string()))
    table = pa.table({"product_id": ["p1", "p2"], "title": ["mug", "rug"], "category": paths})
    pq.write_table(table, shop / "products.parquet")
    import_tables(read_tables(shop), tmp_path / "tables")
    assert pq.read_table(tmp_path / "tables" / "products")["category"].to_pylist() == [["Home", "Rugs"], None]


@pytest.mark.parametrize("time", ["07-03-2011 10:00", "yesterday", True, 1.5])
def test_what_is_no_time(ray_cluster: None, shop: Path, tmp_path: Path, time: Any) -> None:
    """A day that may be a month is not guessed, and a number must give a year from 1990 on."""
    event = {"request_id": "r", "product_id": "p1", "action": "click", "query_id": "q1", "timestamp": time}
    (shop / "events.jsonl").write_text(json.dumps(event) + "\n", encoding="utf-8")
    line = error_of(lambda: import_tables(read_tables(shop), tmp_path / "tables"))
    assert "row 1: timestamp is not a time" in line


@pytest.mark.parametrize("row", ['{"query_id": "q9", "query": "\\ud83d"}', "[" * 100_000, '["q9"]'])
def test_a_json_line_that_is_no_row(ray_cluster: None, shop: Path, tmp_path: Path, row: str) -> None:
    (shop / "queries.csv").unlink()
    lines = ['{"query_id": "q1", "query": "a mug"}', '{"query_id": "q2", "query": "a rug"}', row]
    (shop / "queries.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert "row 3: row is not a JSON object" in error_of(lambda: import_tables(read_tables(shop), tmp_path / "tables"))
    (shop / "queries.jsonl").write_text(row, encoding="utf-8")
    assert "none of the first 1 rows is a JSON object" in error_of(lambda: read_tables(shop))
    (shop / "queries.jsonl").write_text("\n".join(["", row, *lines[:2]]), encoding="utf-8")
    line = error_of(lambda: import_tables(read_tables(shop), tmp_path / "tables"))
    assert "row 2: row is not a JSON object" in line and ("half of a surrogate pair" in line) == ("ud83d" in row)


def test_a_value_of_another_kind_than_most_is_read_by_itself(ray_cluster: None, shop: Path, tmp_path: Path) -> None:
    """A path in one string among lists is a path, and a title that is a list is the one bad row."""
    (shop / "products.parquet").unlink()
    rows = [
        {"product_id": "p1", "title": "mug", "category": ["Home", "Rugs"]},
        {"product_id": "p2", "title": "rug", "category": ["Home"]},
        {"product_id": "p3", "title": "hose", "category": "Garden > Hoses"},
        {"product_id": "p4", "title": ["lamp"], "category": None},
    ]
    (shop / "products.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert "row 4: title is a list, not text" in error_of(lambda: import_tables(read_tables(shop), tmp_path / "tables"))
    import_tables(read_tables(shop), tmp_path / "tables", on_bad_row="quarantine")
    paths = pq.read_table(tmp_path / "tables" / "products")["category"].to_pylist()
    assert paths == [["Home", "Rugs"], ["Home"], ["Garden", "Hoses"]]


class TestBeforeWork:
    """Errors that names, footers and headers show are raised without starting a task."""

    def test_missing_files(self, public_data: Path, tmp_path: Path) -> None:
        assert error_of(lambda: read_esci(tmp_path)).endswith(": no such file")
        assert "has no product.csv, query.csv or label.csv" in error_of(lambda: read_wands(tmp_path))
        assert "has no ubi_queries.parquet or ubi_queries.jsonl" in error_of(lambda: read_ubi(tmp_path))
        assert "has no table" in error_of(lambda: read_tables(tmp_path))

    def test_a_torn_footer(self, shop: Path) -> None:
        file = shop / "products.parquet"
        file.write_bytes(file.read_bytes()[:-20])
        assert error_of(lambda: read_tables(shop)).startswith(f"{file}: incomplete or not a Parquet file")

    def test_an_unknown_column(self, shop: Path) -> None:
        (shop / "queries.csv").write_text("query_id,query,local\nq1,a mug,us\n", encoding="utf-8")
        line = error_of(lambda: read_tables(shop))
        assert line == f"{shop / 'queries.csv'}: has the unknown column 'local'; did you mean 'locale'?"
        (shop / "queries.csv").write_text("id,query,size\n1,a mug,2\n", encoding="utf-8")
        line = error_of(lambda: read_tables(shop))
        assert line.endswith("has the unknown column 'id', 'size' and lacks 'query_id'; known: locale, query_id")

    def test_a_missing_column(self, shop: Path, public_data: Path, tmp_path: Path) -> None:
        pq.write_table(pa.table({"product_id": ["p1"]}), shop / "products.parquet")
        assert "products.parquet: has no column 'title'" in error_of(lambda: read_tables(shop))
        examples = pq.read_table(public_data / "esci" / EXAMPLES)
        names = ["label" if name == "esci_label" else name for name in examples.column_names]
        pq.write_table(examples.rename_columns(names), tmp_path / EXAMPLES)
        (tmp_path / PRODUCTS).symlink_to(public_data / "esci" / PRODUCTS)
        assert "has no column 'esci_label'; did you mean 'label'?" in error_of(lambda: read_esci(tmp_path))

    def test_missing_columns_are_all_named(self, shop: Path) -> None:
        """A column that is required itself is no suggestion for another."""
        (shop / "queries.csv").write_text("query\na mug\n", encoding="utf-8")
        assert "has no column 'query_id'; its columns: query" in error_of(lambda: read_tables(shop))
        file = shop / "events.csv"
        required = ("request_id", "query_id", "time", "position")
        for present, line in {
            ("query_id", "time", "position"): "has no column 'request_id'; its columns: query_id, time, position",
            ("query_id", "times"): "has no column 'request_id', 'time', 'position'; did you mean 'times' for 'time'?",
            ("query_id", "time", "positon", "requestid"): (
                "has no column 'request_id', 'position'; "
                "did you mean 'requestid' for 'request_id', 'positon' for 'position'?"
            ),
        }.items():
            assert error_of(lambda present=present: require_columns(file, present, required)) == f"{file}: {line}"
        require_columns(file, ["request_id", "query_id", "time", "position"], required)

    def test_a_file_of_no_bytes(self, shop: Path) -> None:
        for read in (lambda: read_tables(shop), lambda: read_table(shop / "products.parquet", ["product_id"])):
            (shop / "products.parquet").write_bytes(b"")
            assert error_of(read) == f"{shop / 'products.parquet'}: is empty, it has 0 bytes; write it again"
        (shop / "a.jsonl").write_bytes(b"")
        assert "empty: it has no rows" in error_of(lambda: read_table(shop / "a.jsonl", ["query"]))

    @pytest.mark.parametrize("content", ["", "query_id,query\n"])
    def test_an_empty_file(self, shop: Path, content: str) -> None:
        (shop / "queries.csv").write_text(content, encoding="utf-8")
        assert error_of(lambda: read_tables(shop)) == f"{shop / 'queries.csv'}: empty: it has no rows"

    @pytest.mark.ray
    @pytest.mark.parametrize("content", ["", "query_id,query\n"])
    def test_an_empty_part_among_others(self, ray_cluster: None, shop: Path, tmp_path: Path, content: str) -> None:
        (shop / "queries.csv").rename(shop / "queries-1.csv")
        (shop / "queries-0.csv").write_text(content, encoding="utf-8")
        summary = import_tables(read_tables(shop), tmp_path / "tables")
        assert summary.rows["queries"] > 0
        assert "queries-0.csv" not in {Path(file).name for file in summary.files}  # so it is said not to be read

    def test_a_parquet_file_without_rows(self, shop: Path) -> None:
        table = pq.read_table(shop / "products.parquet")
        pq.write_table(table.slice(0, 0), shop / "products.parquet")
        assert error_of(lambda: read_tables(shop)) == f"{shop / 'products.parquet'}: empty: it has no rows"

    def test_a_header_in_another_encoding(self, shop: Path) -> None:
        (shop / "queries.csv").write_bytes(b"query_id,qu\xe9ry\nq1,cafe\n")
        assert "can't be read as UTF-8 text" in error_of(lambda: read_tables(shop))
        (shop / "queries.csv").write_text("query_id,query\nq1,cafe\n", encoding="utf-16")
        assert "is UTF-16, can't be read as UTF-8 text; save it as UTF-8" in error_of(lambda: read_tables(shop))

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("query_id,query\nq1,mug\n".encode("utf-16-le"), "is UTF-16, UTF-32 or no text"),
            (gzip.compress("query_id,query\nq1,mug\n".encode("utf-16"), mtime=0), "is UTF-16, can't be read"),
            (b"PK\x03\x04 ", "is a zip archive or an Excel workbook"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1", "is an Excel workbook"),
            (b"PAR1 ", "is a Parquet file; name it .parquet"),
        ],
    )
    def test_what_is_no_text(self, shop: Path, content: bytes, said: str) -> None:
        (shop / "queries.csv").write_bytes(content)
        assert f"queries.csv: {said}" in error_of(lambda: read_tables(shop))

    def test_a_column_that_is_there_twice(self, shop: Path) -> None:
        (shop / "queries.csv").write_text("query_id,query,query\nq1,a mug,a rug\n", encoding="utf-8")
        assert error_of(lambda: read_tables(shop)).endswith("has 2 columns 'query'; give each column its own name")

    @pytest.mark.parametrize("name", ["queries.csv", "products.parquet"])
    def test_a_pointer_of_git_lfs(self, shop: Path, name: str) -> None:
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
        (shop / name).write_text(pointer, encoding="utf-8")
        line = error_of(lambda: read_tables(shop))
        assert line.startswith(f"{shop / name}: is a Git LFS pointer") and "git lfs pull" in line


def test_nothing_is_left_of_a_table_without_rows(ray_cluster: None, public_data: Path, tmp_path: Path) -> None:
    esci: dict[str, ray.data.Dataset] = read_esci(public_data / "esci", locale="jp")
    line = error_of(lambda: import_tables(esci, tmp_path / "tables"))
    rows = pq.read_metadata(public_data / "esci" / "shopping_queries_dataset_products.parquet").num_rows
    assert line == f"products: empty: there are no rows to import ({rows} left out: locale is not jp)"
    assert list(tmp_path.iterdir()) == []
