"""The two-level item graph: objectives from triggers to items, and neighbours within a category.

A graph is a folder:

- `items.parquet`: the products by number (product_id, category, brand, price), the number of events of each action, and
  `first_time`, when the item first had an event, null where it had none.
- `queries.parquet`: the category that the users of each query chose most often, as a number of the categories; without
  rows in a log without queries.
- `requests/`: the requests that the graph is built from, rows of `REQUESTS`.
- `objective/<name>/`: the graph of each objective that the log has, as shards (see `item_objectives`). The triggers of
  a request with a query are those that fit the query's category (see `query_categories`).
- `neighbours/`: items chosen by one user on one day within a category, weighted by PPMI, as shards.

Source: GCL-MO (arXiv 2307.04322), 4.2; the weights and cuts are our reading.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data
from pydantic import PositiveFloat, PositiveInt

from raylevance.config import Settings
from raylevance.data.parquet_parts import PartFiles, write_parts
from raylevance.data.schema import ACTIONS
from raylevance.errors import RaylevanceError
from raylevance.graph.building import project_on_cluster
from raylevance.graph.csr import Csr
from raylevance.graph.edges import NodeIds
from raylevance.graph.item_choices import chosen_together
from raylevance.graph.item_objectives import (
    LARGEST_BASKET,
    NEVER,
    OBJECTIVES,
    Objective,
    basket_sizes,
    write_objectives,
)
from raylevance.graph.item_relevance import write_judged_relevance
from raylevance.graph.item_requests import REQUESTS, TriggerSettings, make_requests
from raylevance.graph.metapaths import PpmiSettings
from raylevance.graph.query_categories import query_categories, with_fitting_triggers

Ints = npt.NDArray[np.int64]

QUERIES = "queries.parquet"
ITEMS, REQUESTS_FOLDER, OBJECTIVE_FOLDER, NEIGHBOURS = "items.parquet", "requests", "objective", "neighbours"


class NeighbourSettings(Settings):
    """Which items are neighbours of an item: those chosen with it by one user on one day, within its category.

    Items without a category are in one category together.
    """

    top: PositiveInt = 20
    """Neighbours of an item, those of the highest PPMI."""
    minimum_support: PositiveInt = 1
    """On how many days of users, in UTC, both must have been chosen: two days of one user are two."""
    shift: PositiveFloat = 1.0
    """The k in PPMI = max(0, PMI - log k)."""


class ItemGraphSettings(Settings):
    """How the item graph is built from a log."""

    triggers: TriggerSettings = TriggerSettings()
    neighbours: NeighbourSettings = NeighbourSettings()
    relevance: Literal["auto", "judgements", "category", "basket", "none"] = "auto"
    """When two items are relevant to each other: both of grade 2 for one query that is judged, or both of one category
    and in one request, or both chosen in one request. auto takes judgements where the data has them, else categories
    where a product has one, else baskets."""


@dataclass(frozen=True)
class ItemGraph:
    """A graph that is loaded. `objectives` holds the graphs of the objectives that the log has."""

    items: pa.Table
    queries: pa.Table
    objectives: Mapping[Objective, Csr]
    neighbours: Csr

    def __len__(self) -> int:
        return int(self.items.num_rows)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load the graph in `folder`. Raises `RaylevanceError` if a file is missing or damaged."""
        missing = [name for name in (ITEMS, QUERIES) if not (folder / name).is_file()]
        if missing:
            raise RaylevanceError(f"{folder}: not an item graph: {missing[0]} is missing")
        present = [name for name in OBJECTIVES if (folder / OBJECTIVE_FOLDER / name).is_dir()]
        objectives = {name: Csr.load(folder / OBJECTIVE_FOLDER / name) for name in present}
        items, queries = pq.read_table(folder / ITEMS), pq.read_table(folder / QUERIES)
        return cls(items, queries, objectives, Csr.load(folder / NEIGHBOURS))

    @property
    def event_counts(self) -> npt.NDArray[np.int64]:
        """Return how many events each item has, of each action, int64 [items, ACTIONS]."""
        return np.stack([self.items[action].to_numpy() for action in ACTIONS], axis=1)


def build_item_graph(
    events: ray.data.Dataset,
    products: pa.Table,
    categories: Ints,
    below: Ints,
    judgements: pa.Table | None,
    folder: Path,
    settings: ItemGraphSettings,
) -> dict[str, Any]:
    """Build the graph of `events` (columns of the schema `EVENTS`), write it to `folder` and return its figures.

    - `products`: the catalogue (product_id, category, brand, price), by ascending product_id.
    - `categories`: the number of each product's category, int64 [products], 0 where it has none.
    - `below`: the numbers of the categories below each one, int64 [categories + 1, 2], of `categories_below`.
    - `judgements`: judged pairs (query_id, product_id, grade) that relevance may be learned from, or None.

    Raises `RaylevanceError` if no event is of a product, or no request has a trigger.
    """
    items = NodeIds.assign(products["product_id"].combine_chunks())
    parts = PartFiles(folder / REQUESTS_FOLDER, REQUESTS)
    if not write_parts(make_requests(events, items, settings.triggers), parts).rows:
        raise RaylevanceError("the item graph has no request: no event before its cut is of a product in the catalogue")
    requests = ray.data.read_parquet(str(folder / REQUESTS_FOLDER))
    counts, first_time, unknown = _count_events(events, items)
    times = pa.array(first_time, mask=first_time == NEVER)
    by_action = {action: counts[:, place] for place, action in enumerate(ACTIONS)}
    pq.write_table(_with_columns(products, {**by_action, "first_time": times}), folder / ITEMS)
    queries = query_categories(requests, categories)
    pq.write_table(queries, folder / QUERIES)
    fitting = requests
    if queries.num_rows:
        fit = functools.partial(with_fitting_triggers, known=queries, categories=categories, below=below)
        fitting = requests.map_batches(fit, batch_format="pyarrow", batch_size=None)
    objectives = _objectives(counts, settings)
    from_requests = [name for name in objectives if name != "relevance" or judgements is None]
    by_basket = relevance_by_basket(settings, categories, judgements)
    related = None if by_basket else categories
    edges = write_objectives(fitting, folder / OBJECTIVE_FOLDER, first_time, from_requests, related)
    queries_cut = 0
    if "relevance" in objectives and judgements is not None:
        judged, queries_cut = write_judged_relevance(judgements, items, folder / OBJECTIVE_FOLDER / "relevance")
        edges = {"relevance": judged, **edges}
    if not any(edges.values()):
        raise RaylevanceError("the item graph has no edge: no user of the log chose anything before a request")
    neighbour_edges = _write_neighbours(requests, categories, settings.neighbours, folder / NEIGHBOURS)
    counted = requests.map_batches(_count_requests, batch_format="pyarrow", batch_size=None)
    figures = counted.sum(["requests", "with_triggers", "too_large"])
    return {
        "items": len(items),
        "items_with_events": int((first_time != NEVER).sum()),
        "events": int(counts.sum()),
        "events_of_unknown_products": unknown,
        "requests": int(figures["sum(requests)"]),
        "requests_with_triggers": int(figures["sum(with_triggers)"]),
        "baskets_too_large": int(figures["sum(too_large)"]) if by_basket else 0,
        "queries_with_too_many_items": queries_cut,
        "edges": edges,
        "neighbour_edges": neighbour_edges,
        "objectives_without_edges": [name for name in OBJECTIVES if not edges.get(name)],
    }


def relevance_by_basket(settings: ItemGraphSettings, categories: Ints, judgements: pa.Table | None) -> bool:
    """Return whether baskets say which items are relevant to each other; the arguments are `build_item_graph`'s."""
    no_other = judgements is None and not categories.any()
    return settings.relevance == "basket" or (settings.relevance == "auto" and no_other)


def _objectives(counts: Ints, settings: ItemGraphSettings) -> list[Objective]:
    """Return the objectives that the log can have: those with an action of their own."""
    seen = counts.sum(axis=0) > 0
    found: list[Objective] = []
    if settings.relevance != "none":
        found.append("relevance")
    if seen[ACTIONS.index("exposure")]:
        found.append("exposure")
    if seen[ACTIONS.index("click")] or seen[ACTIONS.index("cart")]:
        found.append("click")
    if seen[ACTIONS.index("purchase")]:
        found.append("purchase")
    return found


def _write_neighbours(requests: ray.data.Dataset, categories: Ints, settings: NeighbourSettings, folder: Path) -> int:
    """Write the neighbour level to `folder`, weighted by PPMI, and return how many edges it has."""
    groups = chosen_together(requests, categories)
    ppmi = PpmiSettings(shift=settings.shift, minimum_support=settings.minimum_support, top=settings.top)
    project_on_cluster(groups.transposed(), groups, ppmi, folder)
    return len(Csr.load(folder).indices)


def _count_events(events: ray.data.Dataset, items: NodeIds) -> tuple[Ints, Ints, int]:
    """Return how many events each item has, of each action, int64 [items, ACTIONS], the time of the first, int64
    [items], `NEVER` without one, and how many events are of no item."""

    def count(block: pa.Table) -> pa.Table:
        columns = {"item": items.lookup(block["product_id"]), "action": block["action"]}
        numbered = pa.table({**columns, "time": block["timestamp"].cast(pa.int64())})
        return numbered.group_by(["item", "action"]).aggregate([([], "count_all"), ("time", "min")])

    unknown = 0
    counts, first_time = np.zeros((len(items), len(ACTIONS)), np.int64), np.full(len(items), NEVER)
    partial = events.select_columns(["product_id", "action", "timestamp"]).map_batches(
        count, batch_format="pyarrow", batch_size=None
    )
    blocks: Any = partial.iter_batches(batch_format="pyarrow", batch_size=None)
    for block in blocks:
        item, seen, time = (block[name].to_numpy() for name in ("item", "count_all", "time_min"))
        action = pc.index_in(block["action"], pa.array(ACTIONS)).to_numpy()
        known = item >= 0
        np.add.at(counts, (item[known], action[known]), seen[known])
        np.minimum.at(first_time, item[known], time[known])
        unknown += int(seen[~known].sum())
    return counts, first_time, unknown


def _count_requests(requests: pa.Table) -> pa.Table:
    triggers = np.diff(requests["triggers"].combine_chunks().offsets.to_numpy())
    too_large = int((basket_sizes(requests) > LARGEST_BASKET).sum())
    counts = {"requests": len(triggers), "with_triggers": int((triggers > 0).sum()), "too_large": too_large}
    return pa.table({name: [count] for name, count in counts.items()})


def _with_columns(table: pa.Table, columns: Mapping[str, Any]) -> pa.Table:
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values) if not isinstance(values, pa.Array) else values)
    return table
