"""Read the rows of CSV text, in which a quote may be a part of a value.

Software that quotes values (RFC 4180) puts a value with a delimiter, a quote or a line end in quotes, and doubles the
quotes inside it. Other software writes values as they are, such as `"farmhouse" sideboard` or `"u shaped sofa`. Rows of
both are read, and a quote that is not closed costs no other row:

- A value in quotes ends at a quote that stands before a delimiter or the end of a line. Where a quote is not closed so,
  the line is divided at its delimiters, and its quotes stay in the values.
- Lines that a value in quotes would span, but that are rows of their own, are read as rows (see `_Chunk._span`).
- Where a row can still be read in two ways it is a bad row.
"""

import functools
import io
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from raylevance.data.input_files import BYTE_ORDER_MARK, NOT_UTF8, TOO_LONG, NoRowsError
from raylevance.data.single_values import LONGEST_VALUE

CHUNK_BYTES = 8 << 20
LONGEST_SPAN = 4 * LONGEST_VALUE
"""How many bytes are searched for the end of a value in quotes."""

NOT_DOUBLED = "a quote inside a value in quotes is not doubled"
REPEATED_HEADER = "row repeats the header"
UNCLEAR = "lines may be one row or several: a quote opens in the first and closes in the last; double quotes in a value"
COUNTED_LINES = 20
"""Longer values are said to have more lines than this, so that an import counts few different reasons."""
QUOTE = b'"'
EXAMINED_LINES = 200
"""How many lines of a value that spans lines are examined."""
SAME_LENGTH = 8
"""Two ids of this length or more are alike if they have the same length, such as hexadecimal ones."""

Fault = tuple[int, str, bytes]
"""The number of a bad row, the reason, and its text."""


class CsvBlock(NamedTuple):
    """Rows of CSV: `texts` has a column of strings for each name, null where empty, and `rows` their numbers."""

    texts: pa.Table
    rows: npt.NDArray[np.int64]
    faults: list[Fault]


class CsvRows:
    """The rows of a stream of CSV. `names` are those of its header.

    Raises `NoRowsError` if there is no header with something below it, and `ValueError` if it is not UTF-8.
    """

    def __init__(self, stream: io.BufferedReader, delimiter: str) -> None:
        self._stream = stream
        self._pending = stream.read(CHUNK_BYTES).removeprefix(BYTE_ORDER_MARK)
        line_end = b"\r" if b"\n" not in self._pending and b"\r" in self._pending else b"\n"
        syntax = _Syntax(delimiter.encode(), line_end)
        header, _, self._pending = self._pending.lstrip(b"\r\n").partition(line_end)
        if not header.strip() or not self._pending:
            raise NoRowsError
        self.names = syntax.names(header.removesuffix(b"\r"))
        self._syntax = _Syntax(delimiter.encode(), line_end, len(self.names))
        self._next_row = 1

    def blocks(self) -> Iterator[CsvBlock]:
        """Yield the rows in blocks of about `CHUNK_BYTES`. Row 1 is the first one below the header."""
        at_end = False
        while not at_end:
            more = self._stream.read(CHUNK_BYTES)
            at_end = len(more) < CHUNK_BYTES
            data = self._pending + more
            if not at_end and self._syntax.line_end not in data:
                self._pending = data[: LONGEST_VALUE + 1]  # enough to show that the row is too long
                continue
            end = len(data) if at_end else data.rindex(self._syntax.line_end) + 1
            chunk = _Chunk(self._syntax, data[:end], self._next_row, at_end)
            chunk.divide()
            rows = np.arange(self._next_row, chunk.next_row)
            rows = rows[~np.isin(rows, [row for row, _, _ in chunk.faults])]
            self._pending, self._next_row = data[chunk.position :], chunk.next_row
            yield self._without_headers(self._parsed(b"".join(chunk.good), len(rows)), rows, chunk.faults)

    def _without_headers(self, texts: pa.Table, rows: npt.NDArray[np.int64], faults: list[Fault]) -> CsvBlock:
        """Make a bad row of each one that repeats the header, as files that were joined have them."""
        if len(self.names) == 1 or not len(rows):  # a text may be the name of its column
            return CsvBlock(texts, rows, faults)
        is_header = functools.reduce(pc.and_, map(pc.equal, texts.columns[1:], self.names[1:]))
        first = pc.utf8_ltrim(texts.column(0), "\ufeff")
        is_header = pc.fill_null(pc.and_(is_header, pc.equal(first, self.names[0])), False).to_numpy()
        if not is_header.any():
            return CsvBlock(texts, rows, faults)
        header = self._syntax.delimiter.join(name.encode() for name in self.names)
        repeats = [(int(row), REPEATED_HEADER, header) for row in rows[is_header]]
        return CsvBlock(texts.filter(pa.array(~is_header)), rows[~is_header], sorted([*faults, *repeats]))

    def _parsed(self, text: bytes, rows: int) -> pa.Table:
        places = [str(place) for place in range(len(self.names))]
        if not rows:
            return pa.table({place: pa.array([], pa.string()) for place in places})
        # Arrow leaves out a byte order mark, which may be the text of a value here.
        text = BYTE_ORDER_MARK + text if text.startswith(BYTE_ORDER_MARK) else text
        table = pyarrow.csv.read_csv(
            pa.BufferReader(text),
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=places),
            parse_options=pyarrow.csv.ParseOptions(delimiter=self._syntax.delimiter.decode(), newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(places, pa.string()), strings_can_be_null=True, null_values=[""]
            ),
        )
        assert table.num_rows == rows
        return table


class _Syntax:
    """The characters that separate values and rows, and the number of values in a row."""

    def __init__(self, delimiter: bytes, line_end: bytes, columns: int = 0) -> None:
        self.delimiter = delimiter
        self.line_end = line_end
        self.columns = columns
        value = rb'(?:"[^"]*+(?:""[^"]*+)*+"|(?!")[^%b]*+)' % re.escape(delimiter)
        self._row = re.compile(rb"%b(?:%b%b)*+" % (value, re.escape(delimiter), value))
        self._full_row = re.compile(rb"%b(?:%b%b){%d}" % (value, re.escape(delimiter), value, max(columns - 1, 0)))
        self._value = re.compile(rb'"[^"]*+(?:""[^"]*+)*+"|(?!")[^%b%b]*+' % (re.escape(delimiter), line_end))
        self._inside = re.compile(rb'"([^"]*+(?:""[^"]*+)*+)"|((?!")[^%b]*+)' % re.escape(delimiter))

    def names(self, header: bytes) -> list[str]:
        """Return the values of the header. Raises `ValueError` if it is not UTF-8."""
        well_formed = self._row.fullmatch(header)
        values = self.values(header) if well_formed else header.split(self.delimiter)
        try:
            return [value.decode() for value in values]
        except UnicodeDecodeError as error:
            raise ValueError(f"can't be read as UTF-8 text: {error}") from None

    def values(self, line: bytes) -> list[bytes]:
        """Return the values of a well-formed line, without quotes around them."""
        values, position = [], 0
        while True:
            match = self._inside.match(line, position)
            assert match is not None
            values.append(match[2] if match[1] is None else match[1].replace(b'""', QUOTE))
            position = match.end() + 1
            if position > len(line):
                return values

    def is_row(self, line: bytes) -> bool:
        """Return whether `line` is a row in itself, with all of its quotes closed."""
        return self._row.fullmatch(line) is not None

    def is_full_row(self, line: bytes) -> bool:
        """Return whether `line` is a row in itself with a value for each column."""
        return self._full_row.fullmatch(line) is not None

    def row_end(self, data: bytes, start: int) -> int | None:
        """Return where the row that begins at `start` ends, before its line end; None if a quote is not well closed.

        Raises `EOFError` if a quote is open at the end of `data`.
        """
        position = start
        while True:
            match = self._value.match(data, position)
            if match is None:
                raise EOFError
            position = match.end()
            if position == len(data) or data.startswith(self.line_end, position):
                return position
            if data.startswith(b"\r" + self.line_end, position):
                return position
            if not data.startswith(self.delimiter, position):
                return None
            position += 1

    def quoted(self, values: list[bytes]) -> bytes:
        """Return a row of `values`, those with quotes or carriage returns in quotes."""
        if values == [b""]:
            return QUOTE + QUOTE  # a blank line is no row
        return self.delimiter.join(
            QUOTE + value.replace(QUOTE, b'""') + QUOTE
            if QUOTE in value or b"\r" in value or self.delimiter in value
            else value
            for value in values
        )


class _Chunk:
    """Whole lines of CSV, divided into good rows, as text that is well quoted, and bad ones."""

    def __init__(self, syntax: _Syntax, data: bytes, next_row: int, at_end: bool) -> None:
        self._syntax = syntax
        self._columns = syntax.columns
        self._data = data
        self._at_end = at_end
        self.next_row = next_row
        self.position = 0
        """Up to where the rows are divided; what follows needs more lines."""
        self.good: list[bytes] = []
        self.faults: list[Fault] = []
        content = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(content == syntax.line_end[0])
        if at_end and not data.endswith(syntax.line_end) and data:
            ends = np.append(ends, len(data))
        self._ends = ends
        self._starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
        self._is_blank, self._is_odd = self._examine(content)

    def _examine(self, content: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return which lines are blank, and which are not plainly rows of values without quotes."""
        starts, ends = self._starts, self._ends

        def count(places: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
            positions = np.flatnonzero(places)
            return np.searchsorted(positions, ends) - np.searchsorted(positions, starts)

        delimiter, lengths = content == self._syntax.delimiter[0], ends - starts
        begins_quoted = self._begins_quoted(content, delimiter)
        returns = count(content == ord("\r")) if self._syntax.line_end != b"\r" else np.zeros(len(ends), np.int64)
        ends_in_return = (lengths > 0) & (content[np.maximum(ends - 1, 0)] == ord("\r")) & (returns > 0)
        is_blank = lengths == ends_in_return
        is_odd = (count(delimiter) != self._columns - 1) | begins_quoted | (returns > ends_in_return)
        is_odd |= lengths > LONGEST_VALUE
        try:
            self._data.decode()
        except UnicodeDecodeError:
            is_odd |= count(content >= 0x80) > 0
        return is_blank, is_odd & ~is_blank

    def _begins_quoted(self, content: npt.NDArray[np.uint8], delimiter: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return which lines have a value that begins with a quote, unless all such values are plainly in quotes.

        These have no other quote and no delimiter inside.
        """
        quotes = np.flatnonzero(content == QUOTE[0])
        if not len(quotes):
            return np.zeros(len(self._ends), np.bool_)
        ends_value = delimiter | (content == self._syntax.line_end[0])
        opens = ends_value[quotes - 1] | (quotes == 0)
        after = np.minimum(quotes + 1, len(content) - 1)
        after += (content[after] == ord("\r")) & (after < len(content) - 1)
        closes = ends_value[after] | (quotes == len(content) - 1)
        lines = np.searchsorted(self._ends, quotes)
        count = len(self._ends)
        opened, closed = (np.bincount(lines[chosen], minlength=count) for chosen in (opens, closes))
        is_plain = (opened == closed) & (opened + closed == np.bincount(lines, minlength=count))
        first, last = quotes[opens & is_plain[lines]], quotes[closes & is_plain[lines]]
        before = np.cumsum(delimiter, dtype=np.int32)
        apart = (first >= last) | (before[first] != before[last])
        is_plain[np.searchsorted(self._ends, first[apart])] = False
        return np.asarray((opened > 0) & ~is_plain)

    def divide(self) -> None:
        """Fill `good` and `faults`."""
        line = 0
        for odd in np.flatnonzero(self._is_odd):
            if odd < line:
                continue
            self._take_plain(line, int(odd))
            line = self._take_odd(int(odd))
            if line == odd:
                self.position = int(self._starts[odd])
                return
        self._take_plain(line, len(self._ends))
        self.position = len(self._data)

    def _take_plain(self, first: int, end: int) -> None:
        count = int((~self._is_blank[first:end]).sum())
        if count:
            text = self._data[self._starts[first] : self._ends[end - 1] + 1]
            self.good.append(text if text.endswith(self._syntax.line_end) else text + self._syntax.line_end)
            self.next_row += count

    def _take_odd(self, line: int) -> int:
        """Take the row that begins in `line` and return the line after it; `line` itself if the row is not complete."""
        start, end = int(self._starts[line]), int(self._ends[line])
        text = self._data[start:end].removesuffix(b"\r")
        if len(text) > LONGEST_VALUE:
            self._refuse(TOO_LONG, text)
            return line + 1
        if self._syntax.is_row(text):
            self._take(
                text, None if b"\r" not in text and self._syntax.is_full_row(text) else self._syntax.values(text)
            )
            return line + 1
        try:
            row_end = self._syntax.row_end(self._data, start)
        except EOFError:
            if not self._at_end and len(self._data) - start <= LONGEST_SPAN:
                return line
            row_end = None
        if row_end is None or row_end <= end:
            self._take_as_it_stands(text)
            return line + 1
        return self._span(line, row_end, text)

    def _span(self, line: int, row_end: int, text: bytes) -> int:
        """Take a row that spans lines, or its first line alone if each of them is a row of its own.

        A line may be a row if it has a value for each column. The lines are rows if all of them may be, no value has
        spaces around it, and one column has values that are alike and contain digits, as ids do. If only a part of this
        is true, the row is bad.
        """
        whole = self._data[int(self._starts[line]) : row_end]
        texts = whole.split(self._syntax.line_end, EXAMINED_LINES)[:EXAMINED_LINES]
        lines = [each.removesuffix(b"\r").split(self._syntax.delimiter) for each in texts]
        may_be_rows = [len(values) == self._columns > 1 for values in lines]
        are_plain = [
            may_be_row and all(value == value.strip() for value in values)
            for may_be_row, values in zip(may_be_rows, lines, strict=True)
        ]
        are_alike = all(may_be_rows) and any(_alike(column) for column in zip(*lines, strict=True))
        after = int(np.searchsorted(self._ends, row_end)) + 1
        if are_alike and all(are_plain):
            self._take_as_it_stands(text)
            return line + 1
        if are_alike or (may_be_rows[0] and any(are_plain[1:])):
            count = after - line
            lines_are = f"{count}" if count <= COUNTED_LINES else f"more than {COUNTED_LINES}"
            self._refuse(f"{lines_are} {UNCLEAR}", whole)
            return after
        self._take(whole, None if self._syntax.is_full_row(whole) else self._syntax.values(whole))
        return after

    def _take_as_it_stands(self, text: bytes) -> None:
        values = text.split(self._syntax.delimiter)
        if any(len(value) > 1 and value.strip()[:1] == value.strip()[-1:] == QUOTE for value in values):
            self._refuse(NOT_DOUBLED, text)
        else:
            self._take(text, values)

    def _take(self, text: bytes, values: list[bytes] | None) -> None:
        """Take a row. `values` are None if `text` is well quoted as it is."""
        count = self._columns if values is None else len(values)
        if len(text) > LONGEST_VALUE:
            self._refuse(TOO_LONG, text)
        elif not _is_utf8(text):
            self._refuse(NOT_UTF8, text)
        elif count != self._columns:
            self._refuse(f"row has {count} values, the header {self._columns}", text)
        else:
            self.good.append((text if values is None else self._syntax.quoted(values)) + self._syntax.line_end)
            self.next_row += 1

    def _refuse(self, reason: str, text: bytes) -> None:
        self.faults.append((self.next_row, reason, text))
        self.next_row += 1


def _alike(values: tuple[bytes, ...]) -> bool:
    """Return whether `values` are like the ids of rows: one word with a digit, of the same shape or length."""
    if any(re.search(rb"\s|^$", value) or not re.search(rb"\d", value) for value in values):
        return False
    shapes = {re.sub(rb"[A-Za-z\x80-\xff]+", b"a", re.sub(rb"\d+", b"0", value)) for value in values}
    lengths = {len(value) for value in values}
    return len(shapes) == 1 or (len(lengths) == 1 and min(lengths) >= SAME_LENGTH)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
