"""Render a comparison of several systems on one set of queries as a self-contained HTML page."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup
from matplotlib.figure import Figure

from raylevance.evaluation.intervals import Estimate, bootstrap_mean
from raylevance.evaluation.page_templates import page_template
from raylevance.evaluation.ranking_metrics import GRADE_METRICS, RankedRun, evaluate_run

METRIC = "ndcg@10"
CHANGED_QUERIES = 6
"""How many queries are shown that the candidate ranks better, and how many that it ranks worse."""

SHOWN_PRODUCTS = 5
"""How many products of each ranking are shown."""

LENGTHS = {"1-2 words": (1, 2), "3 words": (3, 3), "4 words": (4, 4), "5 or more": (5, 1000)}
COLOURS = ("#8a8f98", "#c77d0a", "#2d6cdf", "#7b3fb5", "#0a8f5b", "#b3263a", "#3a3f47", "#17a2b8")
GRADE_NAMES = ("not relevant", "moderately", "relevant")


@dataclass(frozen=True)
class HtmlReport:
    """The contents of the page.

    - `runs` are the rankings of each system, in the order of the table.
    - `baseline` and `candidate` are the two systems that are compared query by query.
    - `queries` (query_id, query, locale), `judgements` and `products` (product_id, title) are tables.
    - `scores` are the cosines [n] of the judged pairs for each encoder, and `grades` [n] are the grades of these pairs.
    - `summary` has the mean of each metric for each system, with intervals under ci95 and differences under minus.
    - `margins` has, for each encoder, the margins of all and of overlapping pairs, average and worst: mean, low, high.
    - `facts` are shown as they are.
    """

    title: str
    runs: Mapping[str, RankedRun]
    baseline: str
    candidate: str
    queries: pa.Table
    judgements: pa.Table
    products: pa.Table
    scores: Mapping[str, npt.NDArray[np.floating]]
    grades: npt.NDArray[np.integer]
    summary: Mapping[str, Any]
    margins: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


def render_html(report: HtmlReport) -> str:
    """Return the page, which loads nothing from elsewhere. Titles and queries are escaped."""
    values = {system: evaluate_run(run, report.judgements, [METRIC])[METRIC] for system, run in report.runs.items()}
    words = _word_counts(report)
    better, worse = _changed_queries(report, values)
    return page_template("html_report.html.j2").render(
        report=report,
        grade_metrics=GRADE_METRICS,
        distribution=_distribution(report),
        by_length=_bars(values, {name: (words >= low) & (words <= high) for name, (low, high) in LENGTHS.items()}),
        by_frequency=_bars(values, _head_and_tail(report)),
        by_locale=_bars(values, locales) if len(locales := _locales(report)) > 1 else None,
        better=better,
        worse=worse,
        moved_by=f"{report.candidate} against {report.baseline}",
    )


def _query_ids(report: HtmlReport) -> list[str]:
    """Return the ids of the queries in the order of the values of `evaluate_run`."""
    return list(dict.fromkeys(report.judgements["query_id"].to_pylist()))


def _column_by_id(table: pa.Table, key: str, value: str) -> dict[str, str]:
    return dict(zip(table[key].to_pylist(), table[value].to_pylist(), strict=True))


def _word_counts(report: HtmlReport) -> npt.NDArray[np.int64]:
    texts = _column_by_id(report.queries, "query_id", "query")
    return np.array([len(texts[query].split()) for query in _query_ids(report)])


def _locales(report: HtmlReport) -> dict[str, npt.NDArray[np.bool_]]:
    """Return a mask [queries] for each locale."""
    locales = _column_by_id(report.queries, "query_id", "locale")
    names = np.array([locales[query] or "none" for query in _query_ids(report)])
    return {str(name): names == name for name in np.unique(names)}


def _head_and_tail(report: HtmlReport) -> dict[str, npt.NDArray[np.bool_]]:
    """Return masks [queries] of the head and the tail.

    The head is the half of the queries with the most relevant products (our choice: the traffic is not known here).
    """
    ids = _query_ids(report)
    relevant = dict.fromkeys(ids, 0)
    for query, grade in zip(*(report.judgements[name].to_pylist() for name in ("query_id", "grade")), strict=True):
        relevant[query] += grade == 2
    rank = np.argsort(np.argsort([-relevant[query] for query in ids], kind="stable"))
    head = rank < len(ids) / 2
    return {"head": head, "tail": ~head}


def _changed_queries(
    report: HtmlReport, values: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the queries with the largest gains and losses of the candidate over the baseline, with both rankings."""
    change = values[report.candidate] - values[report.baseline]
    order = np.argsort(-change, kind="stable")
    better, worse = order[change[order] > 0][:CHANGED_QUERIES], order[::-1][change[order[::-1]] < 0][:CHANGED_QUERIES]
    ids = _query_ids(report)
    changes = {ids[query]: float(change[query]) for query in (*better, *worse)}
    described = _describe_queries(report, changes)
    return [described[ids[query]] for query in better], [described[ids[query]] for query in worse]


def _describe_queries(report: HtmlReport, changes: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Return the text of each query of `changes`, its change, and the best products of both systems with labels."""
    judged = report.judgements.select(["query_id", "product_id", "label", "grade"])
    judged = judged.filter(pc.is_in(judged["query_id"], pa.array(list(changes), pa.string())))
    labels = {(row["query_id"], row["product_id"]): row["label"] or str(row["grade"]) for row in judged.to_pylist()}
    texts = _column_by_id(report.queries, "query_id", "query")
    best = {
        (query, system): sorted(scores := report.runs[system].get(query, {}), key=lambda product: -scores[product])
        for query in changes
        for system in (report.baseline, report.candidate)
    }
    shown = {product for products in best.values() for product in products[:SHOWN_PRODUCTS]}
    products = report.products.filter(pc.is_in(report.products["product_id"], pa.array(sorted(shown), pa.string())))
    titles = _column_by_id(products, "product_id", "title")
    return {
        query: {
            "query": texts[query],
            "change": change,
            "rankings": {
                system: [
                    {"title": titles[product], "label": labels.get((query, product), "-")}
                    for product in best[query, system][:SHOWN_PRODUCTS]
                ]
                for system in (report.baseline, report.candidate)
            },
        }
        for query, change in changes.items()
    }


def _distribution(report: HtmlReport) -> Markup:
    """Draw the distribution of the cosine for each grade, in a panel for each encoder, on a common axis."""
    figure = Figure(figsize=(7, 0.6 + 1.3 * len(report.scores)))
    panels = figure.subplots(len(report.scores), sharex=True, squeeze=False)[:, 0]
    low, high = (float(edge(*(edge(scores) for scores in report.scores.values()), 0.0)) for edge in (min, max))
    bins = np.linspace(low, high, 41).tolist()
    for axes, (encoder, scores) in zip(panels, report.scores.items(), strict=True):
        for grade, colour in enumerate(("#b3263a", "#c77d0a", "#0a8f5b")):
            chosen = scores[report.grades == grade]
            if len(chosen):
                label = f"{GRADE_NAMES[grade]} ({len(chosen)})"
                axes.hist(chosen, bins, density=True, histtype="stepfilled", alpha=0.35, color=colour, label=label)
        axes.set_ylabel(encoder)
        axes.set_yticks([])
    panels[0].legend(frameon=False, fontsize="small")
    panels[-1].set_xlabel("cosine")
    return _svg(figure, "Distribution of the cosine by grade of the judged pairs, for each encoder")


def _bars(values: Mapping[str, Any], groups: Mapping[str, npt.NDArray[np.bool_]]) -> Markup:
    """Draw nDCG@10 of each system in each group of queries, with 95% intervals."""
    present = {name: chosen for name, chosen in groups.items() if chosen.any()}
    figure = Figure(figsize=(7, 2.8))
    axes = figure.subplots()
    width = 0.8 / len(values)
    for index, (system, scores) in enumerate(values.items()):
        estimates = [bootstrap_mean(scores[chosen]) for chosen in present.values()]
        left = np.arange(len(present)) + index * width
        axes.bar(left, [e.mean for e in estimates], width * 0.9, yerr=_errors(estimates), label=system,
                 color=COLOURS[index % len(COLOURS)], error_kw={"elinewidth": 0.8})  # fmt: skip
    axes.set_xticks(np.arange(len(present)) + 0.4 - width / 2)
    axes.set_xticklabels([f"{name} ({int(chosen.sum())})" for name, chosen in present.items()])
    axes.set_ylabel(METRIC)
    axes.set_ylim(0, 1.05)
    axes.legend(frameon=False, ncols=3, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1))
    return _svg(figure, f"{METRIC} of each system by group of queries")


def _errors(estimates: Sequence[Estimate]) -> npt.NDArray[np.float64]:
    return np.array([[e.mean - e.low for e in estimates], [e.high - e.mean for e in estimates]]).clip(0)


def _svg(figure: Figure, alternative: str) -> Markup:
    """Return the figure as inline SVG with a text alternative. The same input gives the same bytes."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": alternative, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    return Markup('<figure role="img" aria-label="{}">').format(alternative) + Markup(drawing) + Markup("</figure>")
