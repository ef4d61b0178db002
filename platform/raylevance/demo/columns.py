"""Arrow columns of identifiers and of filled templates."""

import string

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.demo.randomness import Ints

DIGITS = 10

PRODUCT, QUERY, USER, REQUEST, SESSION = "P", "Q", "U", "R", "S"
"""The first letters of identifiers."""


def identifiers(letter: str, numbers: Ints) -> pa.Array:
    """Return `letter` and ten digits for each of `numbers`, as strings."""
    width = 1 + DIGITS
    text = np.empty((len(numbers), width), np.uint8)
    text[:, 0] = ord(letter)
    rest = numbers
    for place in range(DIGITS, 0, -1):
        rest, digit = np.divmod(rest, 10)
        text[:, place] = digit + ord("0")
    offsets = np.arange(0, width * len(numbers) + 1, width, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(numbers), [None, pa.py_buffer(offsets), pa.py_buffer(text)])


def numbers_of(ids: pa.Array | pa.ChunkedArray) -> Ints:
    """Return the numbers in the identifiers `ids`, int64 [n]."""
    return np.asarray(pc.cast(pc.utf8_slice_codeunits(ids, 1), pa.int64()), np.int64)


def fill(template: str, fields: dict[str, pa.Array]) -> pa.Array:
    """Return `template` with each `{name}` replaced, row by row, by `fields[name]`."""
    parts: list[pa.Array | str] = []
    for literal, name, _, _ in string.Formatter().parse(template):
        parts.append(literal)
        if name:
            parts.append(fields[name])
    return pc.binary_join_element_wise(*parts, "")


def fill_each(templates: list[str], which: Ints, fields: dict[str, pa.Array]) -> pa.Array:
    """Fill, in each row, the template whose index is in `which`."""
    rows = [np.flatnonzero(which == index) for index in range(len(templates))]
    filled = [
        fill(
            template,
            {name: values.take(pa.array(chosen)) for name, values in fields.items() if f"{{{name}}}" in template},
        )
        for template, chosen in zip(templates, rows, strict=True)
        if len(chosen)
    ]
    back = np.argsort(np.concatenate(rows), kind="stable")
    return pa.concat_arrays(filled).take(pa.array(back))


def with_nulls(values: pa.Array, is_null: npt.NDArray[np.bool_]) -> pa.Array:
    """Return `values` with nulls where `is_null` is True."""
    return pc.if_else(pa.array(is_null), pa.scalar(None, values.type), values)
