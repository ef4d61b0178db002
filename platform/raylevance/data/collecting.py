"""Bring the rows of a Ray data set into this process as one Arrow table."""

from collections.abc import Iterable
from typing import cast

import pyarrow as pa
import ray.data


def collect(rows: ray.data.Dataset, schema: pa.Schema) -> pa.Table:
    """Return all of `rows` as one table, cast to `schema`.

    The rows are in the order of the data set's blocks if the data set keeps that order.
    """
    blocks = cast(Iterable[pa.Table], rows.iter_batches(batch_format="pyarrow", batch_size=None))
    return pa.concat_tables([schema.empty_table(), *(block.cast(schema) for block in blocks if block.num_rows)])
