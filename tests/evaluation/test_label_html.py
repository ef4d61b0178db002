"""The page of query classification: changed queries against a loop, neighbours by weight, nothing from elsewhere."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from raylevance.evaluation.classification_metrics import evaluate_predictions, label_matrix, predictions_of
from raylevance.evaluation.label_html import MOST_NEIGHBOURS, LabelHtml, changed_queries, neighbours, render_label_html


@pytest.fixture
def report() -> LabelHtml:
    rng = np.random.default_rng(0)
    own = [[0], [1], [2], [1, 3], [0], [4], [2]]
    truth = label_matrix(own, 5)
    predicted = {name: predictions_of(rng.random((7, 5))) for name in ("zero-shot", "trained")}
    summary = {name: evaluate_predictions(each, truth) for name, each in predicted.items()}
    graph = sparse.csr_matrix(sparse.random(20, 20, 0.9, random_state=rng))
    names = [f"label <{number}>" for number in range(5)]
    nodes = [*names, *(f"root {number}" for number in range(15))]
    queries = [f"query & {number}" for number in range(7)]
    changes = [("zero-shot", "trained")]
    return LabelHtml("A <title>", names, queries, truth, predicted, summary, changes, graph, nodes, 1)


def test_changed_queries_are_those_of_a_loop(report: LabelHtml) -> None:
    right, wrong = changed_queries(report, "zero-shot", "trained")
    own = [set(report.truth[[row]].indices.tolist()) for row in range(7)]
    hits = {name: [int(each.best[row, 0]) in own[row] for row in range(7)] for name, each in report.predicted.items()}
    gained = [row for row in range(7) if hits["trained"][row] and not hits["zero-shot"][row]]
    lost = [row for row in range(7) if hits["zero-shot"][row] and not hits["trained"][row]]
    assert gained or lost
    assert [row["query"] for row in right] == [report.queries[row] for row in gained]
    assert [row["query"] for row in wrong] == [report.queries[row] for row in lost]
    for row in right:
        assert row["after"] in row["labels"] and row["before"] not in row["labels"]
    assert changed_queries(report, "trained", "zero-shot") == (
        [row | {"before": row["after"], "after": row["before"]} for row in wrong],
        [row | {"before": row["after"], "after": row["before"]} for row in right],
    )


def test_neighbours_are_the_heaviest_that_the_label_hears(report: LabelHtml) -> None:
    assert report.graph is not None
    weights = report.graph.toarray()[1].copy()
    weights[1] = 0
    expected = [node for node in np.argsort(-weights, kind="stable") if weights[node]][:MOST_NEIGHBOURS]
    found = neighbours(report)
    assert [each["name"] for each in found] == [report.nodes[node] for node in expected]
    assert [each["weight"] for each in found] == pytest.approx(weights[expected].tolist())
    assert len({(each["x"], each["y"]) for each in found}) == len(found)


def test_the_page_escapes_texts_and_loads_nothing(report: LabelHtml) -> None:
    page = render_label_html(report)
    assert "A &lt;title&gt;" in page and "<title>A <" not in page and "label <" not in page
    assert not re.search(r"(src|href)=|https?://", page)
    assert page == render_label_html(report)
    alone = replace(report, graph=None)
    assert neighbours(alone) == [] and "label graph" not in render_label_html(alone)
    silent = replace(report, graph=sparse.csr_matrix((20, 20)))
    assert "hears no other label" in render_label_html(silent)
