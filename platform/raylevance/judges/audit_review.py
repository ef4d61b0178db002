"""The review file of an audit: a CSV in which a person accepts or rejects each correction that was proposed.

A label is corrected only after a person agrees (our choice). In Mine and Refine (arXiv 2602.17654) experts side with
the stronger judge in 81.8 % of the labels that it would change, so about one change in five is wrong.
"""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from raylevance.errors import RaylevanceError

ACCEPTED, REJECTED, UNDECIDED = DECISIONS = ("accepted", "rejected", "undecided")
DECISION, CORRECTION = "decision", "correction"
COLUMNS = (
    DECISION,
    CORRECTION,
    "reason",
    "old_grade",
    "proposed_grade",
    "confidence",
    "judge",
    "query",
    "product_text",
    "query_id",
    "product_id",
)
"""The columns of a review file. Only `decision` and `correction` are read back.

They come first, so that a comma in a text that was edited moves neither. A spreadsheet may turn ids into numbers;
`correction` starts with a letter, so it stays as it is.
"""

FORMULA_STARTS = ("=", "+", "-", "@")
"""The characters with which a spreadsheet takes a text for a formula."""


class Review(NamedTuple):
    """The decisions about proposed corrections."""

    decisions: list[str]
    """One of `DECISIONS` for each correction, in their order."""
    no_longer_proposed: int
    """Rows of the file about corrections that are not proposed now. They stay in the file."""


def correction_ids(corrections: pa.Table) -> list[str]:
    """Return an id for each row of `raylevance.judges.audit.CORRECTIONS`: the label that changes, and its new grade.

    It is the same in every run. The second judge is not part of it: the decision is about the change.
    """
    columns = ("query_id", "product_id", "previous_grade", "previous_source", "grade")
    rows = zip(*(corrections[name].to_pylist() for name in columns), strict=True)
    return ["c" + hashlib.sha256(json.dumps(row).encode()).hexdigest()[:12] for row in rows]


def review_corrections(file: Path, corrections: pa.Table, texts: pa.Table) -> Review:
    """Read the decisions about `corrections` from `file`, and add the corrections that it lacks, undecided.

    `corrections` holds rows of `raylevance.judges.audit.CORRECTIONS`, and `texts` their query and product_text. The
    other rows and columns of the file stay as they are, also cells to the right of the last column. A file that has
    every correction is not written.

    Raises `RaylevanceError` if the file can't be read or written, lacks a column, or has a decision that is not one of
    `DECISIONS`.
    """
    ids = correction_ids(corrections)
    header, rows = _read_rows(file) if file.exists() else ([*COLUMNS], [])
    decisions = _decisions(file, header, rows)
    described = zip(ids, corrections.to_pylist(), texts.to_pylist(), strict=True)
    new = [_describe(name, row, text) for name, row, text in described if name not in decisions]
    if new or not file.exists():
        absent = [name for name in COLUMNS if name not in header]
        if absent:  # columns on the right, beyond every cell
            width = max(map(len, [header, *rows]))
            header = [*header, *[""] * (width - len(header)), *absent]
        added = [[row.get(name, "") if name else "" for name in header] for row in new]
        _write_rows(file, [header, *rows, *added])
    return Review([decisions.get(name, UNDECIDED) for name in ids], len(decisions.keys() - set(ids)))


def read_decisions(file: Path) -> dict[str, str]:
    """Return the decision about each correction in a review file, by its id; none if there is no file.

    Raises `RaylevanceError` as `review_corrections` does.
    """
    return _decisions(file, *_read_rows(file)) if file.exists() else {}


def _describe(name: str, correction: Mapping[str, object], text: Mapping[str, str | None]) -> dict[str, object]:
    return {
        DECISION: UNDECIDED,
        CORRECTION: name,
        "reason": correction["kind"],
        "old_grade": correction["previous_grade"],
        "proposed_grade": correction["grade"],
        "confidence": correction["confidence"],
        "judge": correction["source"],
        **{column: _readable(text[column] or "") for column in ("query", "product_text")},
        "query_id": correction["query_id"],
        "product_id": correction["product_id"],
    }


def _readable(text: str) -> str:
    """Return `text` on one line, and so that no spreadsheet computes it."""
    line = " ".join(text.split())
    return f"'{line}" if line.startswith(FORMULA_STARTS) else line


def _read_rows(file: Path) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a CSV whose delimiter is a comma, a semicolon or a tab, without blank lines."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            first = lines.readline()
            lines.seek(0)
            header, *rows = [row for row in csv.reader(lines, delimiter=max(",;\t", key=first.count)) if row] or [[]]
    except UnicodeDecodeError as error:
        raise RaylevanceError(f"{file}: not UTF-8 at byte {error.start}; save it as CSV in UTF-8") from None
    except (OSError, csv.Error) as error:
        raise RaylevanceError(f"{file}: not a readable CSV file: {error}") from None
    for name in (DECISION, CORRECTION):
        if name not in header:
            raise RaylevanceError(f"{file}: no column {name!r}; restore it, or remove the file to start a new review")
        if header.count(name) > 1:
            raise RaylevanceError(f"{file}: {header.count(name)} columns {name!r}; leave one of them")
    return header, rows


def _decisions(file: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return the decision of each row by its correction. An empty decision is undecided."""
    decisions: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        cells = dict(zip(header, row, strict=False))
        name, given = cells.get(CORRECTION, "").strip(), cells.get(DECISION, "")
        decision = given.strip().casefold() or UNDECIDED
        where = f"{file}: row {number} (correction {name})"
        if not name:
            raise RaylevanceError(f"{file}: row {number}: no correction; restore its id, or remove the row")
        if decision not in DECISIONS:
            raise RaylevanceError(f"{where}: decision is {given!r}, expected {', '.join(DECISIONS[:2])} or {UNDECIDED}")
        if decisions.setdefault(name, decision) != decision:
            raise RaylevanceError(f"{where}: the correction is {decision} here and {decisions[name]} in a row above")
    return decisions


def _write_rows(file: Path, rows: Sequence[Sequence[object]]) -> None:
    """Write the rows under a temporary name and rename it, in UTF-8 with the mark by which Excel knows it."""
    draft = file.with_name(f".{file.name}.draft")
    try:
        with draft.open("w", encoding="utf-8-sig", newline="") as lines:
            csv.writer(lines).writerows(rows)
        draft.replace(file)
    except OSError as error:
        raise RaylevanceError(f"{file}: can't be written: {error.strerror}; set review to another file") from None
    finally:
        draft.unlink(missing_ok=True)
