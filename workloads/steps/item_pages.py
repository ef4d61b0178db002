"""The HTML page of an item retrieval report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from raylevance.data.schema import CATEGORY_SEPARATOR
from raylevance.errors import UsageError, quoted
from raylevance.evaluation.item_html import ItemEdge, ItemHtml, ListedItem, RequestLists, render_item_html
from raylevance.graph.csr import Csr
from raylevance.graph.item_graph import ItemGraph
from raylevance.graph.item_objectives import above_chance
from workloads.steps.item_data import ItemData, shown_time
from workloads.steps.item_measures import Ints, MeasuredSystems, TestRequests

LISTED, COUNTED = 10, 50
"""How many items of each list are shown, and in how many the targets found are counted."""
EXAMPLES, MOST_NAMES = 4, 8
"""How many requests are shown under each heading, and how many of a request's triggers and targets."""
MOST_EDGES = 6
"""How many edges of each kind are drawn: the heaviest."""


def write_item_page(
    file: Path,
    data: ItemData,
    graph: ItemGraph,
    requests: TestRequests,
    measured: MeasuredSystems,
    picture: str,
    shown: str | None,
) -> None:
    """Write the page of the test `requests`, on which one or two of the `measured` systems stand side by side.

    - `picture`: recall by popularity, as SVG.
    - `shown`: the product_id of the item whose edges are drawn; None for the item that most events are about.
    """
    ids = graph.items["product_id"].to_pylist()
    item = ids.index(shown) if shown is not None else int(graph.event_counts.sum(axis=1).argmax())
    lists = measured.lists
    rows = chosen_examples([requests.targets.hits(each[:, :COUNTED]).sum(axis=1) for each in lists.values()])
    examples = {
        heading.format(*lists): [request_lists(requests, lists, row) for row in chosen]
        for heading, chosen in rows.items()
    }
    edges = item_edges(graph, item)
    needed = {item, *(code % len(ids) for _, code, _ in edges)}
    needed |= {number for each in examples.values() for request in each for number in request.items()}
    names = item_names(data, graph, needed)
    page = ItemHtml(
        title=f"Item retrieval: {data.tables.name.partition('/')[2]}",
        requests=len(requests.targets.counts),
        left_out=requests.left_out,
        cut=shown_time(data.cut),
        summary=measured.systems,
        picture=picture,
        examples={heading: [request.named(names) for request in each] for heading, each in examples.items() if each},
        counted=COUNTED,
        item=names[item],
        edges=[
            ItemEdge(kind, names[code % len(ids)] + (" (before its first event)" if code >= len(ids) else ""), weight)
            for kind, code, weight in edges
        ],
    )
    file.write_text(render_item_html(page), encoding="utf-8")


@dataclass(frozen=True)
class NumberedLists:
    """The contents of `RequestLists` with the numbers of items, and how many triggers and targets are left out."""

    request: str
    triggers: list[int]
    more_triggers: int
    targets: list[int]
    more_targets: int
    found: dict[str, int]
    lists: dict[str, list[int]]
    chosen: frozenset[int]

    def items(self) -> set[int]:
        """Return the items that are shown."""
        return {*self.triggers, *self.targets, *(item for each in self.lists.values() for item in each)}

    def named(self, names: Mapping[int, str]) -> RequestLists:
        """Return the lists with names in place of numbers."""

        def several(items: list[int], more: int) -> list[str]:
            return [*(names[item] for item in items), *([f"and {more} more"] if more else [])]

        return RequestLists(
            self.request,
            several(self.triggers, self.more_triggers),
            several(self.targets, self.more_targets),
            self.found,
            {
                name: [ListedItem(names[item], item in self.chosen) for item in each]
                for name, each in self.lists.items()
            },
        )


def request_lists(requests: TestRequests, lists: Mapping[str, Ints], row: int) -> NumberedLists:
    """Return what is shown of the request in a row of `requests`, with the `lists` of systems, [requests, k]."""
    triggers, targets = (
        [int(item) for item in each.items[each.starts[row] : each.starts[row + 1]]]
        for each in (requests.triggers, requests.targets)
    )
    request, query = (requests.ids[name][row].as_py() for name in ("request_id", "query_id"))
    return NumberedLists(
        request=f"request {request}" + (f", query {query}" if query else ""),
        triggers=triggers[:MOST_NAMES],
        more_triggers=max(len(triggers) - MOST_NAMES, 0),
        targets=targets[:MOST_NAMES],
        more_targets=max(len(targets) - MOST_NAMES, 0),
        found={name: len(set(each[row, :COUNTED].tolist()) & set(targets)) for name, each in lists.items()},
        lists={name: [item for item in each[row, :LISTED].tolist() if item >= 0] for name, each in lists.items()},
        chosen=frozenset(targets),
    )


def chosen_examples(hits: Sequence[Ints]) -> dict[str, list[int]]:
    """Return the requests that are shown, by heading, given the targets found by one system or two, each [requests].

    They are those where one of two systems finds most more than the other. Of one system, or of two that find as many
    in each request, they are those where most are found.
    """
    most = [int(row) for row in np.argsort(-hits[0], kind="stable")[:EXAMPLES] if hits[0][row] > 0]
    if len(hits) == 1:
        return {"Where {0} finds most": most}
    more = hits[0] - hits[1]
    if not more.any():
        return {"Where {0} and {1} find most, as many as each other": most}
    best, worst = (np.argsort(side, kind="stable")[:EXAMPLES] for side in (-more, more))
    return {
        "Where {0} finds more than {1}": [int(row) for row in best if more[row] > 0],
        "Where {1} finds more than {0}": [int(row) for row in worst if more[row] < 0],
    }


def item_edges(graph: ItemGraph, item: int) -> list[tuple[str, int, float]]:
    """Return the heaviest edges of each kind from an item: kind, number of the other item as in the graph, weight.

    Of an objective they are those above chance; a training may keep fewer (`most_positives`).
    """
    kinds: dict[str, Csr] = {name: above_chance(each) for name, each in graph.objectives.items()}
    found: list[tuple[str, int, float]] = []
    for kind, each in {**kinds, "neighbour": graph.neighbours}.items():
        own = slice(int(each.indptr[item]), int(each.indptr[item + 1]))
        codes, weights = each.indices[own], each.weights[own]
        for place in np.lexsort((codes, -weights))[:MOST_EDGES].tolist():
            found.append((kind, int(codes[place]), float(weights[place])))
    return found


def item_names(data: ItemData, graph: ItemGraph, items: set[int]) -> dict[int, str]:
    """Return what to call each of `items`: its title, or its product_id and category where it has none."""
    numbers = sorted(items)
    ids = graph.items["product_id"].take(pa.array(numbers, pa.int64()))
    dataset = pyarrow.dataset.dataset(data.run.store.path(data.tables.ref) / "products", format="parquet")
    titles: dict[str, str | None] = {}
    if "title" in dataset.schema.names:
        found = dataset.to_table(
            columns=["product_id", "title"], filter=pc.field("product_id").isin(ids.combine_chunks())
        )
        titles = dict(zip(found["product_id"].to_pylist(), found["title"].to_pylist(), strict=True))
    categories = graph.items["category"].take(pa.array(numbers, pa.int64())).to_pylist()
    names = {}
    for number, product, category in zip(numbers, ids.to_pylist(), categories, strict=True):
        path = f" ({CATEGORY_SEPARATOR.join(category)})" if category else ""
        names[number] = titles.get(product) or f"{product}{path}"
    return names


def check_shown_item(data: ItemData, shown: str | None) -> None:
    """Raise `UsageError` for an item that the tables do not have."""
    ids = data.products["product_id"]
    if shown is not None and not pc.any(pc.equal(ids, shown)).as_py():
        some = quoted(ids[:3].to_pylist())
        raise UsageError(f"report_item={shown}: {data.tables.ref} has no such product; its product_ids are like {some}")
