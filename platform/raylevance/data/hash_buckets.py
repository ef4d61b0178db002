"""Joins and groupings of data larger than memory: rows are hashed into buckets, and each bucket is one table."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.data.checked_rows import DROPPED, FAULT, FILE, ROW, dropped_rows, row_schema
from raylevance.data.hashing import hash_strings
from raylevance.data.schema import KEYS

BUCKET = "_bucket"
ROWS_PER_BUCKET = 1_000_000


def bucket_count(*datasets: ray.data.Dataset) -> int:
    """Return how many buckets the rows of all `datasets` need together.

    The rows of Parquet files are counted by their footers. A data set with a filter is executed to count its rows.
    """
    return 1 + int(sum(dataset.count() for dataset in datasets)) // ROWS_PER_BUCKET


def map_buckets(
    rows: ray.data.Dataset, key: str, handle: Callable[[pa.Table], pa.Table], buckets: int
) -> ray.data.Dataset:
    """Call `handle` once for each bucket of `rows` and return the rows it gives.

    All rows with the same value of the string column `key` are in one bucket, in no defined order. A bucket must fit
    into the memory of a worker. One bucket needs no shuffle.
    """
    if buckets == 1:
        return rows.repartition(1).map_batches(handle, batch_format="pyarrow", batch_size=None)

    def handle_bucket(bucket: pa.Table) -> pa.Table:
        return handle(bucket.drop_columns([BUCKET]))

    add_number = functools.partial(_add_bucket_number, key=key, buckets=buckets)
    numbered = rows.map_batches(add_number, batch_format="pyarrow", batch_size=None)
    return numbered.groupby(BUCKET, num_partitions=buckets).map_groups(handle_bucket, batch_format="pyarrow")


def join_buckets(
    left: ray.data.Dataset,
    right: ray.data.Dataset,
    key: str,
    join: Callable[[pa.Table, pa.Table], pa.Table],
    schemas: tuple[pa.Schema, pa.Schema],
    buckets: int,
    other_key: str,
) -> ray.data.Dataset:
    """Call `join(left rows, right rows)` once for each bucket, and return the rows of all results.

    A row's bucket depends on the string column `key`, which both sides have. Rows of the left without a key, which
    would all be in one bucket, are divided by their string column `other_key`. Each side is first cut down to the
    columns of its schema in `schemas` (left, right) and cast to it. `Dataset.join` is not used because it needs polars.
    """

    def join_bucket(bucket: pa.Table) -> pa.Table:
        return join(_unwrap_side(bucket, "left"), _unwrap_side(bucket, "right"))

    sides = [
        side.map_batches(
            functools.partial(_wrap_side, keys=[key, other_key][: 2 - index], side=index, schemas=schemas),
            batch_format="pyarrow",
            batch_size=None,
        )
        for index, side in enumerate((left, right))
    ]
    return map_buckets(sides[0].union(sides[1]), "key", join_bucket, buckets)


def distinct_rows(
    rows: ray.data.Dataset, table: str, columns: Sequence[str], buckets: int, reason: str
) -> ray.data.Dataset:
    """Leave out good rows that repeat an earlier good row in all of `columns`, which are strings, for `reason`.

    `rows` are those of `table` in the schema of `checked_rows.row_schema`. Bad rows stay.
    """
    distinct = functools.partial(distinct_of_table, table=table, columns=columns, reason=reason)
    distinct_in_blocks = rows.map_batches(distinct, batch_format="pyarrow", batch_size=None)
    return map_buckets(distinct_in_blocks, KEYS[table], distinct, buckets)


def distinct_of_table(rows: pa.Table, table: str, columns: Sequence[str], reason: str) -> pa.Table:
    """Do for one Arrow table what `distinct_rows` does, and sort it by file and row.

    `columns` may be further ones than those of `checked_rows.row_schema`; the result does not have them.
    """
    rows = rows.sort_by([(FILE, "ascending"), (ROW, "ascending")])
    is_good = rows[FAULT].combine_chunks().is_null()
    good, others = rows.filter(is_good), rows.filter(pc.invert(is_good))
    content = pc.binary_join_element_wise(*(pc.fill_null(good[name], "") for name in columns), "\0")
    is_first = np.zeros(good.num_rows, np.bool_)
    is_first[np.unique(hash_strings(content), return_index=True)[1]] = True
    schema = row_schema(table)
    if is_first.all():
        return rows.select(schema.names)
    repeats = good.filter(pa.array(~is_first)).drop_columns([DROPPED])
    repeats = repeats.append_column(DROPPED, pa.repeat(reason, repeats.num_rows))
    first = good.filter(pa.array(is_first))
    kept = [part.select(schema.names) for part in (first, others)]
    return pa.concat_tables([*kept, dropped_rows(repeats, table)]).sort_by([(FILE, "ascending"), (ROW, "ascending")])


def _add_bucket_number(rows: pa.Table, key: str, buckets: int) -> pa.Table:
    numbers = (hash_strings(rows[key]) % np.uint64(buckets)).astype(np.int32)
    return rows.append_column(BUCKET, pa.array(numbers))


def _wrap_side(rows: pa.Table, keys: Sequence[str], side: int, schemas: tuple[pa.Schema, pa.Schema]) -> pa.Table:
    """Give the rows of both sides one schema: a struct column for each side, null in the rows of the other side."""
    structs = [pa.struct([field.with_nullable(True) for field in schema]) for schema in schemas]
    columns = [pa.nulls(rows.num_rows, struct) for struct in structs]
    own = rows.select(schemas[side].names).cast(pa.schema(list(structs[side])))
    if own.num_rows:
        columns[side] = own.to_struct_array().combine_chunks()
    key = pc.coalesce(*(rows[name].cast(pa.string()) for name in keys))
    return pa.table({"key": key, "left": columns[0], "right": columns[1]})


def _unwrap_side(bucket: pa.Table, side: str) -> pa.Table:
    rows = bucket[side].combine_chunks()
    rows = rows.filter(rows.is_valid())
    return pa.table(dict(zip(rows.type.names, rows.flatten(), strict=True)))
