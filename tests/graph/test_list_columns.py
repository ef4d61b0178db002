"""List columns as flat arrays and back."""

import numpy as np
import pyarrow as pa
import pytest

from raylevance.graph.list_columns import flat_lists, list_column


def test_lists_of_several_chunks_are_flattened_and_made_again() -> None:
    kind = pa.list_(pa.int32())
    whole = pa.array([[9], [1, 2], [], [3], None, [4, 5, 6]], kind)
    lists = pa.chunked_array([whole.slice(1, 2), pa.array([], kind), whole.slice(3)])
    rows, values = flat_lists(lists)
    assert rows.tolist() == [0, 0, 2, 4, 4, 4]
    assert values.tolist() == [1, 2, 3, 4, 5, 6]
    again = list_column(np.bincount(rows, minlength=5), values)
    assert again.to_pylist() == [[1, 2], [], [3], [], [4, 5, 6]]
    assert list_column(np.array([1, 0]), pa.array(["é"])).to_pylist() == [["é"], []]


def test_more_values_than_an_offset_counts_are_refused() -> None:
    with pytest.raises(pa.ArrowInvalid):
        list_column(np.array([2**31 - 1, 1]), np.zeros(0))
