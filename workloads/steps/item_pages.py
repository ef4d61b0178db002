"""The HTML page of an item retrieval report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from raylevance.data.schema import CATEGORY_SEPARATOR
from raylevance.errors import UsageError, nearest
from raylevance.evaluation.item_html import ItemEdge, ItemHtml, ListedItem, RequestLists, render_item_html
from raylevance.graph.csr import Csr
from raylevance.graph.item_graph import ItemGraph
from raylevance.graph.item_objectives import above_chance
from workloads.steps.item_data import ItemData

if TYPE_CHECKING:
    from workloads.steps.item_report import TestRequests

Ints = npt.NDArray[np.int64]

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
    asked: "TestRequests",
    lists: Mapping[str, Ints],
    summary: Mapping[str, Mapping[str, Any]],
    picture: str,
    shown: str | None,
) -> None:
    """Write the page of the requests `asked`.

    - `lists`: the items of the systems that stand side by side, the model first, int64 [requests, at least `COUNTED`].
    - `summary`: the metrics of all systems. `picture`: recall by popularity, as SVG.
    - `shown`: the product_id of the item whose edges are drawn; None for the item that most events are about.
    """
    ids = graph.items["product_id"].to_pylist()
    item = ids.index(shown) if shown is not None else int(graph.event_counts.sum(axis=1).argmax())
    compared = list(lists)
    examples = chosen_examples([asked.targets.hits(lists[name][:, :COUNTED]).sum(axis=1) for name in compared])
    edges = item_edges(graph, item)
    needed = {item, *(code % len(ids) for _, code, _ in edges)}
    for row in {row for rows in examples.values() for row in rows}:
        needed |= {*_own(asked.triggers, row)[:MOST_NAMES], *_own(asked.targets, row)[:MOST_NAMES]}
        for name in compared:
            needed |= {int(each) for each in lists[name][row, :LISTED] if each >= 0}
    names = item_names(data, graph, needed)

    def described(row: int) -> RequestLists:
        targets = _own(asked.targets, row)
        request, query = (asked.ids[name][row].as_py() for name in ("request_id", "query_id"))
        return RequestLists(
            request=f"request {request}" + (f", query {query}" if query else ""),
            triggers=_shortened([names[each] for each in _own(asked.triggers, row)[:MOST_NAMES]], asked.triggers, row),
            targets=_shortened([names[each] for each in targets[:MOST_NAMES]], asked.targets, row),
            found={name: len(set(lists[name][row, :COUNTED].tolist()) & set(targets)) for name in compared},
            lists={
                name: [
                    ListedItem(names[each], each in targets) for each in lists[name][row, :LISTED].tolist() if each >= 0
                ]
                for name in compared
            },
        )

    headings = {heading.format(*compared): rows for heading, rows in examples.items() if rows}
    page = ItemHtml(
        title=f"Item retrieval: {data.tables.name.partition('/')[2]}",
        requests=len(asked.targets.counts),
        summary=summary,
        picture=picture,
        examples={heading: [described(row) for row in rows] for heading, rows in headings.items()},
        counted=COUNTED,
        item=names[item],
        edges=[
            ItemEdge(kind, names[code % len(ids)] + (" (before its first event)" if code >= len(ids) else ""), weight)
            for kind, code, weight in edges
        ],
    )
    file.write_text(render_item_html(page), encoding="utf-8")


def chosen_examples(hits: Sequence[Ints]) -> dict[str, list[int]]:
    """Return the requests that are shown, by heading: where the first system finds most more than the second and the
    other way round, or, of one system, where it finds most. `hits` [requests] are targets found, of each system."""
    if len(hits) == 1:
        order = np.argsort(-hits[0], kind="stable")[:EXAMPLES]
        return {"Where {0} finds most": [int(row) for row in order if hits[0][row] > 0]}
    more = hits[0] - hits[1]
    best, worst = (np.argsort(side, kind="stable")[:EXAMPLES] for side in (-more, more))
    return {
        "Where {0} finds more than {1}": [int(row) for row in best if more[row] > 0],
        "Where {1} finds more than {0}": [int(row) for row in worst if more[row] < 0],
    }


def item_edges(graph: ItemGraph, item: int) -> list[tuple[str, int, float]]:
    """Return the heaviest edges of each kind from an item: kind, number of the other item as in the graph, weight.

    Those of an objective are the ones that it is trained on, above chance.
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
    if shown is not None and not pc.any(pc.equal(data.products["product_id"], shown)).as_py():
        ids = data.products["product_id"].to_pylist()
        raise UsageError(f"report_item={shown}: {data.tables.ref} has no such product; {nearest(shown, ids)}")


def _own(lists: Any, row: int) -> list[int]:
    return [int(each) for each in lists.items[lists.starts[row] : lists.starts[row + 1]]]


def _shortened(names: list[str], lists: Any, row: int) -> list[str]:
    left_out = int(lists.starts[row + 1] - lists.starts[row]) - len(names)
    return [*names, f"and {left_out} more"] if left_out > 0 else names
