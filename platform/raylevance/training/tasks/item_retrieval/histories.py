"""Histories: items that a user chose, of which some are triggers and the others targets.

Half of the histories of a step are requests as they happened, where the log has so many: the targets are the items that
were chosen. The others are users: a random half of what a user chose are triggers, and the rest targets. Requests teach
what is chosen next, users what is chosen by the same people.

Source: our choice. EASE (Steck 2019, arXiv 1905.03375) also weighs the items of a user jointly.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from raylevance.errors import RaylevanceError
from raylevance.graph.item_choices import choices_of_users, newly_chosen_items
from raylevance.graph.item_graph import ITEMS, QUERIES, REQUESTS_FOLDER
from raylevance.graph.item_objectives import NEVER
from raylevance.graph.list_columns import flat_lists, list_column
from raylevance.graph.query_categories import categories_of, fitting_or_all, inside
from raylevance.index.item_scores import DAMPING
from raylevance.models.item_features import categories_below, numbered_categories
from raylevance.training.task import WorkerContext

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

REQUESTS, USERS = "requests.arrow", "users.arrow"
REQUEST = pa.schema(
    {"triggers": pa.list_(pa.int32()), "weights": pa.list_(pa.float32()), "chosen": pa.list_(pa.int32())}
)
"""Schema of requests that have both triggers and targets.

- `triggers`, `weights`: all triggers, the highest weight first, and their damped weights; 0 for one that does not fit
  the category of the query.
- `chosen`: the other items that were chosen in the request, by code: `i`, or `i + items` if it was new then.
"""
USER = pa.schema({"items": pa.list_(pa.int32())})
"""Schema of users: the items that each chose, two or more."""
MOST = 50
"""The most triggers and the most targets of a history, which bounds the cost of a step. Those of the highest weight are
the triggers of a request; the others are sampled."""
DRAWS = 2
"""Tells the draws of histories in a step from those of its two views."""


def write_histories(graph: Path, output: Path) -> None:
    """Write the histories of the requests in the folder `graph` to the folder `output`, unless it exists.

    Memory is that of one file of requests. The users of two files are two users; the graph's files have different ones
    unless they are split by size.

    Raises `RaylevanceError` if there is neither a request nor a user with two items.
    """
    if output.exists():
        return
    items, queries = pq.read_table(graph / ITEMS), pq.read_table(graph / QUERIES)
    draft, count = output.with_name(f".{output.name}.draft"), 0
    draft.mkdir(parents=True, exist_ok=True)
    with (
        pa.ipc.new_file(str(draft / REQUESTS), REQUEST) as of_requests,
        pa.ipc.new_file(str(draft / USERS), USER) as of_users,
    ):
        for file in sorted((graph / REQUESTS_FOLDER).glob("*.parquet")):
            requests = pq.read_table(file)
            happened = requests_as_they_happened(requests, items, queries)
            users = users_of_two_items(requests, len(items))
            of_requests.write_table(happened)
            of_users.write_table(users)
            count += happened.num_rows + users.num_rows
    if not count:
        raise RaylevanceError("train.histories: no user of the log chose two items; set it to 0")
    draft.replace(output)


def requests_as_they_happened(requests: pa.Table, items: pa.Table, queries: pa.Table) -> pa.Table:
    """Return the `requests` that have both triggers and other chosen items, rows of `REQUEST`.

    `items` and `queries` are those of the item graph.
    """
    first_time = items["first_time"].fill_null(NEVER).to_numpy()
    categories, names = numbered_categories(items)
    size, count = requests.num_rows, len(items)
    trigger_rows, triggers = flat_lists(requests["triggers"])
    weights = requests["trigger_weights"].combine_chunks().flatten().to_numpy().astype(np.float64)
    wanted = categories_of(requests["query_id"], queries)[trigger_rows]
    fits = fitting_or_all(trigger_rows, inside(categories[triggers], wanted, categories_below(names)), size)
    # The weight of a very old trigger may be 0 in float32 too.
    weights = np.where(fits, weights**DAMPING, 0)
    rows, chosen = newly_chosen_items(requests, count)
    is_new = first_time[chosen] >= requests["time"].to_numpy()[rows]
    targets = np.bincount(rows, minlength=size)
    columns = {
        "triggers": requests["triggers"],
        "weights": list_column(np.bincount(trigger_rows, minlength=size), weights.astype(np.float32)),
        "chosen": list_column(targets, (chosen + np.where(is_new, count, 0)).astype(np.int32)),
    }
    both = (np.bincount(trigger_rows, weights > 0, size) > 0) & (targets > 0)
    return pa.table(columns, schema=REQUEST).filter(pa.array(both))


def users_of_two_items(requests: pa.Table, item_count: int) -> pa.Table:
    """Return what each user of `requests` chose who chose two items or more, rows of `USER`.

    A request of an unknown user is a user of its own.
    """
    users = choices_of_users(requests, item_count)
    table = pa.table({"items": list_column(users.degrees, users.indices)}, schema=USER)
    return table.filter(pa.array(users.degrees >= 2))


@dataclass(frozen=True)
class HistoryBatch:
    """Histories of a step, `size` of them.

    - `trigger_rows`, `triggers`, `weights`: the history and item of each trigger, and its weight; those of a history
      sum to 1.
    - `target_rows`, `targets`: the history and code of each target.
    - `excluded_rows`, `excluded`: the history and number of each item that is no negative of it: its triggers, and what
      was chosen beyond the `MOST` targets.
    """

    size: int
    trigger_rows: Ints
    triggers: Ints
    weights: Floats
    target_rows: Ints
    targets: Ints
    excluded_rows: Ints
    excluded: Ints

    @classmethod
    def of(cls, histories: Sequence[tuple[Any, Any, Any, Any]]) -> Self:
        """Return the triggers, weights, targets and excluded items of each history as one batch."""

        def flat(part: int, kind: Any) -> Any:
            return np.concatenate([np.empty(0, kind), *(np.asarray(history[part], kind) for history in histories)])

        def rows(part: int) -> Ints:
            return np.repeat(np.arange(len(histories)), [len(history[part]) for history in histories])

        return cls(
            len(histories),
            *(rows(0), flat(0, np.int64), flat(1, np.float32)),
            *(rows(2), flat(2, np.int64)),
            *(rows(3), flat(3, np.int64)),
        )

    def share(self, context: WorkerContext) -> "HistoryBatch":
        """Return a worker's share of the histories."""
        own = context.share(np.arange(self.size))
        place = np.full(self.size, -1)
        place[own] = np.arange(len(own))
        trigger, target, excluded = (
            place[rows] >= 0 for rows in (self.trigger_rows, self.target_rows, self.excluded_rows)
        )
        return HistoryBatch(
            len(own),
            *(place[self.trigger_rows[trigger]], self.triggers[trigger], self.weights[trigger]),
            *(place[self.target_rows[target]], self.targets[target]),
            *(place[self.excluded_rows[excluded]], self.excluded[excluded]),
        )


class Histories:
    """The histories in a folder of `write_histories`, which are mapped into memory."""

    def __init__(self, folder: Path, items: int, per_step: int, seed: int) -> None:
        """Open the histories of a graph of `items` items, of which each step has `per_step`."""
        self._items = items
        self._requests, self._users = _Rows(folder / REQUESTS), _Rows(folder / USERS)
        self._per_step, self._seed = per_step, seed

    def draw(self, step: int) -> HistoryBatch:
        """Return the histories of `step`, which depend on the seed and the step alone."""
        random = np.random.default_rng([self._seed, step, DRAWS])
        half = (self._per_step + 1) // 2 if len(self._users) else self._per_step
        requests = min(half, len(self._requests)) if len(self._users) else half
        drawn = [_request(row, self._items, random) for row in self._requests.draw(requests, random)]
        drawn += [_user(row, random) for row in self._users.draw(self._per_step - requests, random)]
        return HistoryBatch.of(drawn)


def _request(row: dict[str, Any], items: int, random: np.random.Generator) -> tuple[Any, Any, Any, Any]:
    """Return the triggers, weights, targets and excluded items of a request."""
    triggers, weights = np.array(row["triggers"]), np.array(row["weights"])
    kept = np.flatnonzero(weights)[:MOST]
    chosen = random.permutation(row["chosen"])
    excluded = np.concatenate([triggers, chosen[MOST:] % items])
    return triggers[kept], weights[kept] / weights[kept].sum(), chosen[:MOST], excluded


def _user(row: dict[str, Any], random: np.random.Generator) -> tuple[Any, Any, Any, Any]:
    """Return the triggers, weights, targets and excluded items of a user, whose items are split at random."""
    first, second = np.split(random.permutation(row["items"]), [len(row["items"]) // 2])
    triggers = first[:MOST]
    excluded = np.concatenate([first, second[MOST:]])
    return triggers, np.full(len(triggers), 1 / len(triggers)), second[:MOST], excluded


class _Rows:
    """Reads single rows of an Arrow file, of which only those are brought into memory."""

    def __init__(self, file: Path) -> None:
        with pa.ipc.open_file(pa.memory_map(str(file))) as reader:
            self._batches = [reader.get_batch(place) for place in range(reader.num_record_batches)]
        self._ends = np.cumsum([batch.num_rows for batch in self._batches], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def draw(self, count: int, random: np.random.Generator) -> Iterator[dict[str, Any]]:
        """Yield `count` rows, drawn with replacement."""
        for row in random.integers(len(self), size=count).tolist() if count else []:
            batch = self._batches[int(np.searchsorted(self._ends, row, side="right"))]
            place = row - int(self._ends[self._ends <= row].max(initial=0))
            yield batch.slice(place, 1).to_pylist()[0]
