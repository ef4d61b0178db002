"""The interface of a judge: a data set of pairs in, a data set of grade log-probabilities out."""

from collections.abc import Callable

import pyarrow as pa
import ray.data

PAIRS = pa.schema([("key", pa.string()), ("query", pa.string()), ("product_text", pa.string())])
"""Pairs to grade, each with a key that names its content."""

Judge = Callable[[ray.data.Dataset], ray.data.Dataset]
"""Maps rows of `PAIRS` to rows of `ANSWERS`, with `log_probabilities` [3] of the grades 0, 1, 2, or with an `error`."""
