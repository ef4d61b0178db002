"""Render the lists of item systems side by side, and the item graph around an item, as an HTML page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylevance.evaluation.page_templates import page_template

METRICS = ("recall@50", "recall@200", "recall_p@50", "recall_p@200", "ndcg@50", "good@50", "tail@50")
"""The metrics of the page's table, each with its interval."""
COLOURS = ("#2d6cdf", "#b3263a", "#1f8a4c", "#a06a00", "#6b4fb8")
WIDTH, HEIGHT = 860, 520


@dataclass(frozen=True)
class ListedItem:
    """An item of a list: its name, and whether the user chose it in the request."""

    name: str
    chosen: bool


@dataclass(frozen=True)
class RequestLists:
    """The items that systems recommend for a request.

    - `request`: its id, with the query where it has one.
    - `triggers`, `targets`: names of the items chosen before, the highest weight first, and of those to find.
    - `found`: how many targets each system finds in as many items as the metric counts, by the system's name.
    - `lists`: the first items of each system.
    """

    request: str
    triggers: Sequence[str]
    targets: Sequence[str]
    found: Mapping[str, int]
    lists: Mapping[str, Sequence[ListedItem]]


@dataclass(frozen=True)
class ItemEdge:
    """An edge of the item graph from the item that is drawn: its kind, the name of the other item, and its weight."""

    kind: str
    name: str
    weight: float


@dataclass(frozen=True)
class ItemHtml:
    """The contents of the page.

    - `requests`, `left_out`: how many requests were measured, and how many were not, by reason.
    - `cut`: the time at which the test part of the log begins.
    - `summary`: the metrics of each system, [mean, low, high] each, and `coverage@50`. The last system is the model.
    - `picture`: recall by popularity, an SVG file's text that is not escaped.
    - `examples`: requests by heading.
    - `counted`: how many items of each list `RequestLists.found` counts.
    - `item`, `edges`: the name of an item, and the edges of the graph from it.
    """

    title: str
    requests: int
    left_out: Mapping[str, int]
    cut: str
    summary: Mapping[str, Mapping[str, Any]]
    picture: str
    examples: Mapping[str, Sequence[RequestLists]]
    counted: int
    item: str
    edges: Sequence[ItemEdge]


def render_item_html(report: ItemHtml) -> str:
    """Return the page, which loads nothing from elsewhere. All names are escaped."""
    return page_template("item_html.html.j2").render(
        report=report,
        metrics=METRICS,
        picture=report.picture[report.picture.index("<svg") :],
        edges=drawn_edges(report.edges),
        size=(WIDTH, HEIGHT),
    )


def drawn_edges(edges: Sequence[ItemEdge]) -> list[dict[str, Any]]:
    """Return where to draw each edge around the item: x, y, width and colour, with its kind, name and weight.

    Widths compare edges of one kind; the heaviest of each kind has the same.
    """
    kinds = list(dict.fromkeys(edge.kind for edge in edges))
    heaviest = {kind: max(edge.weight for edge in edges if edge.kind == kind) for kind in kinds}
    found = []
    for place, edge in enumerate(edges):
        angle = 2 * math.pi * place / len(edges) - math.pi / 2
        found.append(
            {
                "kind": edge.kind,
                "name": edge.name,
                "weight": edge.weight,
                "colour": COLOURS[kinds.index(edge.kind) % len(COLOURS)],
                "x": round(WIDTH / 2 + 0.36 * WIDTH * math.cos(angle)),
                "y": round(HEIGHT / 2 + 0.43 * HEIGHT * math.sin(angle)),
                "width": round(0.5 + 5 * edge.weight / heaviest[edge.kind], 1),
            }
        )
    return found
