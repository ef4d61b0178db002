"""Labels of queries from clicks, carts and purchases, counted on Ray Data."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from raylevance.data.actions import ACTION_WEIGHTS
from raylevance.data.id_rows import find_rows
from raylevance.data.label_space import LabelSpace
from raylevance.data.product_labels import labels_of_products
from raylevance.data.query_labels import rows_of_labels
from raylevance.data.schema import ACTIONS
from raylevance.data.text import normalised_query
from raylevance.progress import status

CLICKS = "clicks"
"""The `source` of labels from clicks."""

COUNTS = pa.schema({"query": pa.int32(), "label": pa.int32(), "weight": pa.float64(), "actions": pa.int64()})
"""Schema of the weight and the number of actions of each query and label in a block."""
UNKNOWN = -1
"""The query and the label of the row that counts the events whose query or product is not known."""
ROWS_BEFORE_SUM = 4_000_000
"""How many rows of counts are gathered before they are added up."""


def labels_of_clicks(
    events: ray.data.Dataset,
    queries: pa.Table,
    products: pa.Table,
    space: LabelSpace,
    share: float = 0.05,
    clicks: int = 2,
    weights: Mapping[str, float] = ACTION_WEIGHTS,
) -> pa.Table:
    """Return the labels of the products that were clicked, carted or bought for each query, in `QUERY_LABELS`.

    A label counts where its products have `clicks` actions or more with a weight above 0, and `share` or more of the
    query's weight in the task. An action weighs what `weights` says, without damping. Queries are put together by
    their normalised texts before anything is cut. Actions on products without a label in a task are not part of the
    query's weight there. Targets and the weights of rows are 1.

    Events without a query, such as those of a category page, say nothing here. Events with an unknown query or product
    and queries of whose labels none counts are left out and counted in status lines.

    Source: the two cuts are our choice; what is published of SSUF (arXiv 2506.21049) does not say how clicks become
    labels.
    """
    texts = normalised_query(queries["query"])
    distinct = pc.unique(texts)
    known = {
        "query_ids": queries["query_id"].combine_chunks(),
        "texts": pc.index_in(texts, distinct).to_numpy(),
        "product_ids": products["product_id"].combine_chunks(),
        "labels": labels_of_products(products, space),
    }
    weighed = {action: float(weights.get(action, 0)) for action in ACTIONS}
    count = functools.partial(_count_block, known=ray.put(known), weights=weighed)
    columns = events.select_columns(["query_id", "product_id", "action"])
    counts = _summed(columns.map_batches(count, batch_format="pyarrow", batch_size=None))
    unknown = pc.equal(counts["query"], UNKNOWN)
    if left_out := pc.sum(counts.filter(unknown)["actions"]).as_py():
        status(f"{left_out} events have a query or a product that is not among the tables; they are left out")
    counts = counts.filter(pc.invert(unknown))
    query, label = (counts[name].to_numpy().astype(np.int64) for name in ("query", "label"))
    weight = counts["weight"].to_numpy()
    starts = np.array([space.rows(task).start for task in space.tasks])
    group = query * len(starts) + np.searchsorted(starts, label, side="right") - 1
    _, of_group = np.unique(group, return_inverse=True)
    total = np.bincount(of_group, weight, 1)[of_group]
    counted = (counts["actions"].to_numpy() >= clicks) & (weight / total >= share)
    clicked, kept = len(np.unique(query)), len(np.unique(query[counted]))
    if kept < clicked:
        status(
            f"{clicked - kept} of {clicked} queries with clicks have no label with {clicks} actions and a share of "
            f"{share:g}; their clicks are left out"
        )
    return rows_of_labels(distinct.take(pa.array(query[counted])), label[counted], space, CLICKS, 1.0)


def _count_block(events: pa.Table, known: ray.ObjectRef[Any], weights: Mapping[str, float]) -> pa.Table:
    """Return the rows of `COUNTS` of one block."""
    tables = ray.get(known)
    events = events.filter(events["query_id"].is_valid())
    weight = np.array([*weights.values(), 0.0])[
        pc.fill_null(pc.index_in(events["action"], pa.array(list(weights))), -1).to_numpy()
    ]
    events, weight = events.filter(pa.array(weight > 0)), weight[weight > 0]
    query = pc.fill_null(find_rows(events["query_id"], tables["query_ids"]), -1).to_numpy()
    product = pc.fill_null(find_rows(events["product_id"], tables["product_ids"]), -1).to_numpy()
    found = (query >= 0) & (product >= 0)
    labels = tables["labels"][product[found]]
    event, task = np.nonzero(labels >= 0)
    keys = tables["texts"][query[found]][event].astype(np.int64) << 32 | labels[event, task]
    pairs, pair = np.unique(keys, return_inverse=True)
    weights_of_pairs, actions = np.bincount(pair, weight[found][event], len(pairs)), np.bincount(pair)
    counted = pa.table([pairs >> 32, pairs & 0xFFFFFFFF, weights_of_pairs, actions], COUNTS.names).cast(COUNTS)
    unknown = pa.table([[UNKNOWN], [UNKNOWN], [0.0], [int((~found).sum())]], schema=COUNTS)
    return counted if found.all() else pa.concat_tables([counted, unknown])


def _summed(counts: ray.data.Dataset) -> pa.Table:
    """Return the sums of rows of `COUNTS` by query and label, ascending."""
    gathered = COUNTS.empty_table()
    last = 0
    for block in cast(Iterable[pa.Table], counts.iter_batches(batch_format="pyarrow", batch_size=None)):
        gathered = pa.concat_tables([gathered, block.cast(COUNTS)]) if block.num_rows else gathered
        if gathered.num_rows > 2 * last + ROWS_BEFORE_SUM:
            gathered = _sum(gathered)
            last = gathered.num_rows
    return _sum(gathered)


def _sum(counts: pa.Table) -> pa.Table:
    sums = counts.group_by(["query", "label"]).aggregate([("weight", "sum"), ("actions", "sum")])
    return sums.rename_columns(COUNTS.names).cast(COUNTS).sort_by([("query", "ascending"), ("label", "ascending")])
