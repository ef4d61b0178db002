"""A column of a file is converted, and its first bad row is named."""

from pathlib import Path

import pyarrow as pa
import pytest

from raylevance.data.conversions import ID, NUMBER, TEXT, Kind
from raylevance.data.file_columns import file_column
from raylevance.errors import RaylevanceError

FILE = Path("pairs.parquet")


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (pa.array([7, 8], pa.int32()), ID, ["7", "8"]),
        (pa.array(["7", "äpfel"]), ID, ["7", "äpfel"]),
        (pa.array(["1.5", "2"]), NUMBER, [1.5, 2.0]),
        (pa.array(["red", "blue"]).dictionary_encode(), TEXT, ["red", "blue"]),
    ],
)
def test_values_of_other_types_are_converted(values: pa.Array, kind: Kind, expected: list[object]) -> None:
    table = pa.table({"column": values})
    several_chunks = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    found = file_column(FILE, several_chunks, "column", kind)
    assert isinstance(found, pa.Array) and found.to_pylist() == expected


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (["a", "", None], TEXT, "row 2: column is missing"),
        ([1.0, None, 2.0], NUMBER, "row 2: column is missing"),
        ([1.0, float("nan")], NUMBER, "row 2: column is missing"),
        (["1", "2", "many"], NUMBER, "row 3: column "),
        ([["a"]], TEXT, "row 1: column "),
    ],
)
def test_the_first_bad_row_is_named(values: list[object], kind: Kind, message: str) -> None:
    with pytest.raises(RaylevanceError, match=f"^pairs.parquet: {message}"):
        file_column(FILE, pa.table({"column": values}), "column", kind)


def test_a_missing_value_is_null_where_none_is_required() -> None:
    table = pa.table({"column": ["a", "", None]})
    assert file_column(FILE, table, "column", TEXT, required=False).to_pylist() == ["a", None, None]
    with pytest.raises(RaylevanceError, match="row 1: column "):
        file_column(FILE, pa.table({"column": ["many"]}), "column", NUMBER, required=False)
