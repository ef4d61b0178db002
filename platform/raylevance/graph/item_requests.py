"""Requests of a log, each with its triggers: the items that the user chose before it.

A request is the events of one user with one `request_id`: a search, or a basket or a day of a log without searches. It
begins with its first event, and its triggers are items that its user clicked, put into the cart or bought strictly
before. No item of the request itself or of a later one is ever among them.

Source: GCL-MO (arXiv 2307.04322), 4.1; how triggers are chosen and weighed is our reading.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray.data
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from raylevance.config import Settings
from raylevance.data.actions import ACTION_WEIGHTS
from raylevance.data.hash_buckets import bucket_count, map_buckets
from raylevance.data.hashing import MULTIPLIER, hash_strings
from raylevance.data.schema import ACTIONS
from raylevance.graph.compiled import compiled
from raylevance.graph.edges import NodeIds
from raylevance.graph.list_columns import list_column

Ints = npt.NDArray[np.int64]

REQUESTS = pa.schema(
    {
        "request_id": pa.string(),
        "user_id": pa.string(),
        "query_id": pa.string(),
        "time": pa.int64(),
        "triggers": pa.list_(pa.int32()),
        "trigger_weights": pa.list_(pa.float32()),
        "items": pa.list_(pa.int32()),
        "actions": pa.list_(pa.int8()),
    }
)
"""Schema of requests. Items are given by number.

- `time`: when the request begins, in milliseconds since 1970.
- `triggers`, `trigger_weights`: the triggers, the highest weight first.
- `items`: the items of the request, each once, ascending.
- `actions`: the strongest action on each of them, as a position in `ACTIONS`.
"""

DAY = 86_400_000.0
UNKNOWN_USER = ""


class TriggerSettings(Settings):
    """Which of a user's items are the triggers of a request, and how much each counts."""

    half_life_days: PositiveFloat = 7.0
    """An action counts half of what it would so many days later. Only the weights of a request among each other count,
    so days are counted back from its latest trigger."""
    most: PositiveInt = 50
    """The most triggers of a request: those of the highest weight, of the actions in `window`."""
    window: PositiveInt = 500
    """How many of a user's actions before a request are looked at, the latest first, which bounds its cost."""
    click: float = Field(ACTION_WEIGHTS["click"], ge=0)
    """Weight of a click."""
    cart: float = Field(ACTION_WEIGHTS["cart"], ge=0)
    """Weight of an item put into the cart."""
    purchase: float = Field(ACTION_WEIGHTS["purchase"], ge=0)
    """Weight of a purchase."""

    @model_validator(mode="after")
    def _any(self) -> "TriggerSettings":
        if not (self.click or self.cart or self.purchase):
            raise ValueError("click, cart and purchase are all 0, so nothing is a trigger; give one a weight above 0")
        return self

    @property
    def action_weights(self) -> npt.NDArray[np.float64]:
        """Return the weight of each action, float64 [ACTIONS]. A result that was only shown is no trigger."""
        return np.array([0.0, self.click, self.cart, self.purchase])


def make_requests(
    events: ray.data.Dataset, items: NodeIds, settings: TriggerSettings, since: int | None = None
) -> ray.data.Dataset:
    """Return the requests of `events` (columns of the schema `EVENTS`) as rows of `REQUESTS`.

    Those that begin before `since`, in milliseconds since 1970, are left out; None for none.

    Events of items that are not in `items` are left out. A user is the `user_id` or, where there is none, the
    session, written "session ID"; a request of neither has no trigger. The result does not depend on the blocks of
    `events`, but for the order of rows. Memory is bounded by the events of the users of one bucket, and by the triggers
    of their requests, of which each has up to `settings.most`.
    """
    columns = ["request_id", "session_id", "user_id", "query_id", "product_id", "action", "timestamp"]
    numbered = events.select_columns(columns).map_batches(
        functools.partial(_number, items=items), batch_format="pyarrow", batch_size=None
    )
    handle = functools.partial(requests_of_users, settings=settings, since=since)
    return map_buckets(numbered, "owner", handle, bucket_count(events))


def _number(events: pa.Table, items: NodeIds) -> pa.Table:
    numbers = items.lookup(events["product_id"])
    session = pc.binary_join_element_wise(pa.scalar("session"), events["session_id"].cast(pa.string()), " ")
    user = pc.fill_null(pc.coalesce(events["user_id"].cast(pa.string()), session), UNKNOWN_USER)
    # Requests of unknown users need not be together, and would not fit into one bucket.
    owner = pc.if_else(pc.equal(user, UNKNOWN_USER), events["request_id"].cast(pa.string()), user)
    columns = {
        "request_id": events["request_id"],
        "user_id": user,
        "owner": owner,
        "query_id": pc.cast(events["query_id"], pa.string()),
        "item": pa.array(numbers),
        "action": pc.index_in(events["action"], pa.array(ACTIONS)).cast(pa.int8()),
        "time": events["timestamp"].cast(pa.int64()),
    }
    return pa.table(columns).filter(pa.array(numbers >= 0))


def requests_of_users(events: pa.Table, settings: TriggerSettings, since: int | None = None) -> pa.Table:
    """Return the requests of all users in `events` (request_id, user_id, query_id, item, action, time), `REQUESTS`.

    Those that begin before `since` are left out.
    """
    if not events.num_rows:
        return REQUESTS.empty_table()
    user, request = _codes(events["user_id"]), _codes(events["user_id"], events["request_id"])
    item, action, time = (events[name].to_numpy() for name in ("item", "action", "time"))
    starts = np.full(request.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(starts, request, time)
    ids = events["request_id"].combine_chunks()
    first_row = _query_rows(request, time, events["query_id"])
    shown = _strongest_actions(request, item, action)
    history = _history(user, item, action, time, settings)
    request_user = user[first_row]
    kept = starts >= (starts.min() if since is None else since)
    triggers = _triggers(history, request_user, starts, kept & _known(events["user_id"], first_row), settings)
    columns = {
        "request_id": ids.take(pa.array(first_row)),
        "user_id": events["user_id"].combine_chunks().take(pa.array(first_row)),
        "query_id": events["query_id"].combine_chunks().take(pa.array(first_row)),
        "time": starts,
        "triggers": list_column(triggers.counts, triggers.items),
        "trigger_weights": list_column(triggers.counts, triggers.weights),
        "items": list_column(shown.counts, shown.items),
        "actions": list_column(shown.counts, shown.weights),
    }
    requests = pa.table(columns, schema=REQUESTS).filter(pa.array(kept))
    return requests.sort_by([("time", "ascending"), ("request_id", "ascending")])


class _Grouped(NamedTuple):
    """Items of groups, group by group: how many each group has, their numbers, and a value of each."""

    counts: Any
    items: Any
    weights: Any


class _History(NamedTuple):
    """The choices of users, by user and time: where those of each user begin, and the item, time and weight of each."""

    starts: Any
    items: Any
    times: Any
    weights: Any


def _codes(*columns: pa.ChunkedArray) -> Ints:
    """Return a number for each distinct row of string columns, int64 [n], from 0."""
    hashes = hash_strings(columns[0])
    for column in columns[1:]:
        with np.errstate(over="ignore"):
            hashes = hashes * MULTIPLIER ^ hash_strings(column)
    return np.unique(hashes, return_inverse=True)[1].astype(np.int64)


def _query_rows(request: Ints, time: Any, queries: pa.ChunkedArray) -> Ints:
    """Return the row of each request whose query is its own, [requests]: the first in time that has one.

    It does not depend on the order of rows: of several queries at one time the one with the lowest hash is taken.
    """
    null = ~queries.is_valid().to_numpy()
    order = np.lexsort((hash_strings(queries), time, null, request))
    first = np.concatenate([[True], request[order][1:] != request[order][:-1]])
    rows: Ints = order[first]
    return rows


def _known(users: pa.ChunkedArray, rows: Ints) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.not_equal(users, UNKNOWN_USER).to_numpy()[rows])


def _strongest_actions(request: Ints, item: Any, action: Any) -> _Grouped:
    order = np.lexsort((-action, item, request))
    request, item, action = request[order], item[order], action[order]
    first = np.concatenate([[True], (request[1:] != request[:-1]) | (item[1:] != item[:-1])])
    return _Grouped(np.bincount(request[first]), item[first], action[first])


def _history(user: Ints, item: Any, action: Any, time: Any, settings: TriggerSettings) -> _History:
    weights = settings.action_weights[action]
    chosen = weights > 0
    order = np.flatnonzero(chosen)[np.lexsort((weights[chosen], item[chosen], time[chosen], user[chosen]))]
    starts = np.concatenate([[0], np.cumsum(np.bincount(user[order], minlength=user.max() + 1))])
    return _History(starts, item[order].astype(np.int32), time[order], weights[order])


def _triggers(
    history: _History, users: Ints, times: Ints, known: npt.NDArray[np.bool_], settings: TriggerSettings
) -> _Grouped:
    ends = np.empty(len(users), np.int64)
    for row, (user, time) in enumerate(zip(users, times, strict=True)):
        own = history.times[history.starts[user] : history.starts[user + 1]]
        ends[row] = history.starts[user] + np.searchsorted(own, time, side="left")
    begins = np.where(known, np.maximum(history.starts[users], ends - settings.window), ends)
    counts = np.zeros(len(users), np.int64)
    most = np.minimum(ends - begins, settings.most)
    items, weights = np.empty(most.sum(), np.int32), np.empty(most.sum(), np.float32)
    half_life = settings.half_life_days * DAY
    used = _weigh(history, begins, ends, half_life, settings.most, counts, items, weights)
    return _Grouped(counts, items[:used], weights[:used])


@compiled
def _weigh(
    history: Any, begins: Any, ends: Any, half_life: Any, most: Any, counts: Any, items: Any, weights: Any
) -> Any:
    """Write the triggers of each request one after another, and return how many there are."""
    used = 0
    for row in range(len(begins)):
        size = ends[row] - begins[row]
        if size == 0:
            continue
        order = np.argsort(history.items[begins[row] : ends[row]], kind="mergesort")
        own_items, own_weights, distinct = np.empty(size, np.int32), np.zeros(size), 0
        for place in order:
            event = begins[row] + place
            item = history.items[event]
            if distinct == 0 or own_items[distinct - 1] != item:
                own_items[distinct] = item
                distinct += 1
            age = (history.times[ends[row] - 1] - history.times[event]) / half_life
            own_weights[distinct - 1] += history.weights[event] * 0.5**age
        best = np.argsort(-own_weights[:distinct], kind="mergesort")[:most]
        for place in best:
            items[used], weights[used] = own_items[place], own_weights[place]
            used += 1
        counts[row] = len(best)
    return used
