"""`raylevance recommend` on a table in a store: equal to its rows, whatever the order of the file."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylevance.artifacts import Store
from raylevance.index.item_table import ItemTable, ItemTableSettings, nearest_items
from raylevance.inference.item_table import Recommender, TriggerLists, load
from tests.conftest import Ended
from workloads.commands import recommend_file

ITEMS = 30
Recommend = Callable[..., Ended]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("items") / "store"
    vectors = np.random.default_rng(2).normal(size=(ITEMS, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    categories = [f"c{row % 4}" for row in range(ITEMS)]
    settings = ItemTableSettings(k=12)
    items = pa.table({"product_id": [f"é{row:02}" for row in range(ITEMS)], "category": categories})
    with Store(folder).publish("table/items") as draft:
        ItemTable(items, *nearest_items(vectors, categories, settings), 0.1).save(draft.path, settings)
    return folder


@pytest.fixture
def loaded(store: Path) -> Recommender:
    return load(Store(store), "table/items")


@pytest.fixture
def recommend(raylevance: Callable[..., Ended], store: Path, tmp_path: Path) -> Recommend:
    def run(table: pa.Table, *options: str, name: str = "table/items") -> Ended:
        pq.write_table(table, tmp_path / "T.parquet", row_group_size=7)
        files = ("--triggers", tmp_path / "T.parquet", "--output", tmp_path / "F.parquet")
        return raylevance("recommend", "--table", name, *files, "--store", store, *options)

    return run


def triggers(seed: int = 0) -> pa.Table:
    """Rows of 9 requests in random order, with whole numbers as ids and weights."""
    rng = np.random.default_rng(seed)
    rows = [(request, item) for request in range(9) for item in rng.choice(ITEMS, rng.integers(1, 5), replace=False)]
    order = rng.permutation(len(rows))
    return pa.table(
        {
            "weight": pa.array(rng.integers(1, 5, len(rows)), pa.int32()),
            "request_id": pa.array([100 + rows[place][0] for place in order], pa.int64()),
            "product_id": [f"é{rows[place][1]:02}" for place in order],
        }
    )


def test_the_output_is_what_the_table_recommends(
    recommend: Recommend, loaded: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recommend_file, "REQUESTS_AT_ONCE", 4)
    asked = triggers()
    ended = recommend(asked, "--k", "8", "--json")
    assert ended.code == 0, ended.err
    written = pq.read_table(tmp_path / "F.parquet")
    assert written.column_names == ["request_id", "rank", "product_id", "score", "trigger"]
    assert written["request_id"].type == pa.int64()
    assert list(dict.fromkeys(written["request_id"].to_pylist())) == list(
        dict.fromkeys(asked["request_id"].to_pylist())
    )
    for request in range(100, 109):
        own = [row for row in asked.to_pylist() if row["request_id"] == request]
        rows = loaded.lookup(pa.array([row["product_id"] for row in own]))
        found = loaded.recommend(TriggerLists.of([(rows.tolist(), [row["weight"] for row in own])]), 8)
        lines = [row for row in written.to_pylist() if row["request_id"] == request]
        assert [row["rank"] for row in lines] == list(range(1, len(lines) + 1))
        assert [row["product_id"] for row in lines] == loaded.product_ids(found.items[0][: len(lines)]).to_pylist()
        assert [row["score"] for row in lines] == pytest.approx(found.scores[0][: len(lines)].tolist(), abs=1e-6)
        bought = {row["product_id"] for row in own}
        assert not bought & {row["product_id"] for row in lines}
        assert {row["trigger"] for row in lines} <= bought
    printed = json.loads(ended.out)
    assert (printed["requests"], printed["triggers"], printed["rows"]) == (9, asked.num_rows, written.num_rows)
    assert (printed["unknown_triggers"], printed["requests_without_items"]) == (0, 0)


def test_unknown_triggers_are_counted_and_named(recommend: Recommend, tmp_path: Path) -> None:
    table = pa.table(
        {
            "request_id": ["a", "b", "a", "b", "c", "c"],
            "product_id": ["é01", "gone", "é02", "also gone", "gone", "é03"],
            "weight": [1.0, 1.0, 0.0, 2.0, 1.0, 0.0],
        }
    )
    ended = recommend(table, "--json")
    printed = json.loads(ended.out)
    assert (printed["unknown_triggers"], printed["requests_without_items"]) == (3, 2)
    assert sorted(printed["unknown"]) == ["also gone", "gone"]
    assert "3 of 6 triggers are not in table/items: 'gone', 'also gone'" in ended.err
    assert "2 of 3 requests have no trigger that brings an item: 'b', 'c'\n" in ended.err
    written = pq.read_table(tmp_path / "F.parquet").to_pylist()
    assert {row["request_id"] for row in written} == {"a"}
    assert {row["trigger"] for row in written} == {"é01"}
    assert "é02" not in {row["product_id"] for row in written}, "a trigger of weight 0 is left out too"


def test_a_trigger_named_twice_counts_with_the_sum(recommend: Recommend, tmp_path: Path) -> None:
    twice = pa.table({"request_id": ["a"] * 3, "product_id": ["é01", "é04", "é01"], "weight": [1.0, 2.0, 3.0]})
    once = pa.table({"request_id": ["a"] * 2, "product_id": ["é01", "é04"], "weight": [4.0, 2.0]})
    found = []
    for table in (twice, once):
        assert recommend(table).code == 0
        found.append(pq.read_table(tmp_path / "F.parquet"))
    assert found[0]["product_id"].to_pylist() == found[1]["product_id"].to_pylist()
    np.testing.assert_allclose(found[0]["score"].to_numpy(), found[1]["score"].to_numpy(), atol=1e-6)


def test_unused_categories_of_a_request_id_are_no_requests(recommend: Recommend, tmp_path: Path) -> None:
    ids = pa.DictionaryArray.from_arrays(pa.array([1, 2, 1]), pa.array(["zz", "a", "b", "yy"]))
    columns = {"product_id": ["é01", "é04", "é07"], "category": [None, "c2", None]}
    assert recommend(pa.table({"request_id": ids, **columns})).code == 0
    found = pq.read_table(tmp_path / "F.parquet")
    assert recommend(pa.table({"request_id": ids.cast(pa.string()), **columns})).code == 0
    assert found.equals(pq.read_table(tmp_path / "F.parquet"))
    assert set(found["request_id"].to_pylist()) == {"a", "b"}
    views = ids.cast(pa.string()).cast(pa.string_view())
    bytes_of_products = pa.array(columns["product_id"]).cast(pa.binary()).cast(pa.binary_view())
    assert recommend(pa.table({"request_id": views, **columns, "product_id": bytes_of_products})).code == 0
    assert found.equals(pq.read_table(tmp_path / "F.parquet"))


def test_a_category_without_items_is_named(recommend: Recommend) -> None:
    ended = recommend(pa.table({"request_id": ["a"], "product_id": ["é01"], "category": ["C2"]}))
    assert "1 categories have no item in table/items: 'C2'" in ended.err


def test_without_weights_every_trigger_counts_alike(recommend: Recommend, tmp_path: Path) -> None:
    ended = recommend(triggers().drop_columns(["weight"]))
    assert "has no column weight; every trigger has weight 1" in ended.err
    assert pq.read_table(tmp_path / "F.parquet").num_rows > 0


def test_a_k_above_what_the_triggers_bring_gives_all_of_it(recommend: Recommend, tmp_path: Path) -> None:
    found = []
    for k in ("30", "1000000000"):
        assert recommend(triggers(), "--k", k).code == 0
        found.append(pq.read_table(tmp_path / "F.parquet"))
    assert found[0].equals(found[1]) and found[0].num_rows > 0


def test_a_category_limits_a_request(recommend: Recommend, tmp_path: Path) -> None:
    columns = {"request_id": ["a", "b", "a"], "product_id": ["é01", "é01", "é04"], "category": ["c2", None, "c2"]}
    assert recommend(pa.table(columns), "--k", "30").code == 0
    found = pq.read_table(tmp_path / "F.parquet").to_pylist()
    own = {request: [int(r["product_id"][1:]) % 4 for r in found if r["request_id"] == request] for request in "ab"}
    assert set(own["a"]) == {2}
    assert len(set(own["b"])) > 1
    ended = recommend(pa.table(columns | {"category": ["c2", None, "c1"]}))
    assert ended.code == 1
    assert "row 3: request 'a' has two categories" in ended.err


def test_an_output_that_is_a_folder_is_refused_at_once(recommend: Recommend, tmp_path: Path) -> None:
    (tmp_path / "F.parquet").mkdir()
    ended = recommend(triggers())
    assert ended.code == 1 and "F.parquet: is a folder; name a file" in ended.err


def test_a_file_without_rows_gives_a_file_without_rows(recommend: Recommend, tmp_path: Path) -> None:
    ended = recommend(triggers().slice(0, 0), "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["requests"] == 0
    assert pq.read_table(tmp_path / "F.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": [1.0, -2.0]}, "row 2: weight -2.0 is no number from 0"),
        ({"weight": [1.0, float("nan")]}, "row 2: weight is missing"),
        ({"weight": [1e15, 2e15]}, "row 2: weight 2000000000000000.0 is no number from 0 to 1e+15"),
        ({"weight": ["1", "many"]}, "row 2: weight"),
        ({"request_id": ["a", None]}, "row 2: request_id is missing"),
        ({"product_id": ["é01", ""]}, "row 2: product_id is missing"),
        ({"product_id": None}, "product_id"),
    ],
)
def test_bad_rows_are_named_and_nothing_is_written(
    recommend: Recommend, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    columns = {"request_id": ["a", "b"], "product_id": ["é01", "é02"], "weight": [1.0, 2.0]} | change
    ended = recommend(pa.table({name: values for name, values in columns.items() if values is not None}))
    lines = ended.err.strip().splitlines()
    assert (ended.code, len(lines)) == (1, 1), ended
    assert message in lines[0]
    assert not (tmp_path / "F.parquet").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--table", "encoder/items"), "expected table/NAME"), (("--table", "table/other"), "table/other")],
)
def test_a_wrong_table_is_named(recommend: Recommend, options: tuple[str, ...], message: str) -> None:
    ended = recommend(triggers(), *options)
    assert ended.code != 0
    assert message in ended.err
    assert "Traceback" not in ended.err
