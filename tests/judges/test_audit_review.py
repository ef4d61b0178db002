"""The review file of an audit: what a person decides comes back, whatever the editor does to the rest of the file."""

import csv
import random
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raylevance.errors import RaylevanceError
from raylevance.judges.audit import CORRECTIONS, HIGH_ENGAGEMENT
from raylevance.judges.audit_review import (
    COLUMNS,
    DECISIONS,
    UNDECIDED,
    correction_ids,
    read_decisions,
    review_corrections,
)


def proposals(count: int, grade: int = 1) -> pa.Table:
    row = {"kind": HIGH_ENGAGEMENT, "previous_grade": 0, "previous_source": "human", "grade": grade}
    more = {"confidence": 0.5, "source": "llm:second"}
    ids = [{"query_id": f"00{number}", "product_id": f"4006381333{number:03}"} for number in range(count)]
    return pa.Table.from_pylist([row | more | own for own in ids], CORRECTIONS)


def texts_of(corrections: pa.Table, text: str | None = "Red lamp") -> pa.Table:
    return pa.table({name: pa.array([text] * corrections.num_rows, pa.string()) for name in ("query", "product_text")})


def read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


def write(file: Path, rows: list[dict[str, str]], delimiter: str = ",", encoding: str = "utf-8") -> None:
    with file.open("w", encoding=encoding, newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def test_a_first_review_leaves_every_correction_undecided(tmp_path: Path) -> None:
    corrections = proposals(3)
    review = review_corrections(tmp_path / "review.csv", corrections, texts_of(corrections, '=cmd()\nnext, "line"'))
    assert review == ([UNDECIDED] * 3, 0)
    rows = read(tmp_path / "review.csv")
    assert tuple(rows[0]) == COLUMNS and len(rows) == 3
    assert rows[1] == {
        "decision": "undecided",
        "correction": correction_ids(corrections)[1],
        "reason": HIGH_ENGAGEMENT,
        "old_grade": "0",
        "proposed_grade": "1",
        "confidence": "0.5",
        "judge": "llm:second",
        "query": '\'=cmd() next, "line"',
        "product_text": '\'=cmd() next, "line"',
        "query_id": "001",
        "product_id": "4006381333001",
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chosen=st.lists(st.sampled_from([*DECISIONS, "", " Accepted ", "REJECTED"]), min_size=1, max_size=12),
    delimiter=st.sampled_from([",", ";", "\t"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
    seed=st.integers(0, 100),
    text=st.text(max_size=30) | st.none(),
)
def test_decisions_come_back_from_a_spreadsheet(
    tmp_path: Path, chosen: list[str], delimiter: str, encoding: str, seed: int, text: str | None
) -> None:
    """It sorts the rows, saves with its own delimiter and writes ids as numbers."""
    file, corrections = tmp_path / "review.csv", proposals(len(chosen))
    file.unlink(missing_ok=True)
    review_corrections(file, corrections, texts_of(corrections, text))
    rows = read(file)
    for row, decision in zip(rows, chosen, strict=True):
        row |= {"decision": decision, "product_id": "4.00638E+12", "query_id": "1"}
    random.Random(seed).shuffle(rows)
    write(file, rows, delimiter, encoding)
    before = file.read_bytes()
    review = review_corrections(file, corrections, texts_of(corrections, text))
    assert review == ([each.strip().lower() or UNDECIDED for each in chosen], 0)
    assert file.read_bytes() == before, "a file that has every correction stays as the person left it"


def test_later_corrections_join_the_file_and_no_decision_is_lost(tmp_path: Path) -> None:
    """Rows that are not proposed now stay with their decision, and so does a column of the person's own."""
    file, old, new = tmp_path / "review.csv", proposals(3), proposals(5).slice(1)
    review_corrections(file, old, texts_of(old))
    rows = [row | {"decision": decision, "remark": "mine"} for row, decision in zip(read(file), DECISIONS, strict=True)]
    write(file, rows)
    review = review_corrections(file, new, texts_of(new))
    assert review == (["rejected", UNDECIDED, UNDECIDED, UNDECIDED], 1)
    again = read(file)
    assert [row["decision"] for row in again] == [*DECISIONS, UNDECIDED, UNDECIDED]
    assert [row["remark"] for row in again] == ["mine"] * 3 + [""] * 2
    assert review_corrections(file, old, texts_of(old)).decisions == list(DECISIONS)


def test_cells_beyond_the_header_and_columns_of_one_name_stay(tmp_path: Path) -> None:
    """A comma in a text that was edited by hand adds a cell; nothing that stood in the file is lost when it grows."""
    file, old, new = tmp_path / "review.csv", proposals(2), proposals(3)
    review_corrections(file, old, texts_of(old))
    header, first, second = file.read_text(encoding="utf-8-sig").splitlines()
    without_id = header.removesuffix(",product_id")
    edited = [f"{without_id},note,note,", f"{first},mine,,a,stray cell", f"{second},x,yours"]
    file.write_text("\n".join(edited), encoding="utf-8")
    assert review_corrections(file, new, texts_of(new)) == ([UNDECIDED] * 3, 0)
    with file.open(encoding="utf-8-sig", newline="") as lines:
        grown = list(csv.reader(lines))
    assert grown[0] == [*without_id.split(","), "note", "note", "", "", "", "product_id"]
    assert grown[1] == [*next(csv.reader([first])), "mine", "", "a", "stray cell"]
    assert grown[2] == [*next(csv.reader([second])), "x", "yours"]
    assert grown[3][9:] == ["002", *[""] * 5, "4006381333002"]
    before = file.read_bytes()
    review_corrections(file, new, texts_of(new))
    assert file.read_bytes() == before


def test_a_decision_about_another_grade_does_not_count(tmp_path: Path) -> None:
    file, one, two = tmp_path / "review.csv", proposals(1, grade=1), proposals(1, grade=2)
    review_corrections(file, one, texts_of(one))
    write(file, [row | {"decision": "accepted"} for row in read(file)])
    assert review_corrections(file, two, texts_of(two)) == ([UNDECIDED], 1)
    assert read_decisions(file) == {correction_ids(one)[0]: "accepted", correction_ids(two)[0]: UNDECIDED}


def test_another_judge_that_proposes_the_same_change_keeps_the_decision() -> None:
    corrections = proposals(2)
    other = corrections.set_column(7, CORRECTIONS.field("source"), pa.array(["llm:third"] * 2))
    assert correction_ids(other) == correction_ids(corrections)
    assert len(set(correction_ids(pa.concat_tables([corrections, proposals(2, grade=2)])))) == 4


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda text: text.replace("undecided", "maybe", 1),
            r"row 1 \(correction c\w{12}\): decision is 'maybe', expected",
        ),
        (lambda text: text.replace("decision,", "verdict,", 1), "no column 'decision'"),
        (lambda text: text.replace(",correction", ",", 1), "no column 'correction'"),
        (lambda text: text.replace("reason,", "decision,", 1), "2 columns 'decision'"),
        (lambda text: text + "accepted,,,,\n", "row 3: no correction"),
        (
            lambda text: text + text.splitlines()[1].replace("undecided", "accepted") + "\n",
            "accepted here and undecided",
        ),
        (lambda text: "", "no column 'decision'"),
    ],
)
def test_a_file_that_can_not_be_followed_is_one_line(tmp_path: Path, change: object, line: str) -> None:
    file, corrections = tmp_path / "review.csv", proposals(2)
    review_corrections(file, corrections, texts_of(corrections))
    assert callable(change)
    file.write_text(change(file.read_text(encoding="utf-8-sig")), encoding="utf-8")
    before = file.read_bytes()
    with pytest.raises(RaylevanceError, match=line) as raised:
        review_corrections(file, corrections, texts_of(corrections))
    assert "\n" not in str(raised.value) and str(file) in str(raised.value)
    assert file.read_bytes() == before


def test_a_file_in_another_encoding_or_place_is_one_line(tmp_path: Path) -> None:
    corrections = proposals(1)
    (tmp_path / "review.csv").write_bytes("decision,correction\naccepted,\xe9".encode("latin-1"))
    with pytest.raises(RaylevanceError, match=r"review\.csv: not UTF-8 at byte"):
        review_corrections(tmp_path / "review.csv", corrections, texts_of(corrections))
    with pytest.raises(RaylevanceError, match="can't be written"):
        review_corrections(tmp_path / "nowhere" / "review.csv", corrections, texts_of(corrections))
