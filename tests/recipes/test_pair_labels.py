"""`evaluate pairs` measures on people's labels, however a tool wrote them, and never on a judge's grade beside them."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.conftest import Ended

QUERIES = ["tea cup", "leather boot", "floor lamp", "bread knife"]
TEXTS = ["porcelain tea cup", "brown leather boot", "inflatable kayak", "sheet music"]
GRADES = [0, 0, 2, 2]

Evaluate = Callable[[list[object] | None], Ended]


@pytest.fixture(params=["csv", "parquet"])
def evaluate(
    request: pytest.FixtureRequest, raylevance: Callable[..., Ended], minilm: Path, tmp_path: Path
) -> Evaluate:
    """Return a function that evaluates pairs with the given labels beside a grade that is wrong in every row."""

    def run(labels: list[object] | None) -> Ended:
        table = pa.table({"query": QUERIES, "product_text": TEXTS, "grade": GRADES})
        if labels is not None:
            table = table.append_column("label", pa.array(labels))
        file = tmp_path / f"pairs.{request.param}"
        (pa.csv.write_csv if request.param == "csv" else pq.write_table)(table, file)
        return raylevance(
            "evaluate", "pairs", "--encoder", str(minilm), "--pairs", str(file), "--json", "--store", str(tmp_path)
        )

    return run


@pytest.mark.parametrize(
    "labels",
    [
        [1, 1, 0, 0],
        [1.0, 1.0, 0.0, 0.0],
        [True, True, False, False],
        ["1", "1.0", "0", "0.0"],
        ["True", "TRUE", "false", "False"],
        ["E", "E", "I", "S"],
        ["e", "E ", "c", "I"],
        ["Exact", "Exact", "Partial", "Irrelevant"],
        ["2", "2", "1", "0"],
    ],
)
def test_labels_in_any_spelling_are_measured(evaluate: Evaluate, labels: list[object]) -> None:
    ended = evaluate(labels)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["auc"] == 1.0


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ([1.0, 0.5, 0.0, 0.0], "row 2: label is 0.5, expected 0, 1 or 2"),
        (["yes", "1", "0", "0"], "row 1: label is 'yes', expected"),
        (["E", "E", "1", "0"], "row 3: label is '1', expected"),
        (["1", "0", "E", "0"], "row 3: label is 'E', expected"),
        ([1, 1, 0, 7], "row 4: label is 7, expected"),
        ([1.0, 1.0, float("nan"), 0.0], "row 3: label is nan, expected"),
        (["E", None, "I", "I"], "row 2: label is missing"),
    ],
)
def test_labels_of_another_kind_are_refused_by_row(evaluate: Evaluate, labels: list[object], fault: str) -> None:
    ended = evaluate(labels)
    assert ended.code == 1
    assert fault in ended.err.splitlines()[-1]


@pytest.mark.parametrize("labels", [None, [None, None, None, None]])
def test_the_grade_counts_where_there_are_no_labels(evaluate: Evaluate, labels: list[object] | None) -> None:
    ended = evaluate(labels)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["auc"] == 0.0
