"""Convert one value of a file to text, to an id, to a number or to a category path.

Each function returns null for a value that is empty, and raises `ValueError` with the reason for one that it can't
convert. `conversions` does the same for whole columns.
"""

import math
import re
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from raylevance.data.category_paths import SEVERAL, levels_of
from raylevance.data.schema import CATEGORY_SEPARATOR
from raylevance.data.times import NO_NUMBER

LONGEST_VALUE = 16 << 20
"""The bytes of the longest text, and of the longest row of a text file, that is read."""
TOO_LONG = f"is longer than {LONGEST_VALUE >> 20} MiB"

EXACT_IN_DOUBLE = 2**53
"""Below it, a decimal number of 64 bits holds every whole number."""
ROUNDED = "is a rounded number; write the ids as text"

WHOLE_DECIMAL = re.compile(r"([+-]?[0-9]+)\.0+")
SCIENTIFIC = re.compile(r"[+-]?[0-9]+(?:\.([0-9]*)[eE][+-]?|()[eE]\+)([0-9]{1,4})")
"""A number as 4.006e+12: the digits after the point and the exponent. 12E3 may be an article number."""
DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?")
CONTROL = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ufeff]")


def text_of(value: Any) -> str | None:
    """Return text as it is. Numbers and truth values are written out, whole numbers without a point."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise ValueError("is not UTF-8 text") from None
    if isinstance(value, str):
        if len(value) > LONGEST_VALUE // 4 and len(value.encode()) > LONGEST_VALUE:
            raise ValueError(TOO_LONG)
        return value or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < EXACT_IN_DOUBLE else repr(value)
    if isinstance(value, dict):
        raise ValueError("is an object, not text")
    if isinstance(value, (list, tuple)):
        raise ValueError("is a list, not text")
    return None if value is None else str(value)


def id_of(value: Any, exact: int = EXACT_IN_DOUBLE) -> str | None:
    """Return an id as text. A whole number that was written as a decimal one, such as 7.0, is that number again.

    `exact` is the whole number below which the column's type holds every one. Refused are numbers that lost digits, or
    may have, and texts with a line break or another control character.
    """
    if isinstance(value, float) and (math.isinf(value) or (value.is_integer() and abs(value) >= exact)):
        raise ValueError(ROUNDED)
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return str(int(value))
    text = text_of(value)
    if text is None:
        return None
    if CONTROL.search(text):
        raise ValueError("has a line break or another control character")
    whole, scientific = WHOLE_DECIMAL.fullmatch(text), SCIENTIFIC.fullmatch(text)
    if whole is None and scientific is None:
        return text
    number = Decimal(text)
    if abs(number) >= EXACT_IN_DOUBLE:
        raise ValueError(ROUNDED)
    if whole:
        return whole[1].lstrip("+" if number else "+-")
    assert scientific is not None
    if number != number.to_integral_value():
        return text
    if len(scientific[1] or "") < int(scientific[3]):
        raise ValueError(ROUNDED)
    return str(int(number))


def number_of(value: Any, kind: pa.DataType) -> int | float | None:
    """Return a number of the Arrow type `kind`. A whole number may be written as text, or with .0 at its end.

    Blank text, NaN and NA are null.
    """
    fault = f"is not of type {kind}"
    if isinstance(value, str):
        text = value.strip()
        if text.casefold() in NO_NUMBER:
            return None
        if not DECIMAL.fullmatch(text):
            raise ValueError(fault)
        value = Decimal(text)
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise ValueError(fault)
    if math.isnan(value):
        return None
    if not pa.types.is_integer(kind):
        return float(value)
    limits = np.iinfo(kind.to_pandas_dtype())
    # The range comes first: int() of 1e999999 would not end.
    if not int(limits.min) <= value <= int(limits.max) or value != int(value):
        raise ValueError(fault)
    return int(value)


def path_of(value: Any) -> list[str] | None:
    """Return a category path as its levels, from a list of texts or from one text (see `category_paths`).

    Empty levels are left out. A list of one text is read as that text.
    """
    if isinstance(value, (list, tuple)):
        levels = [_level(level) for level in value if level is not None]
    elif value is None or isinstance(value, (str, bytes, int, float, dict)):
        levels = list(_levels(text_of(value) or ""))
    else:
        raise ValueError("is not a list of texts")
    if len(levels) == 1 and CATEGORY_SEPARATOR in (levels[0] or ""):
        return path_of(levels[0])
    if any(CATEGORY_SEPARATOR in (level or "") for level in levels):
        raise ValueError(SEVERAL)
    return [level for level in levels if level] or None


@lru_cache(1 << 16)
def _levels(text: str) -> tuple[str | None, ...]:
    return tuple(_level(level) for level in levels_of(text) if level is not None)


def _level(value: Any) -> str | None:
    try:
        return text_of(value)
    except ValueError as error:
        raise ValueError(f"has a level that {error}") from None
