"""Find the rows of ids in a table: the one way from one numbering to another.

A row number of a table and a node number of a graph mean nothing outside their own order: the rows of a table are in
the order of its files, nodes in that of their ids. They are joined through ids, here.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raylevance.errors import RaylevanceError

Ints = npt.NDArray[np.int64]


def rows_of_ids(ids: pa.Array | pa.ChunkedArray, column: pa.Array | pa.ChunkedArray, missing: str) -> Ints:
    """Return the row of each of `ids` [n] in `column`, int64 [n].

    Raises `RaylevanceError` as `find_rows` does, and for an id that is not in `column`: the message is then `missing`,
    in which {} stands for the id.
    """
    rows = find_rows(ids, column)
    if rows.null_count:
        raise RaylevanceError(missing.replace("{}", repr(_strings(ids).filter(rows.is_null())[0].as_py())))
    found: Ints = rows.to_numpy()
    return found


def find_rows(ids: pa.Array | pa.ChunkedArray, column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return the row of each of `ids` [n] in `column`, int64 [n], with null for one that is null or not there.

    Both may have any type that can be read as a string, and the same one or not.

    Raises `RaylevanceError` for an id that is in `column` twice, because its row is not certain.
    """
    wanted, known = _strings(ids), _strings(column)
    first = pc.index_in(wanted, known, skip_nulls=True)
    backwards = known.take(pa.array(np.arange(len(known) - 1, -1, -1)))
    last = pc.subtract(len(known) - 1, pc.index_in(wanted, backwards, skip_nulls=True))
    repeated = pc.fill_null(pc.not_equal(first, last), False)
    if pc.any(repeated).as_py():
        name, one, other = (values.filter(repeated)[0].as_py() for values in (wanted, first, last))
        raise RaylevanceError(f"the id {name!r} is in rows {one + 1} and {other + 1}: remove one of them")
    return first.cast(pa.int64())


def _strings(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole.cast(pa.large_string())
