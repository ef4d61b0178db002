"""The category of a query, by what its users chose, and the triggers of a request that fit it.

Source: GCL-MO (arXiv 2307.04322), 4.1: triggers are the user's items that fit the query's category (our reading).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from raylevance.graph.item_choices import chosen_items
from raylevance.graph.item_requests import REQUESTS
from raylevance.graph.list_columns import flat_lists, list_column

Ints = npt.NDArray[np.int64]

QUERY_CATEGORIES = pa.schema({"query_id": pa.string(), "category": pa.int64()})
"""Schema of query categories: the number of the category, above 0."""


def query_categories(requests: ray.data.Dataset, categories: Ints) -> pa.Table:
    """Return the category that the users of each query chose most often, rows of `QUERY_CATEGORIES`.

    `requests` are rows of `REQUESTS`, and `categories` the number of each item's category, 0 where it has none. A query
    after which nothing with a category was chosen is left out; of equal counts, the category of the lower number wins.
    Memory grows with the distinct queries and their categories.
    """

    def count(block: pa.Table) -> pa.Table:
        rows, items = chosen_items(block)
        queries = block["query_id"].combine_chunks().take(pa.array(rows))
        table = pa.table({"query_id": queries, "category": categories[items]})
        kept = table.filter(pc.and_(table["query_id"].is_valid(), pc.greater(table["category"], 0)))
        return kept.group_by(["query_id", "category"]).aggregate([([], "count_all")])

    counted = requests.map_batches(count, batch_format="pyarrow", batch_size=None)
    blocks: Any = list(counted.iter_batches(batch_format="pyarrow", batch_size=None))
    table = pa.concat_tables([pa.Table.from_batches([], schema=_COUNTS), *(block.cast(_COUNTS) for block in blocks)])
    sums = table.group_by(["query_id", "category"]).aggregate([("count_all", "sum")])
    ordered = sums.sort_by([("query_id", "ascending"), ("count_all_sum", "descending"), ("category", "ascending")])
    ids = ordered["query_id"].to_pylist()
    first = [row for row, query in enumerate(ids) if row == 0 or query != ids[row - 1]]
    return ordered.take(pa.array(first, pa.int64())).select(QUERY_CATEGORIES.names).cast(QUERY_CATEGORIES)


_COUNTS = pa.schema({"query_id": pa.string(), "category": pa.int64(), "count_all": pa.int64()})


def categories_of(queries: pa.ChunkedArray, known: pa.Table) -> Ints:
    """Return the category of each of `queries` (ids or null), int64 [n]; 0 for one that `known` does not have."""
    places = pc.index_in(queries, known["query_id"].combine_chunks(), skip_nulls=True)
    return np.asarray(pc.fill_null(pc.take(known["category"], places), 0).to_numpy(), np.int64)


def inside(categories: Ints, wanted: Ints, below: Ints) -> npt.NDArray[np.bool_]:
    """Return whether each of `categories` is the `wanted` one or below it, bool; 0 wants every category.

    `below` [numbers, 2] has the first number below each category, and the one after the last.
    """
    first, after = below[wanted, 0], below[wanted, 1]
    found = (wanted == 0) | (categories == wanted) | ((first <= categories) & (categories < after))
    return np.asarray(found, np.bool_)


def fitting_or_all(rows: Ints, fits: npt.NDArray[np.bool_], requests: int) -> npt.NDArray[np.bool_]:
    """Return which triggers a request keeps, bool [n]: those that fit, or all where none does.

    `rows` [n] is the request of each trigger, of `requests` in all, and `fits` bool [n] whether it fits.
    """
    some = np.bincount(rows, fits, requests) > 0
    kept: npt.NDArray[np.bool_] = fits | ~some[rows]
    return kept


def with_fitting_triggers(requests: pa.Table, known: pa.Table, categories: Ints, below: Ints) -> pa.Table:
    """Return `requests`, rows of `REQUESTS`, with those triggers only that are in the category of the request's query.

    `categories` [items] and `below` are as in `inside`. A request of no query, of one without a category, or without
    such a trigger keeps all.
    """
    wanted = categories_of(requests["query_id"], known)
    rows, triggers = flat_lists(requests["triggers"])
    kept = fitting_or_all(rows, inside(categories[triggers], wanted[rows], below), requests.num_rows)
    counts = np.bincount(rows[kept], minlength=requests.num_rows)
    columns = {name: requests[name] for name in REQUESTS.names}
    for name in ("triggers", "trigger_weights"):
        columns[name] = list_column(counts, requests[name].combine_chunks().flatten().filter(pa.array(kept)))
    return pa.table(columns, schema=REQUESTS)
