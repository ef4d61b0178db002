"""`evaluate`, `encode`, `index build` and `doctor`: what they print is what their parts give."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from raylevance.artifacts import Store
from raylevance.data.whole_table import read_table
from raylevance.errors import RaylevanceError
from raylevance.evaluation.ranking_metrics import METRICS
from raylevance.index.products import ProductIndex
from raylevance.models.encoder import Encoder
from tests.conftest import Ended
from workloads.steps.indexing import build_index

Command = Callable[..., Ended]
BASELINES = {"bm25": (0.727, 0.607, 0.819), "zero_shot": (0.657, 0.522, 0.804)}
"""Of the public sample's 40 test queries, measured apart: nDCG@10 with both gain tables, recall@100."""


@pytest.mark.long
def test_retrieval_on_the_public_sample(raylevance: Command, public_data: Path, tmp_path: Path) -> None:
    examples = pq.read_table(public_data / "esci" / "shopping_queries_dataset_examples.parquet")
    pq.write_table(examples.filter(pa.compute.equal(examples["split"], "test")), tmp_path / "E.parquet")
    products = public_data / "esci" / "shopping_queries_dataset_products.parquet"
    files = ("--examples", tmp_path / "E.parquet", "--products", products, "--store", tmp_path)
    ended = raylevance("evaluate", "retrieval", "--encoder", "minilm", *files, "--json")
    assert ended.code == 0, ended.err
    printed = json.loads(ended.out)
    assert list(printed) == ["queries", "dense", "bm25", "hybrid", "zero_shot", "random"]
    assert printed["queries"] == 40
    metrics = ["ndcg@10", "ndcg@10_official", "recall@100"]
    for system, expected in BASELINES.items():
        assert list(printed[system]) == [*METRICS, "ci95"]
        assert list(printed[system]["ci95"]) == list(METRICS)
        assert [printed[system][metric] for metric in metrics] == pytest.approx(expected, abs=0.01)
        for metric in metrics:
            low, high = printed[system]["ci95"][metric]
            assert low < printed[system][metric] < high
    assert printed["dense"] == printed["zero_shot"], "the encoder is the backbone itself"
    assert printed["random"]["ndcg@10"] < 0.05


@pytest.mark.parametrize("column", ["label", "grade"])
def test_pair_metrics_equal_scikit_learn(raylevance: Command, minilm: Path, tmp_path: Path, column: str) -> None:
    queries = ["red kettle", "red kettle", "desk lamp", "garden hose", "desk lamp", "wool sock"]
    texts = ["kettle, red", "garden hose", "lamp for a desk", "kettle, red", "garden hose", "sock of wool"]
    labels = np.array([2, 0, 2, 1, 0, 2]) if column == "grade" else np.array([1, 0, 1, 0, 0, 1])
    pq.write_table(pa.table({"query": queries, "product_text": texts, column: labels}), tmp_path / "pairs.parquet")
    ended = raylevance("evaluate", "pairs", "--encoder", "minilm", "--pairs", tmp_path / "pairs.parquet", "--json")
    printed = json.loads(ended.out)
    encoder = Encoder.load(minilm)
    scores = (encoder.encode_queries(queries) * encoder.encode_items(texts)).sum(axis=1)
    positive = labels == labels.max()
    assert printed["pairs"] == 6
    assert printed["auc"] == pytest.approx(roc_auc_score(positive, scores))
    assert printed["f1"] == 1 and printed["ks"] == 1
    assert scores[~positive].max() < printed["f1_threshold"] <= scores[positive].min() + 1e-6


def test_pairs_without_a_text_are_named(raylevance: Command, tmp_path: Path) -> None:
    pairs = {
        "query": ["kettle", " ", "lamp", "hose"],
        "product_text": ["kettle", "lamp", None, ""],
        "label": [1, 0, 0, 1],
    }
    pq.write_table(pa.table(pairs), tmp_path / "pairs.parquet")
    ended = raylevance("evaluate", "pairs", "--encoder", "minilm", "--pairs", tmp_path / "pairs.parquet", "--json")
    lines = " ".join(ended.err.split())
    assert "1 of 4 pairs have an empty query, which is scored as it is; the first is row 2" in lines
    assert "2 of 4 pairs have an empty product text, which is scored as it is; the first is row 3" in lines
    assert json.loads(ended.out)["pairs"] == 4


def test_pairs_by_product_id(raylevance: Command, esci: Path) -> None:
    pairs = pa.table({"query": ["kettle", "lamp"], "product_id": ["a", "a"], "label": [1, 0]})
    pq.write_table(pairs, esci / "pairs.parquet")
    command = ("evaluate", "pairs", "--encoder", "minilm", "--pairs", esci / "pairs.parquet", "--json")
    ended = raylevance(*command, "--products", esci / "shopping_queries_dataset_products.parquet")
    assert json.loads(ended.out)["auc"] == 1
    ended = raylevance(*command)
    assert ended.code == 1 and "product_id together with --products" in ended.err
    pq.write_table(pairs.set_column(1, "product_id", pa.array(["a", "z"])), esci / "pairs.parquet")
    ended = raylevance(*command, "--products", esci / "shopping_queries_dataset_products.parquet")
    assert ended.code == 1 and "row 2: product z is not in" in ended.err


def test_ids_that_became_decimal_numbers(raylevance: Command, tmp_path: Path) -> None:
    """Article numbers of a column with a missing value are floats in one file, and numbers or texts in another."""
    ids = [4040404123452, 4040404123469]
    titles = {"product_title": ["red kettle", "garden hose"], "product_brand": ["a", "b"], "product_color": ["c", "d"]}
    pq.write_table(pa.table({"product_id": pa.array(ids, pa.float64()), **titles}), tmp_path / "P.parquet")
    examples = {"query_id": [1.0, 2.0], "query": ["kettle", "hose"], "esci_label": ["E", "E"]}
    for given in (ids, [str(number) for number in ids], [f"{number}.0" for number in ids]):
        pq.write_table(pa.table({**examples, "product_id": given}), tmp_path / "E.parquet")
        files = ("--examples", tmp_path / "E.parquet", "--products", tmp_path / "P.parquet", "--store", tmp_path)
        found = json.loads(raylevance("evaluate", "retrieval", "--encoder", "minilm", *files, "--json").out)
        assert found["bm25"]["recall@10"] == 1
    pq.write_table(pa.table({**examples, "product_id": pa.array([1.0, 2.0**60])}), tmp_path / "E.parquet")
    ended = raylevance("evaluate", "retrieval", "--encoder", "minilm", *files)
    assert ended.code == 1 and "E.parquet: row 2: product_id is a rounded number" in ended.err


def test_encode_keeps_the_order(raylevance: Command, minilm: Path, tmp_path: Path) -> None:
    texts = ["desk lamp", "a very long title " * 30, "", "wool sock", "desk lamp"]
    (tmp_path / "F.csv").write_text("id,title\n" + "".join(f"{row},{text}\n" for row, text in enumerate(texts)))
    output = tmp_path / "F.npy"
    ended = raylevance(
        *("encode", "--encoder", "minilm", "--column", "title", "--json"),
        *("--input", tmp_path / "F.csv", "--output", output),
    )
    assert json.loads(ended.out)["rows"] == 5, ended.err
    vectors = np.load(output)
    np.testing.assert_allclose(vectors, Encoder.load(minilm).encode_items(texts), atol=1e-6)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["F.csv", "F.npy"]


@pytest.mark.ray
def test_an_index_of_another_kind(raylevance: Command, ray_cluster: None, small_store: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(small_store, tmp_path / "store"))
    command = ("index", "build", "--encoder", "encoder/warmup", "--products", "tables/demo", "--store", store)
    ended = raylevance(*command, "--set", "kind=hnsw", "--json")
    printed = json.loads(ended.out)
    assert printed["ref"] == Store(store).get("index/warmup").ref
    assert printed["products"] == 300, printed


@pytest.mark.ray
def test_json_has_no_colours(raylevance: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A console that is told to colour what it prints does not colour this."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    ended = raylevance("store", "list", "--store", tmp_path, "--json")
    assert json.loads(ended.out)["artifacts"] == []


def test_doctor(raylevance: Command, ray_cluster: None, tmp_path: Path) -> None:
    printed = json.loads(raylevance("doctor", "--store", tmp_path / "store", "--json").out)
    assert printed["ok"], printed
    assert "2 CPUs" in printed["findings"][-1]["text"]


def test_a_csv_file_keeps_ids_and_texts_of_digits_and_lines(raylevance: Command, tmp_path: Path) -> None:
    """Bullets span lines, in many of the 20,000 rows; an id of digits is not a number."""
    with (tmp_path / "P.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["product_id", "product_title", "product_brand", "product_color", "product_bullet_point"])
        writer.writerow(["0439785969", "007 kettle", "", "red", "one\ntwo"])
        writer.writerows([f"B{row}", f"mug {row}", "b", "", "line\n" * 20] for row in range(20_000))
    products = read_table(tmp_path / "P.csv", ["product_id"])
    assert products.num_rows == 20_001
    assert products.slice(0, 1).to_pylist() == [
        {
            "product_id": "0439785969",
            "product_title": "007 kettle",
            "product_brand": None,
            "product_color": "red",
            "product_bullet_point": "one\ntwo",
        }
    ]
    rows = 'query,product_text,label,grade\n007,"red kettle",1,0\n007,"garden\nhose",0,2\n'
    (tmp_path / "pairs.csv").write_text(rows)
    ended = raylevance("evaluate", "pairs", "--encoder", "minilm", "--pairs", tmp_path / "pairs.csv", "--json")
    assert json.loads(ended.out)["auc"] in (0, 1), "of the numbers of `label`, whatever a judge says beside it"
    for name in ("Label", "esci_label", "labels", " label"):
        (tmp_path / "pairs.csv").write_text(rows.replace(",label,", f",{name},"))
        ended = raylevance("evaluate", "pairs", "--encoder", "minilm", "--pairs", tmp_path / "pairs.csv", "--json")
        assert ended.code == 1 and f"has a column {name!r} beside 'grade'" in ended.err


def test_a_pair_judged_twice_counts_as_judged_first(raylevance: Command, esci: Path) -> None:
    files = ("--products", esci / "shopping_queries_dataset_products.parquet", "--json", "--store", esci / "store")
    once = pq.read_table(esci / "shopping_queries_dataset_examples.parquet")
    other = once.set_column(once.column_names.index("esci_label"), "esci_label", pa.array(["I"] * once.num_rows))
    found = []
    for name, table in {"once": once, "twice": pa.concat_tables([once, other])}.items():
        pq.write_table(table, esci / f"{name}.parquet")
        ended = raylevance(
            "evaluate", "retrieval", "--encoder", "minilm", "--examples", esci / f"{name}.parquet", *files
        )
        found.append(json.loads(ended.out))
    assert found[0] == found[1]


def test_vectors_whose_output_is_a_folder(raylevance: Command, tmp_path: Path) -> None:
    (tmp_path / "F.csv").write_text("title\nlamp\n")
    (tmp_path / "F.npy").mkdir()
    command = ("encode", "--encoder", "minilm", "--column", "title", "--input", tmp_path / "F.csv")
    ended = raylevance(*command, "--output", tmp_path / "F.npy")
    assert ended.code == 1 and re.search(r"F\.npy: is a folder; name a file", ended.err)


@pytest.mark.ray
def test_an_index_of_tables_that_no_band_can_be_fitted_on(
    ray_cluster: None, small_store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Judged for evaluation alone, or with one grade: searched like any other, after a line that says why."""
    store = Store(Path(shutil.copytree(small_store, tmp_path / "store")))
    demo = store.path("tables/demo")
    judgements = pq.read_table(demo / "judgements")
    kept_rows = {"tests": pc.field("split") == "test", "positives": pc.field("grade") == 2}
    for name, kept in (kept_rows | {"training": pc.field("split") == "train"}).items():
        with store.publish(f"tables/{name}") as draft:
            for table in ("products", "queries"):
                shutil.copytree(demo / table, draft.path / table)
            (draft.path / "judgements").mkdir()
            pq.write_table(judgements.filter(kept), draft.path / "judgements" / "part-0.parquet")
        capfd.readouterr()
        made = build_index("encoder/warmup", f"tables/{name}", str(tmp_path / "store"), None, [])
        bands, err = ProductIndex.load(store.path(made.ref)).bands, capfd.readouterr().err
        if name == "training":
            assert bands is not None and "no grades" not in err, "bands need no test queries"
            continue
        reason = {"tests": "split 'train' is empty", "positives": "all training judgements have the grade 2"}[name]
        assert bands is None and f"hits get no grades, and minimum_grade is refused: {reason}" in err
        with pytest.raises(RaylevanceError, match="has no training judgements of two grades"):
            build_index("encoder/warmup", f"tables/{name}", str(tmp_path / "store"), None, ["fusion.method=graded"])


def test_retrieval_says_that_it_measures_all_splits(raylevance: Command, esci: Path) -> None:
    examples = esci / "shopping_queries_dataset_examples.parquet"
    products = esci / "shopping_queries_dataset_products.parquet"
    command = ("evaluate", "retrieval", "--encoder", "minilm", "--examples", examples, "--products", products)
    both = raylevance(*command, "--store", esci, "--json")
    assert json.loads(both.out)["queries"] == 2
    said = f"all 2 queries of {examples} are measured, those of every split (test, train)"
    assert both.err.count(said) == 1 and "give a file with only those rows" in both.err
    table = pq.read_table(examples)
    for kept in (table.filter(pc.field("split") == "test"), table.drop_columns(["split"])):
        pq.write_table(kept, examples)
        assert "are measured" not in raylevance(*command, "--store", esci, "--json").err


def test_retrieval_counts_products_that_it_lacks_or_leaves_out(raylevance: Command, esci: Path) -> None:
    examples = esci / "shopping_queries_dataset_examples.parquet"
    products = esci / "shopping_queries_dataset_products.parquet"
    table = pq.read_table(products)
    pq.write_table(pa.concat_tables([table.slice(0, 2), table.slice(0, 1)]), products)
    command = ("evaluate", "retrieval", "--encoder", "minilm", "--examples", examples, "--products", products)
    ended = raylevance(*command, "--store", esci, "--json")
    assert json.loads(ended.out)["queries"] == 2
    assert f"{products}: 1 rows repeat the product_id of an earlier row and are left out" in ended.err
    assert f"1 of 3 products that {examples} judges are not in {products}" in ended.err and "'c@us'" in ended.err


def test_one_id_in_two_countries_is_two_products(raylevance: Command, tmp_path: Path) -> None:
    """Whichever comes first in the file, the judged one is found by its own text."""
    rows = [("A", "tetera roja", "es"), ("A", "garden hose", "us"), ("B", "wool sock", "es")]
    example = pa.table(
        {"query_id": [1], "query": ["tetera roja"], "product_id": ["A"], "product_locale": ["es"], "esci_label": ["E"]}
    )
    pq.write_table(example, tmp_path / "E.parquet")
    for order in (rows, rows[::-1]):
        ids, titles, locales = map(list, zip(*order, strict=True))
        nothing = pa.nulls(3, pa.string())
        columns = {"product_id": ids, "product_title": titles, "product_brand": nothing, "product_color": nothing}
        pq.write_table(pa.table({**columns, "product_locale": locales}), tmp_path / "P.parquet")
        files = ("--examples", tmp_path / "E.parquet", "--products", tmp_path / "P.parquet", "--store", tmp_path)
        found = json.loads(raylevance("evaluate", "retrieval", "--encoder", "minilm", *files, "--json").out)
        assert found["bm25"]["ndcg@10"] == found["dense"]["ndcg@10"] == 1
