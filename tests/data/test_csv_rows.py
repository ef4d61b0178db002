"""What software writes as CSV is read back as it was written, or its row is named; no row is lost with another."""

import csv
import io
import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raylevance.data import csv_rows
from raylevance.data.csv_rows import NOT_DOUBLED, NOT_UTF8, TOO_LONG, UNCLEAR, CsvRows

Row = tuple[str | None, ...]
PIECES = st.sampled_from(['"', ",", "\n", "\t", "a", "5", " ", "\r\n", "é", "b c", '12" pan', "q7"])
VALUES = st.lists(PIECES, max_size=5).map("".join)


def read(text: bytes, delimiter: str = ",") -> tuple[dict[int, Row], dict[int, tuple[str, bytes]]]:
    """Return the rows by number, and the reasons and texts of bad ones."""
    rows: dict[int, Row] = {}
    bad: dict[int, tuple[str, bytes]] = {}
    for block in CsvRows(io.BufferedReader(io.BytesIO(text)), delimiter).blocks():  # type: ignore[arg-type]
        values = [tuple(row.values()) for row in block.texts.to_pylist()]
        rows |= dict(zip(block.rows.tolist(), values, strict=True))
        bad |= {number: (reason, shown) for number, reason, shown in block.faults}
    assert not rows.keys() & bad.keys()
    assert sorted([*rows, *bad]) == list(range(1, len(rows) + len(bad) + 1))
    return rows, bad


@pytest.fixture(params=[48, 8 << 20], autouse=True)
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small chunks, a value in quotes reaches over many of them."""
    monkeypatch.setattr(csv_rows, "CHUNK_BYTES", request.param)
    if request.param < 1000:
        monkeypatch.setattr(csv_rows, "LONGEST_VALUE", 1000)
        monkeypatch.setattr(csv_rows, "LONGEST_SPAN", 4000)


@settings(deadline=None, max_examples=250)
@given(
    st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=6),
    st.sampled_from([",", "\t"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
)
@example([("q1", 'a\nb, "c"', ""), ("q2", "x", "y")], ",", csv.QUOTE_MINIMAL, "\n")
def test_what_is_quoted_is_read_back(rows: list[tuple[str, ...]], delimiter: str, quoting: int, line_end: str) -> None:
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter, quoting=quoting, lineterminator=line_end)  # type: ignore[arg-type]
    writer.writerow(["number", "a", "b", "c"])
    writer.writerows([f"n{number}", *row] for number, row in enumerate(rows))
    found, bad = read(written.getvalue().encode(), delimiter)
    named = b"\n".join(text for _, text in bad.values()).decode()
    by_number = {row[0]: row[1:] for row in found.values()}
    for number, row in enumerate(rows):
        expected = tuple(value or None for value in row)
        assert by_number.get(f"n{number}", expected) == expected
        assert f"n{number}" in by_number or f"n{number}" in named
    for reason, text in bad.values():
        assert reason == f"{len(text.splitlines())} {UNCLEAR}"
    assert by_number.keys() <= {f"n{number}" for number in range(len(rows))}


UNQUOTED = st.lists(st.sampled_from(['"', "a", "5' x 7'", " ", "é", "sofa", '12"']), min_size=1, max_size=4).map(
    lambda pieces: "".join(pieces).strip() or "a"
)


@settings(deadline=None, max_examples=250)
@given(st.lists(UNQUOTED, min_size=1, max_size=12), st.sampled_from(["\t", ","]))
@example(['"u shaped sofa', "curtain", 'shelf 55"'], "\t")
@example(['"u shaped sofa', "curtain", 'shelf 55"'], ",")
def test_what_is_not_quoted_costs_no_other_row(queries: list[str], delimiter: str) -> None:
    """A value that is well quoted by chance loses its quotes, as everywhere."""
    lines = [f"q{number}{delimiter}{query}" for number, query in enumerate(queries, 1)]
    rows, bad = read("\n".join([f"query_id{delimiter}query", *lines]).encode(), delimiter)
    assert [*sorted([*rows, *bad])] == list(range(1, len(queries) + 1))
    for number, query in enumerate(queries, 1):
        if number in bad:
            assert query.strip().startswith('"') and bad[number] == (NOT_DOUBLED, lines[number - 1].encode())
        else:
            unquoted = query[1:-1].replace('""', '"') if query.startswith('"') and query.endswith('"') else query
            assert rows[number] in {(f"q{number}", query), (f"q{number}", unquoted or None)}


def test_a_quote_that_is_not_closed() -> None:
    rows, bad = read(b'id,text\n1,"open\n2,"a, b"\n3,""\n4,"end\n')
    assert rows == {1: ("1", '"open'), 2: ("2", "a, b"), 3: ("3", None), 4: ("4", '"end')}
    assert not bad


def test_lines_that_may_be_rows_or_one_value() -> None:
    rows, bad = read(b'id,text\n1,x\nred,"warm\nblue,cold"\n3,y\n4,"warm\nred, blue"\n')
    assert rows == {1: ("1", "x"), 3: ("3", "y"), 4: ("4", "warm\nred, blue")}
    assert bad == {2: (f"2 {UNCLEAR}", b'red,"warm\nblue,cold"')}
    rows, bad = read(b'id,text\n101,"size\n12, 14"\n103,y')
    assert (rows, bad) == ({2: ("103", "y")}, {1: (f"2 {UNCLEAR}", b'101,"size\n12, 14"')})
    between = b"sofa,b\n" * 30
    rows, bad = read(b'id,text\nred,"a\n' + between + b'tall lamp,c"\n')
    assert (list(rows), bad[1][0]) == ([], f"more than 20 {UNCLEAR}")


def test_ids_of_one_length_are_alike() -> None:
    ids = ["9f86d081", "884c7d65", "9a2feaa0"]
    lines = [f'{ids[0]},"u shaped', f"{ids[1]},sofa", f'{ids[2]},tv 55"']
    rows, bad = read("\n".join(["id,text", *lines]).encode())
    assert [row[0] for row in rows.values()] == ids and not bad


def test_damage_below_a_row() -> None:
    long = b"x" * (csv_rows.LONGEST_VALUE + 10)
    rows, bad = read(
        b'\xef\xbb\xbfid,text\n1,a\n\n2,caf\xe9\n3\n4,b,c\n5,"' + long + b'"\r\n6,"two\r\nlines"\n7,c\rd\n8,e'
    )
    assert rows == {1: ("1", "a"), 6: ("6", "two\r\nlines"), 7: ("7", "c\rd"), 8: ("8", "e")}
    assert {number: reason for number, (reason, _) in bad.items()} == {
        2: NOT_UTF8,
        3: "row has 1 values, the header 2",
        4: "row has 3 values, the header 2",
        5: TOO_LONG,
    }


def test_a_long_value_with_line_ends() -> None:
    long = b"x\n" * (csv_rows.LONGEST_VALUE // 2 + 10)
    rows, bad = read(b'id,text\n1,a\n2,"' + long + b'"\n3,b\n')
    assert rows == {1: ("1", "a"), 3: ("3", "b")}
    assert {number: reason for number, (reason, _) in bad.items()} == {2: TOO_LONG}


def test_carriage_returns_as_line_ends_and_one_column() -> None:
    assert read(b"a,b\r1,2\r3,4\r")[0] == {1: ("1", "2"), 2: ("3", "4")}
    assert read(b'title\n"two\nlines"\n""\n\nx')[0] == {1: ("two\nlines",), 2: (None,), 3: ("x",)}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.sampled_from(["1,a", "2,b", "id,text", "\ufeffid,text", "id,id"]), min_size=1, max_size=4)))
def test_a_header_among_the_rows_is_a_bad_row(files: list[list[str]]) -> None:
    lines = [line for file in files for line in file]
    rows, bad = read("\n".join(["id,text", *lines, "3,c"]).encode())
    headers = [number for number, line in enumerate(lines, 1) if line.removeprefix("\ufeff") == "id,text"]
    assert {number: reason for number, (reason, _) in bad.items()} == dict.fromkeys(headers, csv_rows.REPEATED_HEADER)
    kept = [line for line in [*lines, "3,c"] if line.removeprefix("\ufeff") != "id,text"]
    assert [",".join(map(str, row)) for row in rows.values()] == kept
    assert read(b"title\ntitle\nmug")[0] == {1: ("title",), 2: ("mug",)}


def test_a_byte_order_mark_is_text_inside_a_file() -> None:
    assert read("id,text\n\ufeff1,a\n2,\ufeffb".encode())[0] == {1: ("\ufeff1", "a"), 2: ("2", "\ufeffb")}


@pytest.mark.parametrize("text", [b"", b"\n", b"a,b\n", b"\n\na,b"])
def test_a_file_without_rows(text: bytes) -> None:
    with pytest.raises(ValueError, match="empty: it has no rows"):
        CsvRows(io.BufferedReader(io.BytesIO(text)), ",")  # type: ignore[arg-type]


def test_every_quote_in_a_short_file() -> None:
    """All texts of five characters after an id: the rows around them stay."""
    for letters in itertools.product('"a,\n', repeat=5):
        text = "".join(letters)
        rows, bad = read(f"id,text\nx1,before\nx2,{text}\nx3,after".encode())
        assert rows[1] == ("x1", "before")
        shown = [*(row[0] or "" for row in rows.values()), *(shown.decode() for _, shown in bad.values())]
        values = [*(row[1] or "" for row in rows.values()), *shown]
        assert any("after" in value for value in values), text
