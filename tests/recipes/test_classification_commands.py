"""`evaluate classification` and `classify` on a classifier in a store: equal to its own probabilities, row by row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score

from raylevance.artifacts import Store
from raylevance.data.label_space import LabelSpace
from raylevance.data.product_labels import category_labels, column_labels
from raylevance.data.schema import PRODUCTS
from raylevance.inference.query_classifier import LoadedClassifier, load, save_classifier
from raylevance.models.query_classifier import QueryClassifier, QueryClassifierSettings
from tests.conftest import Ended
from workloads.commands import classify_file, evaluate_classification

Command = Callable[..., Ended]
PATHS = [["Home", "Kitchen", "Kettles"], ["Home", "Kitchen", "Pans"], ["Home", "Lamps"], ["Garden", "Hoses"]]
IDS = ["Garden > Hoses", "Home > Kitchen > Kettles", "Home > Kitchen > Pans", "Home > Lamps"]
TRAINING_QUERIES = [1, 40, 3, 20]
QUERIES = ["red kettle", "frying pan", "desk lamp", "garden hose", "pan for a kettle", "red kettle"]
LABELS = [[IDS[1]], [IDS[2]], [IDS[3]], [IDS[0]], [IDS[2], IDS[1]], [IDS[3]]]


@pytest.fixture(scope="module")
def store(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with `classifier/query`: untrained, so that a label is probable where its text is near the query's."""
    folder = tmp_path_factory.mktemp("classifier") / "store"
    rows = [
        {"product_id": str(number), "title": path[-1], "brand": ["Brigg", "Kestrel"][number % 2], "category": path}
        for number, path in enumerate(PATHS)
    ]
    products = pa.Table.from_pylist(rows, PRODUCTS)
    space = LabelSpace(pa.concat_tables([category_labels(products), column_labels(products, "brand")]))
    classifier = QueryClassifier.from_encoder(minilm, space, {}, QueryClassifierSettings(structure_enhanced=False))
    counts = {"category": np.array(TRAINING_QUERIES), "brand": np.array([1, 1])}
    limits = {"category": np.array([0.5, 0.6, 0.4, 0.5], np.float32), "brand": np.array([0.5, 0.5], np.float32)}
    with Store(folder).publish("classifier/query") as draft:
        save_classifier(draft.path, classifier, counts, limits)
    return folder


@pytest.fixture
def classifier(store: Path) -> LoadedClassifier:
    return load(Store(store), "classifier/query")


@pytest.fixture
def evaluate(raylevance: Command, store: Path, tmp_path: Path) -> Callable[..., Ended]:
    """Return a function that evaluates the rows of a table, written as Parquet or JSON Lines."""

    def run(table: pa.Table, *options: str, suffix: str = ".parquet", as_json: bool = True) -> Ended:
        file = tmp_path / f"F{suffix}"
        if suffix == ".parquet":
            pq.write_table(table, file)
        else:
            file.write_text("".join(f"{json.dumps(row)}\n" for row in table.to_pylist()))
        named = ("--classifier", "classifier/query", "--store", store)
        shown = ("--json",) if as_json else ()
        return raylevance("evaluate", "classification", *named, "--queries", file, *shown, *options)

    return run


def labelled(labels: list[Any] | None = None, queries: list[Any] | None = None) -> pa.Table:
    return pa.table({"query": queries or QUERIES, "labels": LABELS if labels is None else labels})


def assert_one_line(ended: Ended, code: int, message: str) -> None:
    lines = ended.err.strip().splitlines()
    assert (ended.code, ended.out, len(lines)) == (code, "", 1), ended
    assert message in lines[0]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_the_metrics_are_those_of_the_probabilities(
    evaluate: Callable[..., Ended], classifier: LoadedClassifier, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_classification, "MOST_QUERIES_AT_ONCE", 4)
    ended = evaluate(labelled(), suffix=suffix)
    assert ended.code == 0, ended.err
    printed = json.loads(ended.out)
    probabilities = classifier.probabilities(QUERIES, "category")
    truth = np.array([[label in own for label in IDS] for own in LABELS])
    chosen = probabilities >= classifier.thresholds("category")
    first = [truth[row, best] for row, best in enumerate(probabilities.argmax(axis=1))]
    assert classifier.labels("category") == IDS
    assert printed["accuracy@1"] == pytest.approx(np.mean(first))
    assert 0 < np.mean(first) < 1
    assert printed["micro_f1"] == pytest.approx(f1_score(truth, chosen, average="micro"))
    assert printed["macro_f1"] == pytest.approx(f1_score(truth, chosen, average="macro"))
    assert printed["queries"] == 6 and printed["unknown_labels"] == 0 and printed["queries_without_labels"] == 0
    assert (printed["task"], printed["classifier"]) == ("category", "classifier/query")
    assert printed["tail"]["training_queries"] == [1, 3] and printed["head"]["training_queries"] == [20, 40]
    assert printed["tail"]["macro_f1"] == pytest.approx(
        f1_score(truth[:, [0, 2]], chosen[:, [0, 2]], average="macro", zero_division=0)
    )
    for metric in ("accuracy@1", "accuracy@3", "micro_f1", "macro_f1"):
        low, high = printed["ci95"][metric]
        assert low <= printed[metric] <= high
    assert 0 <= printed["ece"] <= 1
    assert {"parent": "Home", "predicted": "Home > Kitchen", "queries": 1} in printed["confusion"]


def test_the_table_shows_every_group(evaluate: Callable[..., Ended]) -> None:
    ended = evaluate(labelled(), as_json=False)
    assert ended.code == 0, ended.err
    lines = {line.split()[0]: line for line in ended.out.splitlines() if line.strip()}
    assert {"labels", "all", "head", "middle", "tail", "ece", "unknown_labels"} <= lines.keys()
    assert lines["middle"].split()[1:] == ["0"], "no label is in the middle"


def test_labels_in_another_case_or_spacing_are_the_same(evaluate: Callable[..., Ended]) -> None:
    spelt = [[f" {label.upper().replace(' > ', '  >  ')}"] * 2 for label, *_ in LABELS]
    known = [own[:1] for own in LABELS]
    assert json.loads(evaluate(labelled(spelt)).out) == json.loads(evaluate(labelled(known)).out)


def test_unknown_labels_are_named_and_stay_in_the_truth(evaluate: Callable[..., Ended]) -> None:
    """A parent is not predicted, so it is unknown too."""
    labels = [[IDS[1]], [IDS[2]], ["Toys"], ["Home"], [IDS[2], "toys"], [IDS[3]]]
    ended = evaluate(labelled(labels))
    assert ended.code == 0, ended.err
    printed = json.loads(ended.out)
    assert printed["unknown_labels"] == 2
    (line,) = ended.err.strip().splitlines()
    assert "does not predict 2 labels, which count as missed: 'Toys', 'Home'" in line
    assert printed["queries"] == 6
    assert printed["accuracy@3"] <= 4 / 6
    assert printed["tail"]["labels"] == 4
    assert any(pair["parent"] == evaluate_classification.UNKNOWN for pair in printed["confusion"])


def test_rows_without_labels_are_named_and_left_out(evaluate: Callable[..., Ended]) -> None:
    ended = evaluate(labelled([LABELS[0], [], *LABELS[2:]]))
    printed = json.loads(ended.out)
    assert (printed["queries"], printed["queries_without_labels"]) == (5, 1)
    assert "1 of 6 rows have no labels and are left out; the first is row 2" in ended.err
    kept = [row for row in range(6) if row != 1]
    without = evaluate(labelled([LABELS[row] for row in kept], [QUERIES[row] for row in kept]))
    assert printed | {"queries_without_labels": 0} == json.loads(without.out)


def test_the_task_option_chooses_the_labels(evaluate: Callable[..., Ended], classifier: LoadedClassifier) -> None:
    labels = [["brigg"], ["Kestrel"], ["Brigg"], ["Brigg"], ["Kestrel", "Brigg"], ["KESTREL"]]
    printed = json.loads(evaluate(labelled(labels), "--task", "brand").out)
    best = classifier.probabilities(QUERIES, "brand").argmax(axis=1)
    names = [["Brigg", "Kestrel"][column].casefold() for column in best]
    right = [name in [label.casefold() for label in own] for name, own in zip(names, labels, strict=True)]
    assert printed["accuracy@1"] == pytest.approx(np.mean(right))
    assert printed["right_parent"] == printed["accuracy@1"], "a label without a parent is its own"


def test_numbers_as_label_ids_are_text(evaluate: Callable[..., Ended]) -> None:
    ended = evaluate(labelled([[7], [7], [7], [7], [7], [7]]))
    assert ended.code == 1
    assert "predicts none of the labels of the file, only such as 'Garden > Hoses'; check --task" in ended.err


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (labelled([*LABELS[:2], None, *LABELS[3:]]), "row 3: labels is null; give a list of label ids"),
        (labelled([None] * 6), "row 1: labels is null"),
        (
            labelled([*LABELS[:2], ["Toys", None], *LABELS[3:]]),
            "row 3: labels has one that is null or empty; remove it",
        ),
        (labelled([*LABELS[:5], [""]]), "row 6: labels has one that is null or empty"),
        (labelled([*LABELS[:5], ["a\nb"]]), "row 6: labels has one that has a line break"),
        (labelled([[]] * 6), "no row has labels"),
        (labelled(["Home"] * 6), "column 'labels' holds string, not lists; give a list of label ids, in Parquet or"),
        (labelled(queries=[*QUERIES[:3], " \u200b ", *QUERIES[4:]]), "row 4: query has no text; remove the row"),
        (labelled(queries=[None, *QUERIES[1:]]), "row 1: query has no text"),
        (labelled(queries=[["red"], *[["kettle"]] * 5]), "row 1: query is a list, not text"),
        (labelled().rename_columns(["query", "label"]), "no column 'labels'; did you mean 'label'?"),
        (labelled().rename_columns(["querry", "labels"]), "no column 'query'; did you mean 'querry'?"),
        (labelled().slice(0, 0), "has no rows"),
    ],
)
def test_rows_that_can_not_be_measured(evaluate: Callable[..., Ended], table: pa.Table, message: str) -> None:
    ended = evaluate(table)
    assert (ended.code, ended.out) == (1, "")
    assert message in ended.err.strip().splitlines()[-1]
    assert "F.parquet: " in ended.err


def test_an_unknown_task_or_classifier_is_one_line(
    evaluate: Callable[..., Ended], raylevance: Command, store: Path, tmp_path: Path
) -> None:
    assert_one_line(
        evaluate(labelled(), "--task", "colour"), 2, "--task colour: the classifier has no such task; known:"
    )
    assert_one_line(evaluate(labelled(), "--task", "brnd"), 2, "did you mean 'brand'?")
    file = tmp_path / "F.parquet"
    for reference, code, message in (
        ("classifier/nowhere", 1, "classifier/nowhere: no such artifact"),
        ("minilm", 2, "expected classifier/NAME"),
    ):
        named = ("--classifier", reference, "--queries", file, "--store", store)
        assert_one_line(raylevance("evaluate", "classification", *named), code, message)
        assert_one_line(raylevance("classify", *named, "--output", tmp_path / "out.parquet"), code, message)


MIXED = ["red kettle", None, "desk lamp", "  ", "", "garden hose", "\u200b", "red kettle", "quantum chromodynamics"]


@pytest.fixture
def classify(raylevance: Command, store: Path, tmp_path: Path) -> Callable[..., Ended]:
    """Return a function that classifies the rows of a table into out.parquet."""

    def run(table: pa.Table, *options: object) -> Ended:
        pq.write_table(table, tmp_path / "Q.parquet", row_group_size=5)
        files = ("--queries", tmp_path / "Q.parquet", "--output", tmp_path / "out.parquet")
        return raylevance("classify", "--classifier", "classifier/query", "--store", store, *files, *options)

    return run


@pytest.mark.parametrize("at_once", [1, 4, 2048])
def test_every_row_has_its_labels_or_a_reason(
    classify: Callable[..., Ended],
    classifier: LoadedClassifier,
    tmp_path: Path,
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(classify_file, "ROWS_AT_ONCE", at_once)
    table = pa.table({"id": range(len(MIXED)), "query": pa.array(MIXED), "tags": [["x"]] * len(MIXED)})
    ended = classify(table, "--json", "--k", 2)
    assert ended.code == 0, ended.err
    written = pq.read_table(tmp_path / "out.parquet")
    assert written.select(table.column_names).equals(table)
    assert written.schema.names == [*table.column_names, "labels", "probabilities", "paths", "reason"]
    for query, row in zip(MIXED, written.to_pylist(), strict=True):
        if not query or not query.strip("\u200b "):
            assert (row["labels"], row["probabilities"], row["paths"]) == (None, None, None)
            assert row["reason"] == "query has no text"
            continue
        expected = classifier.classify([query], "category", 2)[0]
        assert row["labels"] == [each.label_id for each in expected]
        assert row["paths"] == [each.path for each in expected]
        assert row["probabilities"] == pytest.approx([each.probability for each in expected], abs=1e-5)
        assert row["reason"] is None
    assert written["labels"][0].as_py() == [IDS[1]], "the kettle"
    assert written["labels"][8].as_py() == [], "it abstains"
    counts = {"rows": 9, "classified": 4, "abstained": 1, "not_classified": 4}
    printed = json.loads(ended.out)
    assert {name: printed[name] for name in counts} == counts
    assert "4 of 9 queries can't be classified; row 2: query has no text" in ended.err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["Q.parquet", "out.parquet"]


def test_queries_of_other_types(classify: Callable[..., Ended], tmp_path: Path) -> None:
    """A category of pandas, bytes of which some are not UTF-8, numbers, and lists, each row for itself."""
    columns = {
        "dictionary": pa.array(["kettle", None, "kettle"]).dictionary_encode(),
        "binary": pa.array([b"kettle", b"\xff\xfe", b"lamp"]),
        "number": pa.array([501, None, 7]),
        "list": pa.array([["a"], ["b"], ["c"]]),
        "null": pa.nulls(3),
    }
    reasons = {
        "dictionary": [None, "query has no text", None],
        "binary": [None, "query is not UTF-8 text", None],
        "number": [None, "query has no text", None],
        "list": ["query is a list, not text"] * 3,
        "null": ["query has no text"] * 3,
    }
    for name, column in columns.items():
        ended = classify(pa.table({"query": column}))
        assert ended.code == 0, ended.err
        written = pq.read_table(tmp_path / "out.parquet")
        assert written["reason"].to_pylist() == reasons[name], name
        assert written["query"].type == column.type


def test_columns_that_are_replaced_are_named(classify: Callable[..., Ended], tmp_path: Path) -> None:
    """The file of `evaluate classification` can be classified as it is."""
    ended = classify(labelled())
    assert ended.code == 0, ended.err
    assert "Q.parquet: has labels already; in the output they are those of the classifier" in ended.err
    written = pq.read_table(tmp_path / "out.parquet")
    assert written.column_names == ["query", "labels", "probabilities", "paths", "reason"]
    assert written["labels"][0].as_py() == [IDS[1]]
    assert pq.read_table(tmp_path / "Q.parquet").equals(labelled())


def test_a_file_without_rows_gives_one_without_rows(classify: Callable[..., Ended], tmp_path: Path) -> None:
    ended = classify(pa.table({"query": pa.array([], pa.string())}), "--json")
    assert json.loads(ended.out)["rows"] == 0
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


def test_files_that_can_not_be_classified(
    classify: Callable[..., Ended], raylevance: Command, store: Path, tmp_path: Path
) -> None:
    table = pa.table({"query": ["kettle"]})
    named = ("classify", "--classifier", "classifier/query", "--store", store, "--queries")
    file = tmp_path / "Q.parquet"
    assert_one_line(classify(table, "--task", "colour"), 2, "--task colour: the classifier has no such task")
    assert_one_line(classify(table.rename_columns(["querry"])), 1, "has no column 'query'; did you mean 'querry'?")
    two = pa.Table.from_arrays([pa.array(["a"])] * 2, ["query", "query"])
    assert_one_line(classify(two), 1, "has 2 columns 'query'")
    pq.write_table(table, file)
    assert_one_line(raylevance(*named, file, "--output", file), 2, "Q.parquet: is the file of --queries")
    assert_one_line(raylevance(*named, file, "--output", tmp_path / "out.csv"), 2, "a name that ends in .parquet")
    csv = tmp_path / "Q.csv"
    assert_one_line(
        raylevance(*named, csv, "--output", tmp_path / "out.parquet"), 2, "Q.csv: expected a name that ends"
    )
    nowhere = tmp_path / "nowhere" / "out.parquet"
    assert_one_line(raylevance(*named, file, "--output", nowhere), 1, "out.parquet: no such folder:")
    missing = tmp_path / "missing.parquet"
    assert_one_line(
        raylevance(*named, missing, "--output", tmp_path / "out.parquet"), 1, "missing.parquet: no such file"
    )
    file.write_bytes(file.read_bytes()[:-3])
    assert_one_line(raylevance(*named, file, "--output", tmp_path / "out.parquet"), 1, "not a Parquet file")
    assert not (tmp_path / "out.parquet").exists()


def test_a_file_that_turns_out_to_be_damaged_leaves_no_output(
    classify: Callable[..., Ended], raylevance: Command, store: Path, tmp_path: Path
) -> None:
    file = tmp_path / "D.parquet"
    pq.write_table(pa.table({"query": [f"kettle {number}" for number in range(4000)]}), file, compression="gzip")
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 3 : len(damaged) // 3 + 2000] = b"\0" * 2000
    file.write_bytes(damaged)
    named = ("classify", "--classifier", "classifier/query", "--store", store, "--queries", file)
    ended = raylevance(*named, "--output", tmp_path / "out.parquet")
    assert ended.code == 1
    assert "D.parquet: can't be read, it may be incomplete" in ended.err.splitlines()[-1]
    assert [each.name for each in tmp_path.iterdir()] == ["D.parquet"]
