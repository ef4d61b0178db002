"""Render what systems say about labelled queries, and the neighbourhood of a label in its graph, as an HTML page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from raylevance.evaluation.classification_metrics import Labels, Predictions, correct_at
from raylevance.evaluation.page_templates import page_template

METRICS = {"accuracy@1": "accuracy@1", "accuracy@3": "accuracy@3", "micro_f1": "micro F1", "macro_f1": "macro F1"}
MOST_QUERIES, MOST_NEIGHBOURS = 12, 14
"""How many queries of each change, and how many neighbours of the label, are shown."""
WIDTH, HEIGHT = 760, 420


@dataclass(frozen=True)
class LabelHtml:
    """The contents of the page.

    - `names` [labels] and `queries` [n] are texts, and `truth` [n, labels] says which labels each query has.
    - `predicted` has the predictions of each system, and `summary` its metrics with intervals under ci95.
    - `changes` are pairs of systems: which queries the second turns right or wrong, by their best labels.
    - `graph` [nodes, nodes] is the normalised label graph, whose row is the label that hears its column, None without
      one. `nodes` [nodes] are the names of its labels, which are more than those that are predicted.
    - `chosen` is the node whose neighbourhood is drawn.
    """

    title: str
    names: Sequence[str]
    queries: Sequence[str]
    truth: Labels
    predicted: Mapping[str, Predictions]
    summary: Mapping[str, Any]
    changes: Sequence[tuple[str, str]]
    graph: "sparse.csr_matrix[Any] | None"
    nodes: Sequence[str]
    chosen: int


def render_label_html(report: LabelHtml) -> str:
    """Return the page, which loads nothing from elsewhere. Names and queries are escaped."""
    return page_template("label_html.html.j2").render(
        report=report,
        metrics=METRICS,
        changes=[(before, after, *changed_queries(report, before, after)) for before, after in report.changes],
        neighbours=neighbours(report),
        size=(WIDTH, HEIGHT),
        most=MOST_QUERIES,
    )


def changed_queries(report: LabelHtml, before: str, after: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the queries whose best label `after` gets right and `before` does not, and the other way round.

    Each has `query`, `labels` (its own), `before` and `after` (the best labels). All are returned.
    """
    first, second = (correct_at(report.predicted[name], report.truth, 1) > 0 for name in (before, after))
    sides = (np.flatnonzero(second & ~first), np.flatnonzero(first & ~second))
    return tuple([_described(report, int(row), before, after) for row in rows] for rows in sides)  # type: ignore[return-value]


def _described(report: LabelHtml, row: int, before: str, after: str) -> dict[str, Any]:
    best = (int(report.predicted[name].best[row, 0]) for name in (before, after))
    named = [report.names[column] for column in best]
    own = [report.names[column] for column in report.truth[[row]].indices.tolist()]
    return {"query": report.queries[row], "labels": own, "before": named[0], "after": named[1]}


def neighbours(report: LabelHtml) -> list[dict[str, Any]]:
    """Return the neighbours that the chosen label hears, the heaviest first: `name`, `weight`, and where to draw it."""
    if report.graph is None:
        return []
    row = report.graph[[report.chosen]].tocsr()
    cells = [(float(weight), int(node)) for weight, node in zip(row.data, row.indices, strict=True)]
    cells = sorted((cell for cell in cells if cell[1] != report.chosen), key=lambda cell: (-cell[0], cell[1]))
    shown, found = cells[:MOST_NEIGHBOURS], []
    for place, (weight, node) in enumerate(shown):
        angle = 2 * math.pi * place / len(shown) - math.pi / 2
        x, y = WIDTH / 2 + 0.36 * WIDTH * math.cos(angle), HEIGHT / 2 + 0.41 * HEIGHT * math.sin(angle)
        width = 0.5 + 6 * weight / max(shown[0][0], 1e-9)
        found.append(
            {"name": report.nodes[node], "weight": weight, "x": round(x), "y": round(y), "width": round(width, 1)}
        )
    return found
