"""Files of labels: every format, trees given by parents or by paths, and bad rows named or left out with a reason."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylevance.data.label_files import LEFT_OUT, read_good_labels, read_labels
from raylevance.data.label_space import LABELS, LabelSpace
from raylevance.errors import RaylevanceError

TREE: list[dict[str, Any]] = [
    {"label_id": "2", "name": "Kettles", "parent_id": "1", "task": "category", "side_text": "tea &amp; water"},
    {"label_id": "b", "name": "Buy", "parent_id": None, "task": "intent", "side_text": None},
    {"label_id": "1", "name": "Home", "parent_id": None, "task": "category", "side_text": None},
]


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(str(value or "") for value in row.values()) for row in rows)]
        file.write_text("\n".join(lines))
    elif file.suffix == ".gz":
        file.write_bytes(gzip.compress(json.dumps(rows).encode()))
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl", "labels.parquet", "labels.json.gz"])
def test_a_file_of_any_kind(tmp_path: Path, name: str) -> None:
    """The labels of a task are brought together, and only those without a label below them are predicted."""
    labels = read_labels(write(tmp_path / name, TREE))
    assert labels.schema == LABELS
    assert labels.to_pylist() == [
        {
            "task": "category",
            "label_id": "2",
            "name": "Kettles",
            "parent_id": "1",
            "text": "Home Kettles tea & water",
            "predicted": True,
        },
        {
            "task": "category",
            "label_id": "1",
            "name": "Home",
            "parent_id": None,
            "text": "Home",
            "predicted": False,
        },
        {"task": "intent", "label_id": "b", "name": "Buy", "parent_id": None, "text": "Buy", "predicted": True},
    ]


def test_ids_that_are_numbers_in_parquet_and_no_task(tmp_path: Path) -> None:
    rows = [{"label_id": 7, "name": "Home", "parent_id": None}, {"label_id": 8, "name": "Pans", "parent_id": 7.0}]
    labels = read_labels(write(tmp_path / "labels.parquet", rows))
    assert labels["task"].to_pylist() == ["category"] * 2
    assert labels["parent_id"].to_pylist() == [None, "7"]


def node(*path: str) -> dict[str, Any]:
    return {"id": path[-1], "name": path[-1].upper(), "path": [{"id": name, "name": name.upper()} for name in path]}


def test_a_tree_given_by_paths(tmp_path: Path) -> None:
    """The parent b is only in paths."""
    space = LabelSpace(
        read_labels(write(tmp_path / "labels.json.gz", [node("a", "b", "c"), node("a"), node("a", "b", "d")]))
    )
    assert {space.label_ids[row]: space.path(row) for row in range(len(space))} == {
        "c": ["A", "B", "C"],
        "a": ["A"],
        "d": ["A", "B", "D"],
        "b": ["A", "B"],
    }
    assert space.predicted.tolist() == [True, False, True, False]


def changed(row: int, **values: Any) -> list[dict[str, Any]]:
    return [{**label, **values} if number == row else label for number, label in enumerate(TREE, 1)]


BAD = [
    (
        changed(1, parent_id="9"),
        "row 1: label '2' ('Kettles') of task 'category': no label has the id of its parent, '9'",
    ),
    (
        changed(1, parent_id="b"),
        "row 1: label '2' ('Kettles') of task 'category': no label has the id of its parent, 'b'",
    ),
    (
        changed(3, parent_id="2"),
        "row 1: label '2' ('Kettles') of task 'category': it is above itself, through its parent '1'",
    ),
    (changed(2, name=None), "row 2: label 'b' (None) of task 'intent': its name has no text"),
    (changed(2, label_id=None), "row 2: label None ('Buy') of task 'intent': label_id is missing"),
    (changed(2, task=None), "row 2: label 'b' ('Buy') of task None: task is missing"),
    (
        changed(2, task="category", label_id="2"),
        "row 2: label '2' ('Buy') of task 'category': the label of row 1 has the same id",
    ),
    (
        changed(2, task="category", name="home "),
        "row 3: label '1' ('Home') of task 'category': label 'b' has the same name and parent",
    ),
]


@pytest.mark.parametrize(("rows", "message"), BAD)
def test_a_bad_row_stops_and_is_named(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    file = write(tmp_path / "labels.jsonl", rows)
    with pytest.raises(RaylevanceError) as caught:
        read_labels(file)
    assert f"{file}: {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("rows", "message"), BAD)
def test_a_bad_row_is_left_out_with_its_reason(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    labels, left_out = read_good_labels(write(tmp_path / "labels.jsonl", rows))
    LabelSpace(labels)
    assert labels.num_rows + left_out.num_rows == len(rows)
    first = left_out.to_pylist()[0]
    assert message.startswith(f"row {first['row']}: label {first['label_id']!r} ({first['name']!r})")
    assert first["reason"].startswith(message.split("': ")[-1].split("None: ")[-1])


def test_labels_below_one_that_is_left_out(tmp_path: Path) -> None:
    rows = [node("a"), node("x", "y"), node("x", "y", "z"), {**node("x"), "name": ""}]
    labels, left_out = read_good_labels(write(tmp_path / "labels.jsonl", rows))
    assert labels["label_id"].to_pylist() == ["a"]
    assert left_out.schema == LEFT_OUT
    assert [(row["row"], row["reason"].split(";")[0]) for row in left_out.to_pylist()] == [
        (4, "its name has no text"),
        (2, "its parent 'x' is left out"),
        (3, "its parent 'y' is left out"),
    ]
    with pytest.raises(RaylevanceError, match="no label is good; the first: its name has no text"):
        read_good_labels(write(tmp_path / "labels.jsonl", rows[1:]))


@pytest.mark.parametrize("path", [None, [], [{"id": "a"}], [{"id": "a"}, {"name": "b"}]])
def test_a_path_that_is_none(tmp_path: Path, path: Any) -> None:
    rows = [node("a"), {"id": "b", "name": "B", "path": path}]
    file = write(tmp_path / "labels.parquet", rows) if path in (None, []) else write(tmp_path / "labels.jsonl", rows)
    with pytest.raises(RaylevanceError, match=r"row 2: label 'b' .* path is not a list of objects"):
        read_labels(file)
    assert read_good_labels(file)[0]["label_id"].to_pylist() == ["a"]


def test_an_id_that_is_a_list(tmp_path: Path) -> None:
    file = write(tmp_path / "labels.jsonl", changed(3, label_id=["1"]))
    for read in (read_labels, read_good_labels):
        with pytest.raises(RaylevanceError, match="row 3: label_id is a list, unlike that of row 1"):
            read(file)


def test_columns_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(RaylevanceError, match=r"no column 'name'; labels have label_id, name, and parent_id or path"):
        read_labels(write(tmp_path / "labels.jsonl", [{"label_id": "1", "title": "x"}]))
    with pytest.raises(RaylevanceError, match=r"no column 'id'; labels have label_id"):
        read_labels(write(tmp_path / "labels.jsonl", [{"name": "x"}]))


@pytest.mark.skipif("RAYLEVANCE_DATA" not in os.environ, reason="needs the public data")
def test_the_categories_of_best_buy() -> None:
    """4,584 rows and 139 labels that only paths name. One has no name, nine have the name of a sibling."""
    file = Path(os.environ["RAYLEVANCE_DATA"]) / "bestbuy_categories" / "categories.json.gz"
    with pytest.raises(RaylevanceError, match=r"row 3980: label 'pcmcat748300293073' \(None\)"):
        read_labels(file)
    labels, left_out = read_good_labels(file)
    space = LabelSpace(labels)
    assert len(space) + left_out.num_rows == 4_584 + 139
    reasons = [reason.split("'")[0].split(";")[0] for reason in left_out["reason"].to_pylist()]
    assert {reason: reasons.count(reason) for reason in sorted(set(reasons))} == {
        "its name has no text": 1,
        "its parent ": 24,
        "label ": 9,
    }
    row = space.label_ids.index("abcat0302001")
    assert space.path(row) == ["Car Electronics & GPS", "Car Audio", "Car Amplifiers"]


def test_columns_that_are_not_read_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A misspelt parent_id would make a root of every label."""
    file = tmp_path / "labels.csv"
    file.write_text("label_id,name,parent\na,Home,\nb,Lamps,a\n", encoding="utf-8")
    assert read_labels(file)["parent_id"].to_pylist() == [None, None]
    assert "labels.csv: columns not read: parent" in capfd.readouterr().err


def test_ids_in_a_path_are_read_as_those_of_labels(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    path = [{"id": 7, "name": "Home"}, {"id": 8, "name": "Lamps"}]
    file.write_text(json.dumps({"id": 8, "name": "Lamps", "path": path}) + "\n", encoding="utf-8")
    labels = read_labels(file)
    assert dict(zip(labels["label_id"].to_pylist(), labels["parent_id"].to_pylist(), strict=True)) == {
        "8": "7",
        "7": None,
    }
