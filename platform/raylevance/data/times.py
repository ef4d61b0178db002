"""Read times: numbers since 1970 in any unit, and texts with the year first."""

import math
import re
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

TIMESTAMP = pa.timestamp("ms", "UTC")
FIRST, END = 631_152_000_000, 4_102_444_800_000
"""The years 1990 and 2100 in milliseconds since 1970: no event is outside of them.

Between them a number has one meaning only: the ranges of seconds, milliseconds, microseconds and nanoseconds do not
overlap.
"""
MILLISECONDS_PER_UNIT = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}

NO_NUMBER = ("", "nan", "nat", "na", "n/a", "<na>")
"""What programs write for a number or a time that is not there, in lower case."""
NOT_A_TIME = "is not a time; write 2024-03-08T09:30:00Z, or a number since 1970"
OUTSIDE = "is not between the years 1990 and 2100"

CANONICAL = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:?\d\d)?$"
"""What Arrow reads as it is."""
ZONED = r"(Z|[+-]\d\d:?\d\d)$"
LENIENT = re.compile(
    r"(\d{4})([-/])(\d\d?)\2(\d\d?)(?:[Tt ]\s*(\d\d?):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?)?"
    r"\s*(?:(Z|z|UTC|GMT)|([+-])(\d\d):?([0-5]\d)?)?"
)
"""Year, month and day in this order; then, as far as they are given, the time of the day and the zone."""
NUMBER = re.compile(r"\d+(\.\d*)?([eE]\+?\d+)?")


def times_of(values: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return `values` as times in UTC, cut to the millisecond, and a boolean array of the values left to `time_of`.

    The times of those are null. `values` has any type.
    """
    kind = values.type
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        times = _from_integers(values)
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        times = _in_range(_to_utc(values))
    elif pa.types.is_string(kind):
        times = _from_texts(values)
    else:
        times = pa.nulls(len(values), TIMESTAMP)
    return times, pc.and_(times.is_null(), values.is_valid())


def time_of(value: object) -> datetime | None:
    """Return one value as a time in UTC, cut to the millisecond. A time without a zone is in UTC.

    Blank text, NaN, NaT and NA are null.

    Numbers count seconds, milliseconds, microseconds or nanoseconds since 1970, whichever gives a year from 1990 to
    2099. Texts begin with the year; 07-03-2011 is refused, because it has two meanings.

    Raises `ValueError` with the reason for anything else.
    """
    if isinstance(value, bool):
        raise ValueError(NOT_A_TIME)
    if isinstance(value, str):
        text = value.strip()
        if text.casefold() in NO_NUMBER:
            return None
        if NUMBER.fullmatch(text):
            return time_of(float(text) if not text.isdigit() else int(text))
        return _from_text(text)
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (int, float)):
        return None if math.isnan(value) else _from_number(value)
    if isinstance(value, datetime):
        return _checked(value if value.tzinfo else value.replace(tzinfo=UTC))
    if isinstance(value, date):
        return _checked(datetime(value.year, value.month, value.day, tzinfo=UTC))
    raise ValueError(NOT_A_TIME)


def _from_number(value: float) -> datetime:
    for unit in MILLISECONDS_PER_UNIT.values():
        if FIRST <= value * unit < END:
            exact = value * 1000 if unit > 1 else value // round(1 / unit)
            milliseconds = math.floor(round(exact, 3))  # a sum of binary fractions may lie just below
            return datetime.fromtimestamp(milliseconds // 1000, UTC) + timedelta(milliseconds=milliseconds % 1000)
    raise ValueError(NOT_A_TIME)


def _from_text(text: str) -> datetime:
    parts = LENIENT.fullmatch(text)
    if parts is None:
        raise ValueError(NOT_A_TIME)
    year, _, month, day, hour, minute, second, fraction, _, sign, hours, minutes = parts.groups()
    try:
        microseconds = int(((fraction or "") + "000000")[:6])
        time = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), microseconds, UTC
        )
    except ValueError:
        raise ValueError(NOT_A_TIME) from None
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    if offset >= timedelta(days=1):
        raise ValueError(NOT_A_TIME)
    return _checked(time.replace(tzinfo=timezone(-offset if sign == "-" else offset)))


def _checked(time: datetime) -> datetime:
    # The first comparison is for times of the years 1 and 9999 that UTC does not have.
    if not 1989 <= time.year <= 2100 or not 1990 <= time.astimezone(UTC).year < 2100:
        raise ValueError(OUTSIDE)
    return time.astimezone(UTC).replace(microsecond=time.microsecond // 1000 * 1000)


def _from_integers(values: pa.Array) -> pa.Array:
    numbers = pc.fill_null(values, 0).cast(pa.int64()).to_numpy(zero_copy_only=False)
    milliseconds = np.zeros(len(numbers), np.int64)
    for unit in MILLISECONDS_PER_UNIT.values():
        first, end = int(FIRST / unit), int(END / unit)
        inside = (numbers >= first) & (numbers < end)
        scaled = numbers[inside] * 1000 if unit > 1 else numbers[inside] // round(1 / unit)
        milliseconds[inside] = scaled
    return pa.array(milliseconds, mask=milliseconds == 0).cast(TIMESTAMP)


def _to_utc(values: pa.Array) -> pa.Array:
    if getattr(values.type, "tz", None) is None:
        unit = values.type.unit if pa.types.is_timestamp(values.type) else "ms"
        return pc.assume_timezone(values.cast(pa.timestamp(unit)), "UTC")
    return values


def _in_range(times: pa.Array) -> pa.Array:
    """Cut times to the millisecond; null for those outside of the years that are read."""
    milliseconds = times.cast(TIMESTAMP, safe=False)
    # The range is checked in the unit of the times, where nothing overflows.
    unit = MILLISECONDS_PER_UNIT[times.type.unit]
    counts = times.cast(pa.int64())
    inside = pc.and_(pc.greater_equal(counts, int(FIRST / unit)), pc.less(counts, int(END / unit)))
    return pc.if_else(inside, milliseconds, pa.scalar(None, TIMESTAMP))


def _from_texts(values: pa.Array) -> pa.Array:
    nothing = pa.scalar(None, pa.string())
    text = pc.if_else(pc.match_substring_regex(values, CANONICAL), values, nothing)
    has_zone = pc.match_substring_regex(text, ZONED)
    text = pc.if_else(has_zone, text, pc.binary_join_element_wise(text, "Z", ""))
    try:
        return _in_range(text.cast(pa.timestamp("us", "UTC")))
    except pa.ArrowInvalid:
        return pa.nulls(len(values), TIMESTAMP)
