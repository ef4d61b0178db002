"""The HTML pages of query classification reports."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from raylevance.data.judged_tables import TEST
from raylevance.errors import UsageError, nearest
from raylevance.evaluation.classification_metrics import Labels, Predictions, correct_at, label_matrix
from raylevance.evaluation.label_html import LabelHtml, render_label_html
from workloads.steps.label_data import LabelData

PAGE = "report-{}.html"
"""The file of the page of the task of a number."""


def write_page(
    folder: Path,
    labels: LabelData,
    task: str,
    predicted: Mapping[str, Predictions],
    summary: Mapping[str, Any],
    changes: Sequence[tuple[str, str]],
    graph: "sparse.csr_matrix[Any] | None" = None,
    shown: str | None = None,
) -> None:
    """Write the page of a task: which test queries each second system of `changes` turns right or wrong, and the graph.

    `shown` is the id of the label whose neighbourhood is drawn; None for the one that most test queries of the last
    system have and do not get. Another task's pages ignore an id that they do not have.
    """
    space, rows = labels.space, labels.space.rows(task)
    queries, own = labels.columns_of(labels.queries(TEST), task)
    predicted_rows = rows.start + np.flatnonzero(space.predicted[rows])
    truth = label_matrix(own, len(predicted_rows))
    ids = space.label_ids[rows]
    node = ids.index(shown) if shown in ids else hardest(list(predicted.values())[-1], truth)
    if shown not in ids:
        node = int(predicted_rows[node]) - rows.start
    page = LabelHtml(
        title=f"Query classification: {task}",
        names=[ids[row - rows.start] for row in predicted_rows],
        queries=queries,
        truth=truth,
        predicted=predicted,
        summary=summary,
        changes=[pair for pair in changes if set(pair) <= predicted.keys()],
        graph=graph,
        nodes=ids,
        chosen=node,
    )
    (folder / PAGE.format(space.tasks.index(task))).write_text(render_label_html(page), encoding="utf-8")


def hardest(predictions: Predictions, truth: Labels) -> int:
    """Return the column of the label that most queries have whose best label is wrong; the first of equal ones."""
    wrong = truth[correct_at(predictions, truth, 1) == 0]
    return int(np.asarray(wrong.sum(axis=0)).ravel().argmax())


def check_shown_label(labels: LabelData, shown: str | None) -> None:
    """Raise `UsageError` for a label that no task has."""
    if shown is not None and shown not in labels.space.label_ids:
        raise UsageError(f"report_label={shown}: no such label; {nearest(shown, labels.space.label_ids)}")
