"""Read the rows of JSON Lines, or of a JSON array of objects: each object is a row."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from raylevance.data.input_files import BYTE_ORDER_MARK, NOT_UTF8, TOO_LONG
from raylevance.data.single_values import LONGEST_VALUE

CHUNK_CHARACTERS = 1 << 20
NOT_AN_OBJECT = "row is not a JSON object"
HALF_A_CHARACTER = f"{NOT_AN_OBJECT}: it has half of a surrogate pair, because a text was cut inside an emoji"
NO_VALUE = re.compile(r"[\s,]*")
"""What stands between the elements of an array."""


class JsonRow(NamedTuple):
    """The row with this number: its size in characters, and its object, or the reason why it has none and its text."""

    number: int
    size: int
    value: dict[str, Any] | None
    fault: str = ""
    text: str = ""


def json_rows(stream: io.BufferedReader) -> Iterator[JsonRow]:
    """Yield the rows of `stream`, numbered by their lines or, in an array, by their places; blank lines are no rows.

    Raises `ValueError` if an array is damaged.
    """
    first = stream.peek(64).removeprefix(BYTE_ORDER_MARK).lstrip()
    # A line such as [1, 2] is a bad row of JSON Lines.
    is_array = first[:1] == b"[" and (first[1:].lstrip()[:1] in (b"{", b"") or first.split() in ([b"[]"], [b"[", b"]"]))
    return _array_rows(stream) if is_array else _line_rows(stream)


def _line_rows(stream: io.BufferedReader) -> Iterator[JsonRow]:
    number = 0
    while line := stream.readline(LONGEST_VALUE + 2):
        number += 1
        line = line.removeprefix(BYTE_ORDER_MARK)  # files that were joined have it on later lines too
        if len(line) > LONGEST_VALUE and not line.endswith(b"\n"):
            shown = line
            while line and not line.endswith(b"\n"):
                line = stream.readline(CHUNK_CHARACTERS)
            yield JsonRow(number, len(shown), None, TOO_LONG, shown.decode(errors="replace"))
        elif not line.isspace():
            yield _parsed_line(number, line)


def _parsed_line(number: int, line: bytes) -> JsonRow:
    try:
        text = line.decode().strip()
        return _checked(number, json.loads(text, object_pairs_hook=_object), text)
    except UnicodeDecodeError:
        return JsonRow(number, len(line), None, NOT_UTF8, line.decode(errors="replace").strip())
    except UnicodeEncodeError:
        return JsonRow(number, len(text), None, HALF_A_CHARACTER, text)
    except _RepeatedName as error:
        return JsonRow(number, len(text), None, str(error), text)
    except (ValueError, RecursionError):
        return JsonRow(number, len(text), None, NOT_AN_OBJECT, text)


def _checked(number: int, value: Any, text: str) -> JsonRow:
    """Return a row of `value`, which was read from `text`."""
    if not isinstance(value, dict):
        return JsonRow(number, len(text), None, NOT_AN_OBJECT, text)
    if "\\ud" in text or "\\uD" in text:  # perhaps half of a surrogate pair, which is no text
        json.dumps(value, ensure_ascii=False).encode()
    return JsonRow(number, len(text), value)


class _RepeatedName(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedName(f"row has {next(name for name in names if names.count(name) > 1)!r} twice")
    return value


def _array_rows(stream: io.BufferedReader) -> Iterator[JsonRow]:
    for number, element in enumerate(_array_elements(stream), 1):
        if len(element) > LONGEST_VALUE:
            yield JsonRow(number, len(element), None, TOO_LONG, element)
        else:
            yield _parsed_line(number, element.encode(errors="surrogateescape"))


def _array_elements(stream: io.BufferedReader) -> Iterator[str]:
    """Yield the text of each element of an array. Bytes that are not UTF-8 are half surrogates in it."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape")
    decoder = json.JSONDecoder()
    pending, position, number = text.read(CHUNK_CHARACTERS), 0, 0
    position = pending.index("[") + 1
    while True:
        start = NO_VALUE.match(pending, position).end()  # type: ignore[union-attr]
        if pending.startswith("]", start):
            break
        try:
            end = decoder.raw_decode(pending, start)[1]
        except (ValueError, RecursionError):
            end = len(pending)
        if end < len(pending):
            yield pending[start:end]
            number, position = number + 1, end
            continue
        pending, position = pending[start:], 0
        more = text.read(max(CHUNK_CHARACTERS, len(pending)))
        if not more or len(pending) > 4 * LONGEST_VALUE:
            raise ValueError(f"row {number + 1}: not valid JSON, or the end of the array is missing")
        pending += more
    if (pending[start + 1 :] + text.read()).strip():
        raise ValueError(f"row {number}: there is text after the end of the array")
