"""Rows are found by id, in whatever order and type both sides have them."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylevance.data.id_rows import rows_of_ids
from raylevance.errors import RaylevanceError

IDS = st.lists(st.text("ab1\0é", min_size=1, max_size=3), min_size=1, max_size=8, unique=True)
TYPES = st.sampled_from([pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])


@given(IDS, st.data())
def test_a_row_is_where_its_id_is(ids: list[str], data: st.DataObject) -> None:
    shuffled, asked = data.draw(st.permutations(ids)), data.draw(st.lists(st.sampled_from(ids)))
    cut = data.draw(st.integers(0, len(ids)))
    column = pa.chunked_array([shuffled[:cut], shuffled[cut:]], pa.string()).cast(data.draw(TYPES))
    rows = rows_of_ids(pa.array(asked, pa.string()).cast(data.draw(TYPES)), column, "{} is missing")
    assert [shuffled[row] for row in rows] == asked


def test_numbers_and_strings_are_the_same_ids() -> None:
    assert rows_of_ids(pa.array([20, 3]), pa.array(["3", "20"]), "{} is missing").tolist() == [1, 0]


@pytest.mark.parametrize("absent", ["c", None])
def test_an_id_that_is_not_there_is_named(absent: str | None) -> None:
    with pytest.raises(RaylevanceError, match=f"^node {absent!r} of {{x}} is missing$"):
        rows_of_ids(pa.array(["a", absent]), pa.array(["b", "a", None]), "node {} of {x} is missing")


def test_an_id_in_two_rows_is_named() -> None:
    column = pa.array(["b", "a", "c", "a", "b"])
    assert rows_of_ids(pa.array(["c"]), column, "{}").tolist() == [2]
    with pytest.raises(RaylevanceError, match="the id 'a' is in rows 2 and 4: remove one of them"):
        rows_of_ids(pa.array(["c", "a"]), column, "{}")
