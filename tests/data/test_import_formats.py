"""One table gives the same rows from every format; what is not read, left out or damaged is counted and named."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raylevance.data.importing import ImportSummary, import_tables
from raylevance.data.input_files import suffix_of
from raylevance.data.readers.tables import read_tables
from raylevance.data.readers.ubi import read_ubi
from raylevance.data.readers.uci import REPEATED_PRODUCT, read_uci
from raylevance.data.readers.wands import read_wands
from raylevance.data.repeated_rows import count_repeated_rows
from raylevance.data.schema import TABLES
from raylevance.data.whole_table import read_table
from raylevance.errors import RaylevanceError
from tests.conftest import Ended

Rows = list[dict[str, Any]]
Write = Callable[[Path, Rows], Path]
EVENT = {"request_id": "r1", "product_id": "p1", "action": "click", "timestamp": "2024-03-08T09:30:00Z"}


def as_text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def write_csv(file: Path, rows: Rows, delimiter: str = ",") -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{name: as_text(value) for name, value in row.items()} for row in rows])
    content = text.getvalue().encode()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


def write_json(file: Path, rows: Rows) -> Path:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if file.suffix == ".json":
        content = json.dumps(rows, indent=1).encode()
    if file.suffix == ".zst":
        with pa.CompressedOutputStream(str(file), "zstd") as stream:
            stream.write(content)
    else:
        file.write_bytes(content)
    return file


def write_parquet(file: Path, rows: Rows) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=2)
    return file


WRITERS: dict[str, Write] = {
    ".csv": write_csv,
    ".TSV": lambda file, rows: write_csv(file, rows, "\t"),
    ".csv.gz": write_csv,
    ".jsonl": write_json,
    ".json": write_json,
    ".ndjson.zst": write_json,
    ".parquet": write_parquet,
}


def imported(folder: Path, output: Path, table: str, on_bad_row: Any = "stop") -> tuple[Rows, ImportSummary]:
    summary = import_tables(read_tables(folder), output, on_bad_row)
    return pq.read_table(output / table).to_pylist(), summary


WORDS = st.sampled_from(["mug", '12" pan', '"u shaped sofa', "a, b", "tab\there", "café", "7.0", " x ", "NaN", "null"])
TEXT = st.none() | st.just("") | WORDS
IDS = TEXT.filter(lambda word: not word or "\t" not in word)
"""An id with a control character is a bad row: see `test_an_id_with_a_tab_is_a_bad_row_in_every_format`."""
EVENTS = st.fixed_dictionaries(
    {
        "request_id": st.sampled_from(["r1", "007", "7.0"]),
        "session_id": IDS,
        "query_id": st.none() | st.sampled_from([7.0, 8.0, 4006381333931.0]),
        "product_id": st.just("p1"),
        "position": st.none() | st.sampled_from([1.0, 2.0]),
        "action": st.sampled_from(["click", "Click", "add_to_cart", "Add-To-Cart", "impression", "purchase"]),
        "timestamp": st.sampled_from([1709890200, 1709890200123, 1709890200123456, 1709890200123456789]),
    }
)
PRODUCTS = st.fixed_dictionaries(
    {
        "title": WORDS,
        "description": TEXT | st.just("two\nlines"),
        "brand": TEXT,
        "category": st.none() | st.lists(st.sampled_from(["Home", "Rugs", "Men's", 'a"b', "é"]), max_size=3),
    }
)


@pytest.mark.ray
@pytest.mark.parametrize("suffix", WRITERS)
def test_an_id_with_a_tab_is_a_bad_row_in_every_format(ray_cluster: None, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "files").mkdir()
    rows = [EVENT | {"session_id": session} for session in ("s1", "tab\there", "s2")]
    WRITERS[suffix](tmp_path / "files" / f"events{suffix}", rows)
    kept, summary = imported(tmp_path / "files", tmp_path / "tables", "events", "quarantine")
    assert [row["session_id"] for row in kept] == ["s1", "s2"]
    assert summary.quarantined == {"events": {"session_id has a line break or another control character": 1}}


@pytest.mark.ray
@settings(
    deadline=None, max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(events=st.lists(EVENTS, min_size=3, max_size=5), products=st.lists(PRODUCTS, min_size=3, max_size=5))
def test_every_format_gives_the_same_rows(
    ray_cluster: None, tmp_path_factory: pytest.TempPathFactory, events: Rows, products: Rows
) -> None:
    products = [{"product_id": f"p{number}", **row} for number, row in enumerate(products)]
    found = {}
    for suffix, write in WRITERS.items():
        folder = tmp_path_factory.mktemp("formats")
        (folder / "files").mkdir()
        write(folder / "files" / f"events{suffix}", events)
        write(folder / "files" / f"products{suffix}", products)
        known = {f"p{number}" for number in range(len(products))}
        assert {row["product_id"] for row in events} <= known
        _, summary = imported(folder / "files", folder / "tables", "events")
        assert summary.rows == {"products": len(products), "events": len(events)}
        found[suffix] = [pq.read_table(folder / "tables" / table).to_pylist() for table in ("products", "events")]
    first_products, first_events = found[".parquet"]
    for suffix, tables in found.items():
        assert tables == [first_products, first_events], suffix
    for row, original in zip(first_products, products, strict=True):
        assert row == dict.fromkeys(TABLES["products"].names) | {
            name: value or None for name, value in original.items()
        }
    assert [row["position"] for row in first_events] == [row["position"] and int(row["position"]) for row in events]
    assert {row["query_id"] for row in first_events} <= {None, "7", "8", "4006381333931"}
    assert {row["timestamp"].year for row in first_events} == {2024}


@pytest.mark.ray
@pytest.mark.parametrize("suffix", WRITERS)
def test_one_bad_value_costs_its_row_alone(ray_cluster: None, tmp_path: Path, suffix: str) -> None:
    """A date, a position, an id and a long text that can't be read, each in a row of its own."""
    good = {**EVENT, "position": "1", "session_id": "s"}
    bad = [
        {**good, "timestamp": "08-03-2024"},
        {**good, "position": "first"},
        {**good, "product_id": "4.00638E+12"},
        {**good, "session_id": "x" * (17 << 20)},
    ]
    (tmp_path / "files").mkdir()
    file = WRITERS[suffix](tmp_path / "files" / f"events{suffix}", [good, *bad, good])
    with pytest.raises(RaylevanceError, match=rf"{file.name}: row 2: timestamp is not a time.*and 3 more bad rows"):
        import_tables(read_tables(tmp_path / "files"), tmp_path / "tables")
    rows, summary = imported(tmp_path / "files", tmp_path / "tables", "events", "quarantine")
    assert len(rows) == 2 and summary.read == {"events": 6}
    assert summary.repeated_events == 1
    quarantined = sorted(pq.read_table(tmp_path / "tables" / "quarantine").to_pylist(), key=lambda row: row["row"])
    assert [row["row"] for row in quarantined] == [2, 3, 4, 5]
    for row, reason in zip(quarantined, ("timestamp", "position", "product_id", "longer than 16 MiB"), strict=True):
        assert reason in row["reason"]


@pytest.mark.ray
def test_a_byte_that_is_no_utf8_in_parquet(ray_cluster: None, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    titles = pa.array([b"tea", b"caf\xe9", b"mug"])
    without_check = pa.Array.from_buffers(pa.string(), 3, titles.buffers())
    table = pa.table({"product_id": ["p1", "p2", "p3"], "title": without_check})
    pq.write_table(table, tmp_path / "files" / "products.parquet")
    rows, summary = imported(tmp_path / "files", tmp_path / "tables", "products", "quarantine")
    assert [row["title"] for row in rows] == ["tea", "mug"]
    assert summary.quarantined == {"products": {"title is not UTF-8 text": 1}}


@pytest.mark.ray
def test_a_line_break_in_a_query_or_an_id(ray_cluster: None, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    rows = [
        {"query_id": "q1", "query": "two\nlines"},
        {"query_id": "q\n2", "query": "a"},
        {"query_id": "q3", "query": "b"},
    ]
    write_csv(tmp_path / "files" / "queries.csv", rows)
    kept, summary = imported(tmp_path / "files", tmp_path / "tables", "queries", "quarantine")
    assert [row["query_id"] for row in kept] == ["q3"]
    assert summary.quarantined == {
        "queries": {
            "query has a line break in it; write it on one line": 1,
            "query_id has a line break or another control character": 1,
        }
    }


@pytest.mark.ray
def test_a_json_row_with_a_name_twice_or_unknown(ray_cluster: None, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    lines = [
        '{"query_id": "q1", "query": "a"}',
        '{"query_id": "q2", "query": "a", "query": "b"}',
        '{"query_id": "q3", "qery": ""}',
    ]
    (tmp_path / "files" / "queries.jsonl").write_text("\n".join(lines), encoding="utf-8")
    rows, summary = imported(tmp_path / "files", tmp_path / "tables", "queries", "quarantine")
    assert [row["query_id"] for row in rows] == ["q1"]
    assert summary.quarantined == {
        "queries": {"row has 'query' twice": 1, "unknown column 'qery'; did you mean 'query'?": 1}
    }


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "A.CSV.ZST"])
def test_a_file_is_read_by_what_is_in_it(tmp_path: Path, name: str) -> None:
    """Browsers unpack a file and keep its name, others pack it and lose the ending."""
    delimiter = "\t" if suffix_of(Path(name)) == ".tsv" else ","
    text = f"query_id{delimiter}query\nq1{delimiter}mug\n".encode()
    second = f"q2{delimiter}rug\n".encode()
    for content in (text + second, gzip.compress(text) + gzip.compress(second)):
        (tmp_path / name).write_bytes(content)
        assert read_table(tmp_path / name)["query"].to_pylist() == ["mug", "rug"]


def test_lines_of_json_that_were_joined(tmp_path: Path) -> None:
    lines = "\ufeff" + '{"query": "mug"}\n' + "\ufeff" + '{"query": "rug"}\n'
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    assert read_table(tmp_path / "a.jsonl")["query"].to_pylist() == ["mug", "rug"]
    (tmp_path / "a.json").write_text(" [ ]\n", encoding="utf-8")
    with pytest.raises(RaylevanceError, match=r"a\.json: empty: it has no rows|a\.json: has no rows"):
        read_table(tmp_path / "a.json")


@pytest.mark.ray
def test_an_import_ends_with_one_table(ray_cluster: None, raylevance: Callable[..., Ended], tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    write_csv(folder / "events.CSV", [EVENT, EVENT, {**EVENT, "action": "wave"}, {**EVENT, "action": "Click "}])
    write_json(folder / "products.json", [{"product_id": "p1", "title": "mug"}])
    (folder / "notes.txt").write_text("not a table")
    (folder / "judgments.xlsx").write_text("not a table that is read")
    command = ("data", "import", "tables", "--from", folder, "--store", tmp_path / "store")
    ended = raylevance(*command, "--on-bad-row", "quarantine", "--json")
    assert ended.code == 0, ended.err
    printed = json.loads(ended.out)
    reason = "action is not one of exposure, click, cart, purchase"
    assert printed == {
        "ref": printed["ref"],
        "read": {"products": 1, "events": 4},
        "rows": {"products": 1, "events": 3},
        "quarantined": {"events": {reason: 1}},
        "dropped": {},
        "repeated_events": 2,
        "files": ["events.CSV", "products.json"],
        "files_not_read": ["judgments.xlsx", "notes.txt"],
    }
    table = raylevance(*command, "--on-bad-row", "quarantine").out.splitlines()
    for expected in (
        ["file read", "events.CSV"],
        ["file not read", "judgments.xlsx"],
        ["rows read", "events", "4"],
        ["rows kept", "events", "3"],
        ["rows quarantined", "events", "1", reason],
        ["rows repeated", "events", "2", "equal an earlier event"],
    ):
        assert any(all(part in line for part in expected) for line in table), expected


@pytest.mark.ray
def test_actions_and_records_of_a_log(ray_cluster: None, tmp_path: Path) -> None:
    def event(action: str, **more: Any) -> dict[str, Any]:
        attributes = {"object": {"object_id": "9"}, "position": {"ordinal": {"index": 2}}}
        common = {"action_name": action, "query_id": "r1", "timestamp": 1709890200123, "event_attributes": attributes}
        return {"_source": {**common, **more}}

    for name, write in (("json", write_json), ("parquet", write_parquet)):
        folder = tmp_path / name
        folder.mkdir()
        write(folder / f"ubi_queries.{name}", [{"_source": {"query_id": "r1", "user_query": "mug"}}])
        actions = ["Click", "ADD TO CART", "hover", "hover", "scroll", "view"]
        write(folder / f"ubi_events.{name}", [event(action) for action in actions])
        summary = import_tables(read_ubi(folder), tmp_path / f"{name}-tables")
        assert summary.read == {"queries": 1, "events": 6}
        assert summary.dropped == {"events": {"action hover is not read": 2, "action scroll is not read": 1}}
        rows = pq.read_table(tmp_path / f"{name}-tables" / "events").to_pylist()
        assert sorted(row["action"] for row in rows) == ["cart", "click", "exposure"]
        assert {row["position"] for row in rows} == {2}


@pytest.mark.ray
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_log_with_flat_columns(ray_cluster: None, tmp_path: Path, suffix: str) -> None:
    """As pandas writes nested records, with dots in the names of columns."""
    flat = {"event_attributes.object.object_id": 9.0, "event_attributes.position.ordinal": 2.0}
    event = {"action_name": "Click", "query_id": 7.0, "timestamp": 1709890200123, **flat}
    WRITERS[suffix](tmp_path / f"ubi_queries{suffix}", [{"query_id": 7, "user_query": "mug"}])
    WRITERS[suffix](tmp_path / f"ubi_events{suffix}", [event])
    import_tables(read_ubi(tmp_path), tmp_path / "tables")
    (row,) = pq.read_table(tmp_path / "tables" / "events").to_pylist()
    assert (row["request_id"], row["product_id"], row["position"], row["action"]) == ("7", "9", 2, "click")


@pytest.mark.ray
def test_a_log_with_an_event_without_an_action(ray_cluster: None, tmp_path: Path) -> None:
    write_json(tmp_path / "ubi_queries.jsonl", [{"query_id": "r1", "user_query": "mug"}])
    attributes = {"object": {"object_id": "9"}}
    event = {"action_name": None, "query_id": "r1", "timestamp": 1709890200123, "event_attributes": attributes}
    write_json(tmp_path / "ubi_events.jsonl", [{**event, "action_name": "click"}, event])
    with pytest.raises(RaylevanceError, match=r"ubi_events.jsonl: row 2: action_name is missing"):
        import_tables(read_ubi(tmp_path), tmp_path / "tables")


@pytest.mark.ray
def test_returns_are_no_purchases(ray_cluster: None, tmp_path: Path) -> None:
    row = {"InvoiceNo": "1", "CustomerID": 7.0, "InvoiceDate": "2011-03-07 10:00", "Description": " MUG", "Quantity": 2}
    rows = [
        row,
        {**row, "InvoiceNo": " c2"},
        {**row, "Quantity": -2},
        {**row, "Quantity": 0},
        {**row, "Quantity": None},
    ]
    write_parquet(tmp_path / "purchases.parquet", rows)
    summary = import_tables(read_uci(tmp_path), tmp_path / "tables")
    assert (summary.rows["events"], summary.dropped["events"]) == (2, {"a return, not a purchase": 3})
    assert summary.dropped["products"] == {REPEATED_PRODUCT: 4}
    assert pq.read_table(tmp_path / "tables" / "events")["request_id"].to_pylist() == ["7-20110307T1000"] * 2
    day_first = [row, {**row, "InvoiceDate": "07-03-2011 10:00"}]
    write_parquet(tmp_path / "purchases.parquet", day_first)
    with pytest.raises(RaylevanceError, match=r"purchases.parquet: row 2: InvoiceDate is not a time"):
        import_tables(read_uci(tmp_path), tmp_path / "again")
    odd = [{**row, "InvoiceDate": " "}, {**row, "CustomerID": None}, {**row, "Description": "a\nb"}]
    write_parquet(tmp_path / "purchases.parquet", [row, *odd])
    summary = import_tables(read_uci(tmp_path), tmp_path / "quarantined", "quarantine")
    line_break = {"Description has a line break in it; write it on one line": 1}
    assert summary.quarantined["products"] == line_break
    assert summary.quarantined["events"] == {"InvoiceDate is missing": 1, "CustomerID is missing": 1, **line_break}
    write_parquet(
        tmp_path / "purchases.parquet", [{"quantity" if name == "Quantity" else name: row[name] for name in row}]
    )
    with pytest.raises(RaylevanceError, match="no column 'Quantity'; did you mean 'quantity'"):
        read_uci(tmp_path)


@pytest.mark.ray
def test_slashes_inside_the_names_of_categories(ray_cluster: None, tmp_path: Path) -> None:
    header = "product_id\tproduct_name\tcategory_hierarchy\tproduct_description\tproduct_features\n"
    rows = '1\t"u shaped sofa\tNursery / Changing/Dressing Tables / Tables w/ Drawers\t\t\n2.0\tmug\tMugs\t\t\n'
    (tmp_path / "product.CSV").write_text(header + rows, encoding="utf-8")
    import_tables(read_wands(tmp_path), tmp_path / "tables")
    first, second = pq.read_table(tmp_path / "tables" / "products").to_pylist()
    assert first["category"] == ["Nursery", "Changing/Dressing Tables", "Tables w/ Drawers"]
    assert (first["title"], second["product_id"], second["category"]) == ('"u shaped sofa', "2", ["Mugs"])


@pytest.mark.parametrize("rows_per_pass", [1 << 20, 7])
def test_repeated_rows_against_a_count(tmp_path: Path, rows_per_pass: int) -> None:
    random = np.random.default_rng(0)
    rows = [
        {"id": f"{random.integers(4)}-long-enough", "text": [None, "", "a"][random.integers(3)], "at": int(place)}
        for place in random.integers(0, 5, 100)
    ]
    schema = pa.schema([("id", pa.string()), ("text", pa.string()), ("at", pa.int32())])
    rows = [{**row, "text": row["text"] or None} for row in rows]
    for number in range(2):
        part = pa.Table.from_pylist(rows[number * 50 : number * 50 + 50], schema)
        pq.write_table(part, tmp_path / f"part-{number}.parquet")
    distinct = {tuple(row.values()) for row in rows}
    assert count_repeated_rows(tmp_path, rows_per_pass) == 100 - len(distinct)
