"""`raylevance recommend`: write the items recommended for the lists of triggers in a file."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylevance.artifacts import Store
from raylevance.data.conversions import ID, NUMBER, TEXT
from raylevance.data.file_columns import file_column
from raylevance.data.output_file import output_file
from raylevance.data.streamed_files import footer, refuse_repeated, require_columns
from raylevance.errors import NAMED, RaylevanceError, first_quoted, one_line
from raylevance.inference.item_table import Recommender, TriggerLists
from raylevance.inference.item_table import load as load_table
from raylevance.progress import progress_bar, status

REQUESTS_AT_ONCE = 2048
READ = ("request_id", "product_id", "weight", "category")
LARGEST_WEIGHT = 1e15
"""Far above any count of events. Sums of larger weights lose what small ones add."""


class RequestedTriggers(NamedTuple):
    """The triggers of a file by request, in the order in which the requests first appear.

    - `requests`: the id of each request, in the type of the file.
    - `starts`: where the triggers of each request begin, int64 [requests + 1].
    - `rows`: the row of each trigger in the table, -1 where the table does not have it, int64 [triggers].
    - `weights`: float64 [triggers].
    - `categories`: the category of each request, None for any.
    - `unknown`: the ids of triggers that the table does not have, each once.
    """

    requests: pa.Array
    starts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    categories: list[str | None]
    unknown: list[str]

    def lists(self, first: int, end: int) -> TriggerLists:
        """Return the known triggers of the requests `first` to `end` (exclusive)."""
        part = slice(self.starts[first], self.starts[end])
        known = self.rows[part] >= 0
        before = np.concatenate([[0], np.cumsum(known)]).astype(np.int64)
        starts = before[self.starts[first : end + 1] - self.starts[first]]
        return TriggerLists(starts, self.rows[part][known], self.weights[part][known])


def recommend_file(
    table: str, store: str, file: Path, output: Path, k: int, most_per_category: int | None = None
) -> dict[str, Any]:
    """Write up to `k` items for each request of `file` to `output`, and count requests and triggers.

    `file` is Parquet with the columns request_id, product_id and, optional, weight (1 where there is no such column)
    and category (a path joined by ` > `, the same in all rows of a request: only items in it are recommended); rows of
    one request may be anywhere in it. A trigger of weight 0 brings nothing and is not recommended either. A trigger
    that a request names twice counts with the sum of its weights. `output` has request_id, rank (from 1),
    product_id, score and trigger, and appears complete or not at all.

    Memory grows with the rows of `file`, of which all columns that are read are held, and with `REQUESTS_AT_ONCE` lists
    of `k` items, or of all that the triggers of a request can bring where these are fewer.

    Raises `RaylevanceError` if `file` can't be read, lacks a column, or has a row without an id or with a weight that
    is no number from 0 to `LARGEST_WEIGHT`.
    """
    recommender = load_table(Store(store), table)
    asked = read_triggers(file, recommender)
    started = time.monotonic()
    with output_file(output) as draft:
        rows, without = _write_lists(draft, asked, recommender, k, most_per_category)
    unknown = int((asked.rows < 0).sum())
    if unknown:
        names = first_quoted(asked.unknown)
        status(f"{file}: {unknown} of {len(asked.rows)} triggers are not in {table}: {names}")
    if unknown_categories := recommender.unknown_categories(asked.categories):
        names = first_quoted(unknown_categories)
        status(f"{file}: {len(unknown_categories)} categories have no item in {table}: {names}")
    if len(without):
        names = first_quoted(asked.requests.take(pa.array(without[:NAMED])).to_pylist(), len(without))
        status(f"{file}: {len(without)} of {len(asked.requests)} requests have no trigger that brings an item: {names}")
    return {
        "output": str(output),
        "table": table,
        "requests": len(asked.requests),
        "requests_without_items": len(without),
        "triggers": len(asked.rows),
        "unknown_triggers": unknown,
        "unknown": asked.unknown[:NAMED],
        "rows": rows,
        "seconds": round(time.monotonic() - started, 2),
    }


def _write_lists(
    file: Path, asked: RequestedTriggers, recommender: Recommender, k: int, most_per_category: int | None
) -> tuple[int, npt.NDArray[np.int64]]:
    """Write the lists of all requests to `file`, and return how many rows it has and the requests that have none."""
    columns = {"rank": pa.int32(), "product_id": pa.string(), "score": pa.float32(), "trigger": pa.string()}
    schema = pa.schema({"request_id": asked.requests.type, **columns})
    rows, requests = 0, len(asked.requests)
    without = [np.empty(0, np.int64)]
    with pq.ParquetWriter(file, schema) as writer, progress_bar("recommending", "requests", requests) as bar:
        for first in range(0, requests, REQUESTS_AT_ONCE):
            end = min(first + REQUESTS_AT_ONCE, requests)
            lists = asked.lists(first, end)
            # No list is longer than those of its triggers together, and memory is taken for k items of each request.
            longest = recommender.table.neighbours.shape[1] * max(int(np.diff(lists.starts).max()), 1)
            found = recommender.recommend(
                lists, min(k, longest), asked.categories[first:end], most_per_category=most_per_category
            )
            request, place = np.nonzero(found.items >= 0)
            values = {
                "request_id": asked.requests.take(pa.array(request + first)),
                "rank": (place + 1).astype(np.int32),
                "product_id": recommender.product_ids(found.items[request, place]),
                "score": found.scores[request, place],
                "trigger": recommender.product_ids(found.triggers[request, place]),
            }
            writer.write_table(pa.table(values).cast(schema))
            rows += len(request)
            without.append(first + np.flatnonzero(found.items[:, 0] < 0))
            bar.advance(end - first)
    return rows, np.concatenate(without)


def read_triggers(file: Path, recommender: Recommender) -> RequestedTriggers:
    """Read the triggers of `file`. Raises `RaylevanceError` as `recommend_file` does."""
    names = footer(file).schema.to_arrow_schema().names
    refuse_repeated(file, names)
    require_columns(file, names, ("request_id", "product_id"))
    try:
        table = pq.read_table(file, columns=[name for name in READ if name in names])
    except (pa.ArrowInvalid, OSError) as error:
        raise RaylevanceError(f"{file}: can't be read, it may be incomplete: {one_line(error)}") from None
    products = file_column(file, table, "product_id", ID)
    file_column(file, table, "request_id", ID)
    weights = np.ones(table.num_rows)
    if "weight" in names:
        weights = file_column(file, table, "weight", NUMBER).to_numpy(zero_copy_only=False)
        bad = np.flatnonzero(~((weights >= 0) & (weights <= LARGEST_WEIGHT)))
        if len(bad):
            wanted = f"no number from 0 to {LARGEST_WEIGHT:g}"
            raise RaylevanceError(f"{file}: row {bad[0] + 1}: weight {weights[bad[0]]} is {wanted}")
    else:
        status(f"{file}: has no column weight; every trigger has weight 1")
    requests = table["request_id"]
    if pa.types.is_dictionary(requests.type):
        requests = requests.cast(requests.type.value_type)
    if pa.types.is_string_view(requests.type) or pa.types.is_binary_view(requests.type):
        requests = requests.cast(pa.string() if pa.types.is_string_view(requests.type) else pa.binary())
    encoded = requests.combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy().astype(np.int64)
    order = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(encoded.dictionary)))]).astype(np.int64)
    rows = recommender.lookup(products)
    unknown = pc.unique(products.filter(pa.array(rows < 0))).to_pylist()
    categories: list[str | None] = [None] * len(encoded.dictionary)
    if "category" in names:
        categories = _categories(file, table, codes, order[starts[:-1]])
    return RequestedTriggers(encoded.dictionary, starts, rows[order], weights[order], categories, unknown)


def _categories(
    file: Path, table: pa.Table, codes: npt.NDArray[np.int64], first: npt.NDArray[np.int64]
) -> list[str | None]:
    """Return the category of each request, from its `first` row. Raises `RaylevanceError` for a request with two."""
    own = np.array(file_column(file, table, "category", TEXT, required=False).to_pylist(), object)
    other = np.flatnonzero(own != own[first][codes])
    if len(other):
        request = table["request_id"][int(other[0])].as_py()
        raise RaylevanceError(f"{file}: row {other[0] + 1}: request {request!r} has two categories; give it one")
    found: list[str | None] = own[first].tolist()
    return found
