"""Convert the values of a file to the types of a table, each by itself, whatever the format of the file.

Values that Arrow converts alike are converted together. The others are converted one by one (`single_values`), so that
no value decides how another one is read.
"""

import math
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.data.schema import CATEGORY_SEPARATOR
from raylevance.data.single_values import EXACT_IN_DOUBLE, LONGEST_VALUE, id_of, number_of, path_of, text_of
from raylevance.data.times import TIMESTAMP, time_of, times_of

EXACT = {"halffloat": 2**11, "float": 2**24, "double": EXACT_IN_DOUBLE}
"""The whole numbers below which each type of decimal numbers holds every one."""

INTEGER_TEXT = r"^[+-]?\d{1,15}(\.0*)?$"
NUMBER_TEXT = r"^[+-]?\d+(\.\d+)?([eE][+-]?\d+)?$"
ODD_ID = r"[\x00-\x1f\x7f\x{85}\x{2028}\x{2029}\x{feff}]|^[+-]?\d+(\.0+|\.?\d*[eE][+-]?\d+)$"
"""Ids that `single_values.id_of` refuses or changes, and a few that it does not."""

_MAY_BE_ODD = np.zeros(256, np.bool_)
_MAY_BE_ODD[[*range(0x20), 0x7F, *b".+", 0xC2, 0xE2, 0xEF]] = True
"""Bytes of UTF-8 without which no id is odd."""

Values: TypeAlias = pa.Array | pa.ChunkedArray | list[Any]

ONE_TYPE: dict[type, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    list: pa.list_(pa.string()),
}


class Converted(NamedTuple):
    """Values in the type of their column, and the reason why a value could not be converted, null if it could."""

    values: pa.Array
    faults: pa.Array


class Kind(NamedTuple):
    """The type of a column's values: an Arrow type of the tables' schemas, and whether its texts are ids."""

    type: pa.DataType
    is_id: bool = False

    @classmethod
    def of(cls, field: pa.Field) -> "Kind":
        """Return the kind of a column of a table; ids are in the columns whose names end in _id."""
        return cls(field.type, field.name.endswith("_id"))

    def convert(self, values: Values) -> Converted:
        """Return `values`, an array or a list of values of any types, in `type`.

        Empty texts, empty lists and NaN are null. `single_values` and `times` say what else becomes what.
        """
        array = as_one_type(values) if isinstance(values, list) else _plain(values)
        if isinstance(array, list):
            exact, known = EXACT_IN_DOUBLE, pa.nulls(len(array), self.type)
            places = np.array([place for place, value in enumerate(array) if value is not None], np.int64)
            odd = [array[place] for place in places]
        else:
            exact = EXACT.get(str(array.type), EXACT_IN_DOUBLE)
            known, is_odd = self._convert_together(array)
            places = np.flatnonzero(is_odd.to_numpy(zero_copy_only=False))
            odd = _odd_values(array.take(pa.array(places)))
        faults = pa.nulls(len(known), pa.string())
        if not odd:
            return Converted(known, faults)
        converted, reasons = zip(*(self._attempt(value, exact) for value in odd), strict=True)
        return Converted(
            _replaced(known, places, pa.array(converted, self.type)),
            _replaced(faults, places, pa.array(reasons, pa.string())),
        )

    def _convert_together(self, array: pa.Array) -> tuple[pa.Array, pa.Array]:
        """Return what Arrow can convert, null elsewhere, and a boolean array of the values that it can't."""
        if pa.types.is_timestamp(self.type):
            return times_of(array)
        if pa.types.is_list(self.type):
            return _paths(array, self.type)
        if pa.types.is_string(self.type):
            return _texts(array, self.is_id)
        return _numbers(array, self.type)

    def _attempt(self, value: Any, exact: int) -> tuple[Any, str | None]:
        """Return one value in `type` or null, and the reason if it can't be converted."""
        if isinstance(value, str) and not value:
            return None, None
        try:
            if pa.types.is_timestamp(self.type):
                return time_of(value), None
            if pa.types.is_list(self.type):
                return path_of(value), None
            if pa.types.is_string(self.type):
                return id_of(value, exact) if self.is_id else text_of(value), None
            return number_of(value, self.type), None
        except ValueError as error:
            return None, str(error)
        except OverflowError:  # a whole number that no float holds
            return None, f"is not of type {self.type}"


ID = Kind(pa.string(), is_id=True)
TEXT = Kind(pa.string())
INTEGER = Kind(pa.int64())
POSITION = Kind(pa.int32())
NUMBER = Kind(pa.float64())
TIME = Kind(TIMESTAMP)
PATH = Kind(pa.list_(pa.string()))


def as_one_type(values: list[Any]) -> pa.Array | list[Any]:
    """Return `values` as an array if they have one type, else as they are."""
    types = {type(value) for value in values} - {type(None)}
    kinds = [ONE_TYPE.get(each) for each in types] or [pa.null()]
    if len(kinds) > 1 or kinds[0] is None:
        return values
    try:
        return pa.array(values, kinds[0])
    except (pa.ArrowException, OverflowError):
        return values


def _plain(values: pa.Array | pa.ChunkedArray) -> pa.Array | list[Any]:
    """Return an array without dictionaries, large types and views; a list if it has texts that are not UTF-8."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    kind = array.type
    if _is_text(kind):
        array = array.cast(pa.string())
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        array = array.cast(pa.list_(pa.string() if _is_text(kind.value_type) else kind.value_type))
    try:
        if _is_bytes(kind):
            return array.cast(pa.binary()).cast(pa.string())
        array.validate(full=True)
    except pa.ArrowInvalid:
        is_list = pa.types.is_list(array.type)
        bytes_of_texts: list[Any] = array.cast(pa.list_(pa.binary()) if is_list else pa.binary()).to_pylist()
        return bytes_of_texts
    return array


def _is_bytes(kind: pa.DataType) -> bool:
    plain = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return bool(plain or pa.types.is_binary_view(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _odd_values(array: pa.Array) -> list[Any]:
    """Return the values. Times, which are odd only where no year can be given, all become the last one of Python."""
    return [datetime.max] * len(array) if pa.types.is_temporal(array.type) else array.to_pylist()


def _replaced(array: pa.Array, places: npt.NDArray[np.int64], values: pa.Array) -> pa.Array:
    """Return `array` with `values` at `places`."""
    rows = np.arange(len(array))
    rows[places] = len(array) + np.arange(len(places))
    return pa.concat_arrays([array, values]).take(pa.array(rows))


def _where(condition: pa.Array, values: pa.Array) -> pa.Array:
    """Return `values` where `condition` is true, null elsewhere."""
    return pc.if_else(condition, values, pa.scalar(None, values.type))


def _texts(array: pa.Array, is_id: bool) -> tuple[pa.Array, pa.Array]:
    kind = array.type
    if pa.types.is_string(kind):
        odd = pc.greater(pc.binary_length(array), LONGEST_VALUE)
        if is_id and _may_be_odd(array):
            odd = pc.or_(odd, pc.match_substring_regex(array, ODD_ID))
        odd = pc.fill_null(odd, False)
        return _where(pc.and_not(pc.not_equal(array, ""), odd), array), odd
    if pa.types.is_floating(kind):
        whole, odd = _whole_numbers(array)
        return whole.cast(pa.string()), odd
    if any(
        is_kind(kind) for is_kind in (pa.types.is_integer, pa.types.is_boolean, pa.types.is_null, pa.types.is_temporal)
    ):
        return array.cast(pa.string()), pa.repeat(False, len(array))
    return pa.nulls(len(array), pa.string()), array.is_valid()


def _may_be_odd(ids: pa.Array) -> bool:
    _, offsets, data = ids.buffers()
    if data is None or not len(ids):
        return False
    start, *_, end = np.frombuffer(offsets, np.int32)[ids.offset : ids.offset + len(ids) + 1][[0, -1]]
    return bool(_MAY_BE_ODD[np.frombuffer(data, np.uint8)[start:end]].any())


def _whole_numbers(array: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return decimal numbers as int64 where they are whole and exact, and a boolean array of the others but NaN."""
    numbers = pc.fill_null(array.cast(pa.float64()), math.nan).to_numpy(zero_copy_only=False)
    whole = (np.abs(numbers) < EXACT[str(array.type)]) & (np.floor(numbers) == numbers)
    integers = np.where(whole, numbers, 0).astype(np.int64)
    return pa.array(integers, mask=~whole), pa.array(~whole & ~np.isnan(numbers))


def _numbers(array: pa.Array, kind: pa.DataType) -> tuple[pa.Array, pa.Array]:
    is_integer, source = pa.types.is_integer(kind), array.type
    if pa.types.is_boolean(source):
        return pa.nulls(len(array), kind), array.is_valid()
    if pa.types.is_string(source):
        texts = _where(pc.match_substring_regex(array, INTEGER_TEXT if is_integer else NUMBER_TEXT), array)
        plain = pc.replace_substring_regex(texts, r"^\+|\.0*$", "") if is_integer else texts
        numbers = plain.cast(pa.int64() if is_integer else pa.float64())
    elif pa.types.is_floating(source):
        numbers = _whole_numbers(array)[0] if is_integer else _where(pc.invert(pc.is_nan(array)), array)
        array = _where(pc.invert(pc.is_nan(array)), array)
    elif pa.types.is_integer(source) or pa.types.is_null(source):
        numbers = array
    else:
        numbers = pa.nulls(len(array), kind)
    if is_integer and not pa.types.is_null(numbers.type):
        limits = np.iinfo(kind.to_pandas_dtype())
        within = pc.and_(pc.greater_equal(numbers, int(limits.min)), pc.less_equal(numbers, int(limits.max)))
        numbers = _where(within, numbers)
    numbers = numbers.cast(kind, safe=is_integer)
    return numbers, pc.and_(array.is_valid(), numbers.is_null())


def _paths(array: pa.Array, kind: pa.DataType) -> tuple[pa.Array, pa.Array]:
    """Return lists of texts as they are, if no list has a level that is empty or holds a separator."""
    if array.type != kind:
        return pa.nulls(len(array), kind), array.is_valid()
    levels = array.flatten()
    odd_levels = pc.or_(pc.equal(levels, ""), pc.match_substring(levels, CATEGORY_SEPARATOR))
    if pc.any(pc.fill_null(odd_levels, True), min_count=0).as_py():
        return pa.nulls(len(array), kind), array.is_valid()
    empty = np.flatnonzero(pc.fill_null(pc.equal(pc.list_value_length(array), 0), False))
    return _replaced(array, empty, pa.nulls(len(empty), kind)), pa.repeat(False, len(array))
