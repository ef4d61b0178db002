"""Files of one's own labelled queries as a source of labels."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from raylevance.data.label_space import LABELS, LabelSpace
from raylevance.data.labelled_queries import labels_of_file
from raylevance.errors import RaylevanceError


@pytest.fixture
def space() -> LabelSpace:
    """Categories below a root that is not predicted, and intents; both tasks have the id "gift"."""
    rows = [
        ("category", "gift", "gift", None, "gift", True),
        ("category", "home", "home", None, "home", False),
        ("category", "home > pans", "pans", "home", "pans", True),
        ("intent", "buy", "buy", None, "buy", True),
        ("intent", "gift", "for others", None, "gift", True),
    ]
    return LabelSpace(pa.Table.from_pylist([dict(zip(LABELS.names, row, strict=True)) for row in rows], schema=LABELS))


def written(folder: Path, rows: list[tuple[str, list[str]]]) -> Path:
    file = folder / "own.jsonl"
    lines = (json.dumps({"labels": labels, "query": query}) for query, labels in rows)
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_each_task_gets_its_labels(space: LabelSpace, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Spellings of a query are one, labels that are only nodes or unknown are named, and empty lists too."""
    rows = [
        ("Frying  Pan", ["home > pans", "buy"]),
        ("for mum", ["gift"]),
        ("anything", []),
        ("frying pan", ["gift", "home", "toys", "home > pans"]),
    ]
    found = labels_of_file(written(tmp_path, rows), space)
    assert {(row["query"], row["task"], tuple(row["labels"])) for row in found.to_pylist()} == {
        ("frying pan", "category", (0, 2)),
        ("frying pan", "intent", (3, 4)),
        ("for mum", "category", (0,)),
        ("for mum", "intent", (4,)),
    }
    assert set(found["source"].to_pylist()) == {"file"}
    said = " ".join(capfd.readouterr().err.split())
    named = "with 0 of 3 queries, which have no other: 'home', 'toys'"
    assert f"2 labels are none that a task predicts, and are left out, {named}" in said
    assert "1 of 4 rows have no labels and are left out; the first is row 3" in said


def test_an_id_in_another_case_is_found_and_lost_queries_are_counted(
    space: LabelSpace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = labels_of_file(written(tmp_path, [("pan", ["HOME  > Pans"]), ("bear", ["toys"])]), space)
    assert found["query"].to_pylist() == ["pan"] and found["labels"].to_pylist()[0]
    said = " ".join(capfd.readouterr().err.split())
    assert "left out, with 1 of 2 queries, which have no other: 'toys'" in said


def test_a_file_of_other_labels_is_refused(space: LabelSpace, tmp_path: Path) -> None:
    with pytest.raises(RaylevanceError, match=r"own\.jsonl: none of its labels is predicted; did you mean 'gift'"):
        labels_of_file(written(tmp_path, [("a", ["gifts"]), ("b", ["home"])]), space)
