"""Joins and groupings larger than memory: rows are hashed into buckets by a key, each handled as one table."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.data.hashing import hash_strings
from raylevance.data.rows import FAULT, FILE, ROW
from raylevance.data.schema import KEYS

BUCKET = "_bucket"
ROWS_PER_BUCKET = 1_000_000


def bucket_count(*sides: ray.data.Dataset) -> int:
    """The buckets that the rows of `sides` need together. Parquet is counted by its footers; a filter is run."""
    return 1 + int(sum(side.count() for side in sides)) // ROWS_PER_BUCKET


def map_buckets(
    rows: ray.data.Dataset, key: str, handle: Callable[[pa.Table], pa.Table], buckets: int
) -> ray.data.Dataset:
    """`handle` once a bucket; all rows with one value of the string column `key` are in the same bucket.

    The order of rows within a bucket is not defined. A bucket must fit into a worker's memory; one needs no shuffle.
    """
    if buckets == 1:
        return rows.repartition(1).map_batches(handle, batch_format="pyarrow", batch_size=None)

    def handle_bucket(bucket: pa.Table) -> pa.Table:
        return handle(bucket.drop_columns([BUCKET]))

    tag = functools.partial(_tag, key=key, buckets=buckets)
    tagged = rows.map_batches(tag, batch_format="pyarrow", batch_size=None)
    return tagged.groupby(BUCKET, num_partitions=buckets).map_groups(handle_bucket, batch_format="pyarrow")


def join_buckets(
    left: ray.data.Dataset,
    right: ray.data.Dataset,
    key: str,
    join: Callable[[pa.Table, pa.Table], pa.Table],
    schemas: tuple[pa.Schema, pa.Schema],
    buckets: int,
) -> ray.data.Dataset:
    """`join(left rows, right rows)` once a bucket of the string column `key`, which both sides have.

    `schemas`: what both sides are selected and cast to. (`Dataset.join` needs polars for what Arrow does here.)
    """

    def join_bucket(bucket: pa.Table) -> pa.Table:
        return join(_unwrap(bucket, "left"), _unwrap(bucket, "right"))

    sides = [
        side.map_batches(
            functools.partial(_wrap, key=key, side=index, schemas=schemas), batch_format="pyarrow", batch_size=None
        )
        for index, side in enumerate((left, right))
    ]
    return map_buckets(sides[0].union(sides[1]), "key", join_bucket, buckets)


def _tag(rows: pa.Table, key: str, buckets: int) -> pa.Table:
    codes = (hash_strings(rows[key]) % np.uint64(buckets)).astype(np.int32)
    return rows.append_column(BUCKET, pa.array(codes))


def _wrap(rows: pa.Table, key: str, side: int, schemas: tuple[pa.Schema, pa.Schema]) -> pa.Table:
    """Both sides in one schema: a struct column each, null for the other side."""
    structs = [pa.struct([field.with_nullable(True) for field in schema]) for schema in schemas]
    columns = [pa.nulls(rows.num_rows, struct) for struct in structs]
    own = rows.select(schemas[side].names).cast(pa.schema(list(structs[side])))
    if own.num_rows:
        columns[side] = own.to_struct_array().combine_chunks()
    return pa.table({"key": rows[key].cast(pa.string()), "left": columns[0], "right": columns[1]})


def _unwrap(bucket: pa.Table, side: str) -> pa.Table:
    rows = bucket[side].combine_chunks()
    rows = rows.filter(rows.is_valid())
    return pa.table(dict(zip(rows.type.names, rows.flatten(), strict=True)))


def distinct_rows(rows: ray.data.Dataset, table: str, columns: Sequence[str], buckets: int) -> ray.data.Dataset:
    """Rows of `table` (`rows.row_schema`) but for good ones that repeat an earlier row in all `columns` (strings)."""
    distinct = functools.partial(_distinct, columns=columns)
    once_a_block = rows.map_batches(distinct, batch_format="pyarrow", batch_size=None)
    return map_buckets(once_a_block, KEYS[table], distinct, buckets)


def _distinct(rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    rows = rows.sort_by([(FILE, "ascending"), (ROW, "ascending")])
    content = pc.binary_join_element_wise(*(pc.fill_null(rows[name], "") for name in columns), "\0")
    is_first = np.zeros(rows.num_rows, np.bool_)
    is_first[np.unique(hash_strings(content), return_index=True)[1]] = True
    return rows.filter(pc.or_(pa.array(is_first), rows[FAULT].combine_chunks().is_valid()))
