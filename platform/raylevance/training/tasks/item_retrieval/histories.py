"""Histories: items that a user chose, of which some are to be found from others, several at once.

Half of the histories of a step are requests as they happened: the triggers, with their weights, are to find the items
that were chosen. The other half are users: a random half of all that one chose is to find the rest. The first say what
is chosen next, the second what is chosen by the same people.

Source: our choice. EASE (Steck 2019, arXiv 1905.03375) also weighs the items of a user jointly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from raylevance.data.hashing import hash_strings
from raylevance.errors import RaylevanceError
from raylevance.graph.item_graph import ITEMS, REQUESTS_FOLDER, users_or_requests
from raylevance.graph.item_objectives import NEVER, flat_lists
from raylevance.index.item_table import DAMPING

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

REQUESTS, USERS = "requests.arrow", "users.arrow"
REQUEST = pa.schema(
    {"triggers": pa.list_(pa.int32()), "weights": pa.list_(pa.float32()), "chosen": pa.list_(pa.int32())}
)
"""Schema of requests that have both triggers and items to find.

- `triggers`, `weights`: the triggers, the highest weight first, and their damped weights.
- `chosen`: the other items that were chosen in the request, by code: `i`, or `i + items` if it was new then.
"""
USER = pa.schema({"items": pa.list_(pa.int32())})
"""Schema of users: the items that each chose, two or more."""
MOST = 50
"""The most triggers, and the most items to find, of a history, which bounds the cost of a step. Of a request the
triggers of the highest weight are taken, all else is drawn."""


def write_histories(graph: Path, output: Path) -> None:
    """Write the histories of the requests in the folder `graph` to the folder `output`, unless it exists.

    Memory is that of one file of requests. The users of two files are two users; the graph's files have different ones
    unless they are split by size.

    Raises `RaylevanceError` if there is neither a request nor a user with two items.
    """
    if output.exists():
        return
    times = pq.read_table(graph / ITEMS, columns=["first_time"])["first_time"]
    first_time = times.fill_null(NEVER).to_numpy()
    draft = output.with_name(f".{output.name}.draft")
    draft.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, tuple[pa.Schema, Callable[[pa.Table, Ints], pa.Table]]] = {
        REQUESTS: (REQUEST, requests_as_they_happened),
        USERS: (USER, choices_of_users),
    }
    count = 0
    for name, (schema, read) in kinds.items():
        with pa.OSFile(str(draft / name), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for file in sorted((graph / REQUESTS_FOLDER).glob("*.parquet")):
                histories = read(pq.read_table(file), first_time)
                writer.write_table(histories)
                count += histories.num_rows
    if not count:
        raise RaylevanceError("train.histories: no user of the log chose two items; set it to 0")
    draft.replace(output)


def requests_as_they_happened(requests: pa.Table, first_time: Ints) -> pa.Table:
    """Return the `requests` that have both triggers and other chosen items, rows of `REQUEST`.

    `first_time` [items] is when each item first has an event, in milliseconds since 1970.
    """
    items, size = len(first_time), requests.num_rows
    trigger_rows, triggers = flat_lists(requests["triggers"])
    weights = requests["trigger_weights"].combine_chunks().flatten().to_numpy().astype(np.float64)
    counts = np.bincount(trigger_rows, minlength=size)
    rank = np.arange(len(triggers)) - np.repeat(np.cumsum(counts) - counts, counts)
    # The weight of a very old trigger may be 0 in float32.
    kept = (weights > 0) & (rank < MOST)
    rows, chosen = _chosen(requests)
    other = ~np.isin(rows * items + chosen, trigger_rows * items + triggers)
    rows, chosen = rows[other], chosen[other]
    is_new = first_time[chosen] >= requests["time"].to_numpy()[rows]
    columns = {
        "triggers": _lists(trigger_rows[kept], triggers[kept].astype(np.int32), size),
        "weights": _lists(trigger_rows[kept], (weights[kept] ** DAMPING).astype(np.float32), size),
        "chosen": _lists(rows, (chosen + np.where(is_new, items, 0)).astype(np.int32), size),
    }
    both = (np.bincount(trigger_rows[kept], minlength=size) > 0) & (np.bincount(rows, minlength=size) > 0)
    return pa.table(columns, schema=REQUEST).filter(pa.array(both))


def choices_of_users(requests: pa.Table, first_time: Ints) -> pa.Table:
    """Return what each user of `requests` chose, rows of `USER`; a request of an unknown user is a user of its own.

    `first_time` [items] gives the number of items.
    """
    rows, chosen = _chosen(requests)
    users = np.unique(hash_strings(users_or_requests(requests)), return_inverse=True)[1].astype(np.int64)
    distinct = np.unique(users[rows] * len(first_time) + chosen)
    owners, items = np.divmod(distinct, len(first_time))
    size = int(users.max()) + 1 if len(users) else 0
    table = pa.table({"items": _lists(owners, items.astype(np.int32), size)}, schema=USER)
    return table.filter(pa.array(np.bincount(owners, minlength=size) >= 2))


def _chosen(requests: pa.Table) -> tuple[Ints, Ints]:
    """Return the row and number of each item that was chosen, and not only shown."""
    rows, items = flat_lists(requests["items"])
    chosen = requests["actions"].combine_chunks().flatten().to_numpy() > 0
    return rows[chosen], items[chosen]


def _lists(rows: Ints, values: npt.NDArray[np.generic], size: int) -> pa.Array:
    """Return a list of values for each of `size` rows, given the row of each value, ascending."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=size))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


@dataclass(frozen=True)
class HistoryBatch:
    """The histories of a step, `size` of them.

    - `trigger_rows`, `triggers`, `weights`: the history and item of each trigger, and its weight; those of a history
      sum to 1.
    - `target_rows`, `targets`: the history and code of each item to find.
    """

    size: int
    trigger_rows: Ints
    triggers: Ints
    weights: Floats
    target_rows: Ints
    targets: Ints


class Histories:
    """The histories in a folder of `write_histories`, which are mapped into memory."""

    def __init__(self, folder: Path, per_step: int, seed: int) -> None:
        self._requests, self._users = (
            pa.ipc.open_file(pa.memory_map(str(folder / name))).read_all() for name in (REQUESTS, USERS)
        )
        self._per_step, self._seed = per_step, seed

    def draw(self, step: int) -> HistoryBatch:
        """Return the histories of `step`, which depend on the seed and the step alone."""
        random = np.random.default_rng([self._seed, step, 1])
        requests = (self._per_step + 1) // 2 if self._users.num_rows else self._per_step
        if not self._requests.num_rows:
            requests = 0
        sides: list[tuple[Any, Any, Any]] = []
        for row in self._drawn(self._requests, requests, random):
            weights = np.array(row["weights"])
            sides.append((row["triggers"], weights / weights.sum(), random.permutation(row["chosen"])[:MOST]))
        for row in self._drawn(self._users, self._per_step - requests, random):
            together = random.permutation(row["items"])
            triggers, targets = (half[:MOST] for half in np.split(together, [len(together) // 2]))
            sides.append((triggers, np.full(len(triggers), 1 / len(triggers)), targets))
        every = np.arange(len(sides))
        return HistoryBatch(
            len(sides),
            np.repeat(every, [len(triggers) for triggers, _, _ in sides]),
            np.concatenate([triggers for triggers, _, _ in sides]).astype(np.int64),
            np.concatenate([weights for _, weights, _ in sides]).astype(np.float32),
            np.repeat(every, [len(targets) for _, _, targets in sides]),
            np.concatenate([targets for _, _, targets in sides]).astype(np.int64),
        )

    @staticmethod
    def _drawn(table: pa.Table, count: int, random: np.random.Generator) -> list[dict[str, list[float]]]:
        rows = random.integers(table.num_rows, size=count) if count else np.empty(0, np.int64)
        return list(table.take(pa.array(rows)).to_pylist())
