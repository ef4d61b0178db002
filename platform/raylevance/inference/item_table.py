"""Recommend items for lists of triggers: look up the list of each trigger, and merge the lists.

The score of item i for triggers t with weights w is

    score(i) = tau * log sum_t  v_t / sum v * e^{s_ti / tau},    v_t = w_t^(1/4)

with the sum over the triggers whose list has i, and that of v_t over all triggers: a log-mean-exp in which a list
without i adds 0. tau is the temperature that the encoder was trained with. With one trigger the score is s_ti itself,
as in the table. An item that several triggers bring is ahead of one that a single trigger brings. The fourth root keeps
a few heavy triggers from filling the list.

Source: GCL-MO (arXiv 2307.04322), 4.7, for the table; the merge is our choice.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.artifacts import Store
from raylevance.data.schema import CATEGORY_SEPARATOR
from raylevance.graph.compiled import compiled
from raylevance.graph.edges import NodeIds
from raylevance.graph.query_categories import fitting_or_all
from raylevance.index.item_scores import DAMPING
from raylevance.index.item_table import ItemTable

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class TriggerLists(NamedTuple):
    """The triggers of m requests, one after another.

    - `starts` int64 [m + 1]: where the triggers of each request begin.
    - `items` int64 [triggers]: their rows in the table.
    - `weights` float64 [triggers]: how much each counts; those of one trigger are added up. A trigger of weight 0
      brings nothing, and is left out of the recommendations like any other.
    """

    starts: Ints
    items: Ints
    weights: Floats

    @classmethod
    def of(cls, lists: Sequence[tuple[Sequence[int], Sequence[float]]]) -> "TriggerLists":
        """Return the lists of items and weights of each request as one."""
        starts = np.concatenate([[0], np.cumsum([len(items) for items, _ in lists])]).astype(np.int64)
        items = np.concatenate([np.empty(0, np.int64), *(np.asarray(items, np.int64) for items, _ in lists)])
        weights = np.concatenate([np.empty(0), *(np.asarray(weights, np.float64) for _, weights in lists)])
        return cls(starts, items, weights)


class Recommended(NamedTuple):
    """The items of m requests, best first: rows int64, scores float32 and the trigger (a row) that brought each, all
    [m, k]; rows of -1 and scores of -inf stand for no item."""

    items: Ints
    scores: npt.NDArray[np.float32]
    triggers: Ints


@dataclass(frozen=True)
class Recommender:
    """A table of items that is loaded and ready to recommend from."""

    table: ItemTable
    ids: NodeIds

    def lookup(self, product_ids: pa.Array | pa.ChunkedArray) -> Ints:
        """Return the row of each product, int64 [n]; -1 for one that the table does not have."""
        return self.ids.lookup(product_ids).astype(np.int64)

    def product_ids(self, rows: Ints) -> pa.Array:
        """Return the ids of the items at `rows` [n]."""
        return self.ids.strings.take(pa.array(rows.ravel()))

    def unknown_categories(self, categories: Sequence[str | None]) -> list[str]:
        """Return those of `categories` that no item is in or below, each once."""
        distinct = list(dict.fromkeys(category for category in categories if category is not None))
        inside = _inside(distinct, self._categories[1])[1]
        return [category for category, found in zip(distinct, inside, strict=False) if not found.any()]

    def recommend(
        self,
        triggers: TriggerLists,
        k: int,
        categories: Sequence[str | None] | None = None,
        allowed: npt.NDArray[np.bool_] | None = None,
        most_per_category: int | None = None,
    ) -> Recommended:
        """Return up to `k` items for each request. Its own triggers are never among them.

        - `categories` [m]: the category of each request's query, a path joined by ` > `: only items in it or below it
          are recommended, and only triggers in it count unless there is none; None for any category.
        - `allowed` bool [items]: the items that may be recommended, such as those in stock; None for all.
        - `most_per_category`: the most items of one category in a list; None for no limit. Items without a
          category have no limit.

        Of equal scores the lower row comes first.
        """
        requests = len(triggers.starts) - 1
        codes, names = self._categories
        k = min(k, len(self.table))
        wanted, inside = _inside(categories or [None] * requests, names)
        fitting = triggers._replace(weights=_fitting_weights(triggers, codes, wanted, inside))
        items = np.full((requests, k), -1, np.int64)
        scores = np.full((requests, k), -np.inf, np.float32)
        brought = np.full((requests, k), -1, np.int64)
        in_stock = np.ones(len(self.table), np.bool_) if allowed is None else allowed

        lists = _Lists(self.table.neighbours, self.table.scores, self.table.temperature)
        rules = _Rules(in_stock, codes, len(names) - 1, most_per_category or k)

        def merge(part: slice) -> None:
            own = fitting._replace(starts=fitting.starts[part.start : part.stop + 1])
            _merge(lists, own, rules, wanted[part], inside, Recommended(items[part], scores[part], brought[part]))

        parts = [slice(start, min(start + PART, requests)) for start in range(0, requests, PART)]
        with ThreadPoolExecutor(min(len(parts) or 1, os.cpu_count() or 1)) as pool:
            list(pool.map(merge, parts))
        return Recommended(items, scores, brought)

    @cached_property
    def _categories(self) -> tuple[Ints, list[str | None]]:
        """The number of each item's category, int64 [items], and the name of each number; None for no category."""
        encoded = self.table.items["category"].combine_chunks().dictionary_encode()
        names: list[str | None] = [*encoded.dictionary.to_pylist(), None]
        return np.asarray(encoded.indices.fill_null(len(names) - 1).to_numpy(), np.int64), names


def load(store: Store, reference: str) -> Recommender:
    """Load the table `reference`, such as `table/items`, from `store`."""
    return recommender(ItemTable.load(store.path(reference)))


def recommender(table: ItemTable) -> Recommender:
    """Return what recommends from `table`, whose items are in ascending order of their ids."""
    return Recommender(table, NodeIds.assign(table.items["product_id"].combine_chunks()))


PART = 512
"""How many requests a thread merges at a time."""


def _inside(categories: Sequence[str | None], names: list[str | None]) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return a number for the category of each request, [m], and whether each item category is in it, [numbers, names].

    A category has itself and those below it; None has all.
    """
    distinct = list(dict.fromkeys(categories))
    number = {category: place for place, category in enumerate(distinct)}
    inside = np.ones((max(len(distinct), 1), len(names)), np.bool_)
    for place, category in enumerate(distinct):
        if category is not None:
            below = f"{category}{CATEGORY_SEPARATOR}"
            inside[place] = [name is not None and (name == category or name.startswith(below)) for name in names]
    return np.array([number[category] for category in categories], np.int64), inside


def _fitting_weights(triggers: TriggerLists, codes: Ints, wanted: Ints, inside: npt.NDArray[np.bool_]) -> Floats:
    """Return the weights of the triggers, 0 for those outside the category of a request that has some inside."""
    if inside.all():
        return triggers.weights
    rows = np.repeat(np.arange(len(wanted)), np.diff(triggers.starts))
    fits = inside[wanted[rows], codes[triggers.items]]
    return np.where(fitting_or_all(rows, fits & (triggers.weights > 0), len(wanted)), triggers.weights, 0.0)


class _Lists(NamedTuple):
    """The lists of the table, as numba takes them: `neighbours` and `scores` [items, K], best first."""

    neighbours: Any
    scores: Any
    temperature: float


class _Rules(NamedTuple):
    """Which items may be in a list: those `allowed` bool [items], and of each of the `categories` [items] at most
    `most`; `no_category` has no limit."""

    allowed: Any
    categories: Any
    no_category: int
    most: int


class _Sums(NamedTuple):
    """Sums of each item, [items], so far; 0, False or -1 between requests.

    - `mass`: the sum of its shares; `largest`: the largest of them, which `trigger` brought, -1 for none.
    - `found`: the items that have a share, in the order of the first.
    - `weight`: its weight as a trigger of the request; `is_trigger`: whether it is one.
    - `listed`: by category, the items in the list.
    """

    mass: Any
    largest: Any
    trigger: Any
    found: Any
    weight: Any
    is_trigger: Any
    listed: Any


@compiled
def _merge(
    lists: _Lists, requests: TriggerLists, rules: _Rules, wanted: Any, inside: Any, recommended: Recommended
) -> None:
    """Write the best items of each request to `recommended`. Only items inside the category `wanted` [m] are."""
    size, k = len(lists.neighbours), recommended.items.shape[1]
    sums = _Sums(
        np.zeros(size),
        np.zeros(size),
        np.full(size, -1),
        np.empty(size, np.int64),
        np.zeros(size),
        np.zeros(size, np.bool_),
        np.zeros(rules.no_category + 1, np.int64),
    )
    for request in range(len(requests.starts) - 1):
        begin, end = requests.starts[request], requests.starts[request + 1]
        own = requests.items[begin:end]
        triggers, parts = _parts_of_triggers(own, requests.weights[begin:end], sums)
        highest = _highest_score(lists, triggers)
        count = _add_shares(lists, triggers, parts, highest, rules, inside[wanted[request]], sums)
        ranked = _best_first(sums.found[:count], sums.mass, k if rules.most >= k else count)
        filled = _fill(ranked, rules, sums, recommended.items[request])
        for place in range(filled):
            item = recommended.items[request, place]
            recommended.scores[request, place] = highest + lists.temperature * np.log(sums.mass[item])
            recommended.triggers[request, place] = sums.trigger[item]
        _clear(own, sums.found[:count], rules, sums)


@compiled
def _parts_of_triggers(own: Any, weights: Any, sums: _Sums) -> Any:
    """Return the triggers that have a weight, each once, and v_t / sum v of each."""
    for trigger, weight in zip(own, weights):  # noqa: B905 (numba has no strict)
        sums.is_trigger[trigger] = True
        sums.weight[trigger] += weight
    triggers, parts = np.empty(len(own), np.int64), np.empty(len(own))
    count, total = 0, 0.0
    for trigger in own:
        if sums.weight[trigger] > 0:
            triggers[count], parts[count] = trigger, sums.weight[trigger] ** DAMPING
            total += parts[count]
            count += 1
        sums.weight[trigger] = 0.0
    return triggers[:count], parts[:count] / total


@compiled
def _highest_score(lists: _Lists, triggers: Any) -> float:
    """Return the highest score in the lists of `triggers`; less it, no power of e in a share is too large."""
    highest = -np.inf
    for trigger in triggers:
        if lists.neighbours.shape[1] and lists.neighbours[trigger, 0] >= 0:
            highest = max(highest, lists.scores[trigger, 0])
    return highest


@compiled
def _add_shares(
    lists: _Lists, triggers: Any, parts: Any, highest: float, rules: _Rules, inside: Any, sums: _Sums
) -> int:
    """Add v_t / sum v * e^{(s_ti - highest) / tau} to each item i of the list of each trigger t; return how many."""
    count = 0
    for place in range(len(triggers)):
        trigger = triggers[place]
        for rank in range(lists.neighbours.shape[1]):
            item = lists.neighbours[trigger, rank]
            if item < 0:
                break
            if sums.is_trigger[item] or not rules.allowed[item] or not inside[rules.categories[item]]:
                continue
            share = parts[place] * np.exp((lists.scores[trigger, rank] - highest) / lists.temperature)
            if sums.trigger[item] < 0:
                sums.found[count] = item
                count += 1
            if sums.trigger[item] < 0 or share > sums.largest[item]:
                sums.largest[item], sums.trigger[item] = share, trigger
            sums.mass[item] += share
    return count


@compiled
def _best_first(found: Any, mass: Any, wanted: int) -> Any:
    """Return the items of `found`, those of the most mass first, of equal mass the lower row.

    They are at least the best `wanted`, and all that equal the last of these.
    """
    if len(found) > wanted:
        values = mass[found]
        found = found[values >= np.partition(values, len(found) - wanted)[len(found) - wanted]]
    rows = np.sort(found)
    return rows[np.argsort(-mass[rows], kind="mergesort")]


@compiled
def _fill(ranked: Any, rules: _Rules, sums: _Sums, items: Any) -> int:
    """Write the first of the `ranked` items that the limit of a category allows to `items` [k]; return how many."""
    filled = 0
    for item in ranked:
        category = rules.categories[item]
        if filled < len(items) and (sums.listed[category] < rules.most or category == rules.no_category):
            items[filled] = item
            sums.listed[category] += 1
            filled += 1
    return filled


@compiled
def _clear(own: Any, found: Any, rules: _Rules, sums: _Sums) -> None:
    for trigger in own:
        sums.is_trigger[trigger] = False
    for item in found:
        sums.mass[item], sums.largest[item], sums.trigger[item] = 0.0, 0.0, -1
        sums.listed[rules.categories[item]] = 0
