"""A data set's rows as one Arrow table, in this process."""

from collections.abc import Iterable
from typing import cast

import pyarrow as pa
import ray.data


def collect(rows: ray.data.Dataset, schema: pa.Schema) -> pa.Table:
    """All of `rows`, cast to `schema`; in the order of the blocks where the data set keeps it."""
    blocks = cast(Iterable[pa.Table], rows.iter_batches(batch_format="pyarrow", batch_size=None))
    return pa.concat_tables([schema.empty_table(), *(block.cast(schema) for block in blocks if block.num_rows)])
