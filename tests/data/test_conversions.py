"""Each value of a file is converted by itself, and alike from every type that can hold it."""

import json
import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from raylevance.data.conversions import ID, INTEGER, NUMBER, PATH, POSITION, TEXT, TIME, Kind
from raylevance.data.times import NO_NUMBER, NOT_A_TIME

KINDS = {"id": ID, "text": TEXT, "integer": INTEGER, "position": POSITION, "number": NUMBER, "time": TIME, "path": PATH}
ROUNDED = "is a rounded number; write the ids as text"
NOW = datetime(2024, 3, 8, 9, 30, 0, 123_000, UTC)
MILLISECONDS = 1_709_890_200_123

TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
NUMBERS_AS_TEXT = st.sampled_from(
    ["7", "7.0", "-7.00", "-0.0", "+7", "1e3", "1E5", "4.006381333931e+12", "1.5", "9" * 20, ".", "1_0", " ", "NaN"]
)
TIMES_AS_TEXT = st.sampled_from(
    ["2024-03-08", "2024-03-08T09:30:00Z", "2024-03-08 09:30:00.1239", "2024-13-08", "08-03-2024", "1709890200", "NaT"]
)
PATHS_AS_TEXT = st.sampled_from(["a > b", "a|b", "a/b/c", '["a", "b"]', "['a', 'b']", "['a' 'b']", "[", "a/b"])
NUMBERS = st.integers(-(2**70), 2**70) | st.floats() | st.integers(0, 3) | st.integers(MILLISECONDS, MILLISECONDS + 9)
SINGLE = st.none() | TEXTS | NUMBERS_AS_TEXT | TIMES_AS_TEXT | PATHS_AS_TEXT | NUMBERS | st.booleans()
ANYTHING = SINGLE | st.lists(SINGLE, max_size=3) | st.dictionaries(st.just("x"), SINGLE, max_size=1)


def converted(kind: Kind, values: Any) -> list[tuple[Any, str | None]]:
    found = kind.convert(values)
    assert found.values.type == kind.type
    return list(zip(found.values.to_pylist(), found.faults.to_pylist(), strict=True))


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(KINDS)), st.lists(ANYTHING, max_size=6))
def test_no_value_decides_how_another_is_read(kind: str, values: list[Any]) -> None:
    alone = [converted(KINDS[kind], [value])[0] for value in values]
    assert converted(KINDS[kind], values) == alone
    for value, (result, fault) in zip(values, alone, strict=True):
        is_empty = value is None or value in ("", [], [None]) or (isinstance(value, float) and math.isnan(value))
        is_list_of_nothing = isinstance(value, list) and all(level in (None, "") or level != level for level in value)
        is_text_of_nothing = kind == "path" and isinstance(value, str) and not re.sub(r"[\s\[\]>|/\\]", "", value)
        is_no_number = kind in ("integer", "position", "number", "time") and str(value).strip().lower() in NO_NUMBER
        is_empty |= is_list_of_nothing or is_text_of_nothing or is_no_number
        assert is_empty or (result is None) == (fault is not None)


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(sorted(KINDS)),
    st.one_of(
        st.lists(st.none() | TEXTS | NUMBERS_AS_TEXT | TIMES_AS_TEXT | PATHS_AS_TEXT, max_size=5).map(
            lambda values: (values, pa.string())
        ),
        st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=5).map(lambda values: (values, pa.int64())),
        st.lists(st.none() | st.floats(), max_size=5).map(lambda values: (values, pa.float64())),
        st.lists(st.none() | st.lists(st.none() | TEXTS | PATHS_AS_TEXT, max_size=3), max_size=5).map(
            lambda values: (values, pa.list_(pa.string()))
        ),
    ),
)
def test_a_column_is_read_as_its_values_are(kind: str, column: tuple[list[Any], pa.DataType]) -> None:
    values, source = column
    one_by_one = [converted(KINDS[kind], [value, {}])[0] for value in values]  # an object keeps Arrow away
    assert converted(KINDS[kind], pa.array(values, source)) == one_by_one
    if pa.types.is_string(source):
        assert converted(KINDS[kind], pa.array(values, pa.large_string()).dictionary_encode()) == one_by_one


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**53 - 1))
def test_an_id_keeps_its_digits(number: int) -> None:
    same: list[Any] = [number, float(number), str(number), f"{number}.0", repr(float(number)), Decimal(f"{number}.00")]
    assert {value for value, _ in converted(ID, same)} == {str(number)}
    assert converted(ID, pa.array([float(number)])) == [(str(number), None)]


def test_zero_has_no_sign() -> None:
    assert converted(ID, [-0.0, "-0.0", "+0.0", "-7.0"]) == [("0", None)] * 3 + [("-7", None)]
    assert converted(ID, pa.array(["-0.0", "-0"])) == [("0", None), ("-0", None)]
    assert converted(ID, pa.array([-0.0])) == [("0", None)]


@pytest.mark.parametrize("number", ["1.5e9999", "1e+9999"])
def test_a_number_with_a_long_exponent_is_a_fault(number: str) -> None:
    assert converted(ID, [number]) == [(None, ROUNDED)]
    assert converted(ID, [f"{number}{'9' * 20}"]) == [(f"{number}{'9' * 20}", None)]
    for text in (number, number.replace("9999", "9" * 20)):
        assert converted(POSITION, [text]) == [(None, "is not of type int32")]


@pytest.mark.parametrize("value", [1e17, "4.00638E+12", "1e+05", "12345678901234567890.0", math.inf])
def test_an_id_that_lost_digits_is_a_fault(value: Any) -> None:
    assert converted(ID, [value]) == [(None, ROUNDED)]
    assert converted(ID, pa.array([value])) == [(None, ROUNDED)]


def test_ids_of_other_types() -> None:
    assert converted(ID, pa.array([16_777_216.0, 5.0], pa.float32())) == [(None, ROUNDED), ("5", None)]
    assert converted(ID, ["12E3", "v1.0", "007", "1.5"]) == [(text, None) for text in ("12E3", "v1.0", "007", "1.5")]
    fault = "has a line break or another control character"
    assert converted(ID, ["\ufeffp1", "p1"]) == [(None, fault), ("p1", None)]
    assert converted(ID, pa.array(["a\nb", "a\u2028b", "a\tb"])) == [(None, fault)] * 3
    assert converted(TEXT, pa.array([b"caf\xe9", b"tea"])) == [(None, "is not UTF-8 text"), ("tea", None)]


@settings(deadline=None, max_examples=200)
@given(st.integers(631_152_000_000, 4_102_444_799_999))
def test_a_time_in_every_unit(milliseconds: int) -> None:
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    nanoseconds = [milliseconds * 10**6, milliseconds * 10**6 + 999_999]
    numbers = [milliseconds, milliseconds * 1000, milliseconds * 1000 + 999, *nanoseconds]
    text = time.replace(tzinfo=None).isoformat(timespec="milliseconds")
    assert converted(TIME, pa.array(numbers)) == [(time, None)] * len(numbers)
    written: list[Any] = [milliseconds / 1000, str(milliseconds), text, f"{text}Z", f"{text}456+00:00", f"{text} UTC"]
    assert converted(TIME, written) == [(time, None)] * len(written)
    assert converted(TIME, [milliseconds // 1000])[0] == (time.replace(microsecond=0), None)
    assert converted(TIME, pa.array([Decimal(milliseconds)])) == [(time, None)]
    naive = pa.array([time.replace(tzinfo=None)], pa.timestamp("ns"))
    assert converted(TIME, naive) == [(time, None)]
    at_another_place = (time + timedelta(hours=5, minutes=30)).replace(tzinfo=None).isoformat(timespec="milliseconds")
    assert converted(TIME, [f"{at_another_place}+05:30"]) == [(time, None)]


@pytest.mark.parametrize(
    "value",
    [
        *("07-03-2011 10:00", "3/8/2024", "2024-02-30", "yesterday", 5, 1.5, True, 10**20, "2024-03-08T25:00:00Z", {}),
        *("2024-03-08T09:30:00+05:99", "2024-03-08 09:30 PM", Decimal(5)),
    ],
)
def test_what_is_no_time(value: Any) -> None:
    assert converted(TIME, [value, NOW]) == [(None, NOT_A_TIME), (NOW, None)]


@pytest.mark.parametrize("kind", [TIME, POSITION, NUMBER])
def test_what_programs_write_for_no_number(kind: Kind) -> None:
    absent: list[Any] = ["", " ", "NaN", "nan", "NA", "N/A", "<NA>", None]
    assert converted(kind, absent) == [(None, None)] * len(absent)
    assert converted(kind, pa.array(absent)) == [(None, None)] * len(absent)
    assert converted(kind, [math.nan]) == [(None, None)]


def test_a_time_outside_of_the_years_that_are_read() -> None:
    outside = "is not between the years 1990 and 2100"
    microseconds_as_milliseconds = pa.array([MILLISECONDS * 1000, MILLISECONDS], pa.timestamp("ms", "UTC"))
    assert converted(TIME, microseconds_as_milliseconds) == [(None, outside), (NOW, None)]
    assert converted(TIME, ["1969-12-31T00:00:00Z"]) == [(None, outside)]
    not_in_utc = ["0001-01-01T00:00:00+10:00", "9999-12-31T23:00:00-10:00", "2100-01-01T00:00:00Z"]
    assert converted(TIME, not_in_utc) == [(None, outside)] * 3
    assert converted(TIME, ["2099-12-31T23:59:59-00:00", "2100-01-01T00:30:00+01:00"])[1][1] is None
    assert converted(TIME, pa.array([10**18], pa.timestamp("us"))) == [(None, outside)]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Garden > Watering > Hoses",
            "Garden>Watering >Hoses",
            "Garden|Watering | Hoses",
            "Garden / Watering / Hoses",
        ),
        *("Garden/Watering/Hoses", "/Garden/Watering/Hoses", "Garden/Watering/Hoses/", "Garden » Watering » Hoses"),
        *("Garden &gt; Watering &gt; Hoses", "Garden -> Watering -> Hoses", "Garden\\Watering\\Hoses"),
        *('["Garden", "Watering", "Hoses"]', "['Garden', 'Watering', \"Hoses\"]", "('Garden', 'Watering', 'Hoses')"),
        *(
            "Garden＞Watering＞Hoses",
            "Garden｜Watering｜Hoses",
            "Garden//Watering//Hoses",
            '"Garden > Watering > Hoses"',
        ),
        *('["Garden > Watering > Hoses"]', "Garden ▸ Watering ▸ Hoses", "&gt; Garden &gt; Watering &gt; Hoses"),
        *("Garden::Watering::Hoses", "  Garden > Watering > Hoses ", '["Garden", null, "", "Watering", "Hoses"]'),
    ],
)
def test_spellings_of_a_category_path(text: str) -> None:
    path = ["Garden", "Watering", "Hoses"]
    assert converted(PATH, [text]) == [(path, None)]
    assert converted(PATH, pa.array([text])) == [(path, None)]
    assert converted(PATH, [[text] if text.startswith("Garden > ") else path]) == [(path, None)]


@pytest.mark.parametrize(
    "value",
    [
        *("Audio/Video", "Garden; Hoses", "['Garden' 'Hoses']", "{Garden,Hoses}", "[Garden]", '{"a": 1}', {"a": 1}),
        *(
            "Garden,Hoses",
            "Garden, Watering, Hoses",
            "Garden - Watering - Hoses",
            "Garden.Watering.Hoses",
            "Garden\nHoses",
        ),
        *(
            "electronics.smartphone",
            "Garden:Watering:Hoses",
            "Garden ~ Watering ~ Hoses",
            "A > B; A > C",
            "A > B\nC > D",
        ),
        *("A > B, A > C", "A > B | A > C", ["A > B", "A > C"], [["A"], "B"], [{"a": 1}], '[["A"], "B"]'),
    ],
)
def test_a_path_with_two_readings_is_a_fault(value: Any) -> None:
    ((path, fault),) = converted(PATH, [value])
    assert path is None and fault


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Home, Garden & Tools",
            "Tables w/ Drawers",
            "Home &amp; Garden",
            "1/2 inch",
            "Men's",
            "(Other)",
            "Shoes - Men",
        ),
        *("Clothing, Shoes & Jewelry", "Ropa, Zapatos y Joyas", "1,000 pieces", "St. John", "U.S.A.", "3.5 mm", "A, B"),
    ],
)
def test_one_level_stays_one(text: str) -> None:
    assert converted(PATH, [text]) == [([text], None)]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=6), min_size=1, max_size=4))
def test_a_path_as_the_text_of_a_list(path: list[str]) -> None:
    assume(not any(" > " in level for level in path))
    assert converted(PATH, [json.dumps(path), repr(path), path]) == [(path, None)] * 3


def test_whole_numbers() -> None:
    assert converted(POSITION, ["3", "3.0", 3, 3.0, " 3 ", Decimal(3)]) == [(3, None)] * 6
    fault = "is not of type int32"
    assert converted(POSITION, ["3.5", 3.5, True, 2**31, "x", "inf", {}]) == [(None, fault)] * 7
    assert converted(POSITION, ["", None, math.nan]) == [(None, None)] * 3


def test_a_decimal_number_is_the_nearest_one() -> None:
    assert converted(NUMBER, pa.array([2**53 + 1, 7])) == [(2.0**53, None), (7.0, None)]
    assert converted(NUMBER, ["0.5", "1e-3", 2, "x", True]) == [
        *[(0.5, None), (0.001, None), (2.0, None)],
        *[(None, "is not of type double")] * 2,
    ]
