"""Items that users chose, and did not only see: by request, by user, by day, and before and after a time.

Source: GCL-MO (arXiv 2307.04322), 4.2, for neighbours within a category; that they were chosen on one day is our
reading.
"""

import functools
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data

from raylevance.data.hashing import MULTIPLIER, hash_strings
from raylevance.graph.csr import Csr
from raylevance.graph.item_requests import DAY, UNKNOWN_USER
from raylevance.graph.list_columns import flat_lists

Ints = npt.NDArray[np.int64]


def chosen_items(requests: pa.Table) -> tuple[Ints, Ints]:
    """Return the row and item of each choice in `requests`, rows of `REQUESTS`, both int64 [choices]."""
    rows, items = flat_lists(requests["items"])
    chosen = requests["actions"].combine_chunks().flatten().to_numpy() > 0
    return rows[chosen], items[chosen]


def newly_chosen_items(requests: pa.Table, item_count: int) -> tuple[Ints, Ints]:
    """Return the row and item of each choice that is no trigger of its request, both int64 [choices].

    Requests keep the `TriggerSettings.most` triggers of the highest weight; an item that was chosen earlier and is not
    among them counts as newly chosen.
    """
    rows, items = chosen_items(requests)
    trigger_rows, triggers = flat_lists(requests["triggers"])
    new = ~np.isin(rows * item_count + items, trigger_rows * item_count + triggers)
    return rows[new], items[new]


def requests_before_and_after(folder: Path, item_count: int) -> tuple[Ints, Ints]:
    """Return in how many earlier requests each item was, and in how many later ones it was newly chosen.

    Both are int64 [items]. The requests in `folder` are cut at the time of the one that seven eighths precede; those of
    that time are later ones, unless they are the first of all. Memory is that of one file, and of the times of all.

    Source: our choice.
    """
    files = sorted(folder.glob("*.parquet"))
    parts = [pq.read_table(file, columns=["time"])["time"].to_numpy() for file in files]
    times = np.sort(np.concatenate([np.empty(0, np.int64), *parts]))
    before, after = np.zeros((2, item_count), np.int64)
    last_of_first = np.searchsorted(times, times[:1], side="right")
    if not len(times) or last_of_first[0] == len(times):
        return before, after
    cut = times[max(len(times) * 7 // 8, last_of_first[0])]
    for file in files:
        requests = pq.read_table(file, columns=["time", "triggers", "items", "actions"])
        later = requests["time"].to_numpy() >= cut
        rows, items = flat_lists(requests["items"])
        before += np.bincount(items[~later[rows]], minlength=item_count)
        rows, chosen = newly_chosen_items(requests, item_count)
        after += np.bincount(chosen[later[rows]], minlength=item_count)
    return before, after


def users_or_requests(requests: pa.Table) -> pa.ChunkedArray:
    """Return what stands for the user of each request, string [n]: its id or, where it is not known, the request."""
    unknown = pc.equal(requests["user_id"], UNKNOWN_USER)
    request = pc.binary_join_element_wise(pa.scalar("request"), requests["request_id"], " ")
    return pc.if_else(unknown, request, requests["user_id"])


def choices_of_users(requests: pa.Table, item_count: int) -> Csr:
    """Return which items each user of `requests` chose, weights 1, [users, item_count].

    A request of an unknown user is a user of its own. Users are numbered by the hash of the id, because Swing reads the
    first users of an item, which must not depend on the order of rows; those after the last with a choice have no row.
    """
    rows, chosen = chosen_items(requests)
    users = np.unique(hash_strings(users_or_requests(requests)), return_inverse=True)[1].astype(np.int64)
    return _graph_of_pairs(users[rows], chosen, item_count)


def chosen_together(requests: ray.data.Dataset, categories: Ints) -> Csr:
    """Return which items a user chose on one day within one category, weights 1, [groups, items].

    `categories` [items] is the number of each item's category. Memory grows with the distinct (user, day, item).
    """
    pairs = requests.map_batches(
        functools.partial(_groups, categories=categories), batch_format="pyarrow", batch_size=None
    )
    blocks: list[pa.Table] = list(cast(Any, pairs.iter_batches(batch_format="pyarrow", batch_size=None)))
    group = np.concatenate([np.empty(0, np.uint64), *(block["group"].to_numpy() for block in blocks)])
    item = np.concatenate([np.empty(0, np.int32), *(block["item"].to_numpy() for block in blocks)])
    rows = np.unique(group, return_inverse=True)[1].astype(np.int64)
    return _graph_of_pairs(rows, item, len(categories))


def _groups(requests: pa.Table, categories: Ints) -> pa.Table:
    """Return the hash of the user, day and category of each choice, and its item."""
    rows, items = chosen_items(requests)
    user = hash_strings(users_or_requests(requests))
    day = (requests["time"].to_numpy() // int(DAY)).astype(np.uint64)
    with np.errstate(over="ignore"):
        group = (user + day * MULTIPLIER)[rows]
        group = group * MULTIPLIER + categories[items].astype(np.uint64)
    return pa.table({"group": group, "item": items.astype(np.int32)}).group_by(["group", "item"]).aggregate([])


def _graph_of_pairs(rows: Ints, items: npt.NDArray[np.integer], item_count: int) -> Csr:
    """Return the distinct pairs of `rows` and `items` as a graph with weights 1, which has one row or more."""
    rows, columns = np.divmod(np.unique(rows * item_count + items), item_count)
    size = int(rows.max()) + 1 if len(rows) else 1
    return Csr.from_edges(rows, columns, np.ones(len(rows), np.float32), (size, item_count))
