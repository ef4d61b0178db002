"""A report of several systems on one set of queries: one self-contained HTML page."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
import matplotlib
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup
from matplotlib.figure import Figure

from raylevance.evaluation.intervals import Estimate, bootstrap_mean
from raylevance.evaluation.ranking import Run, evaluate_run

METRIC = "ndcg@10"
MOVED = 6
"""Queries shown on each side of the better and the worse."""
SHOWN = 5
LENGTHS = {"1-2 words": (1, 2), "3 words": (3, 3), "4 words": (4, 4), "5 or more": (5, 1000)}
COLOURS = ("#8a8f98", "#c77d0a", "#2d6cdf", "#7b3fb5", "#0a8f5b", "#b3263a", "#3a3f47", "#17a2b8")
GRADE_NAMES = ("not relevant", "moderately", "relevant")


@dataclass(frozen=True)
class Report:
    """What the page shows.

    `runs`: by system, in the order of the table; `baseline` and `candidate` name the two that are compared query by
    query. `queries` (query_id, query, locale), `judgements` and `products` (product_id, title) are tables.
    `scores`: cosines [n] of the judged pairs by encoder; `grades` [n] of these pairs. `margins`: by encoder, then all
    or overlapping, then average and worst: mean, low, high. `facts` are shown as they are.
    """

    title: str
    runs: Mapping[str, Run]
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


def render(report: Report) -> str:
    """The page, with nothing to load from elsewhere. Titles and queries are shown as text, whatever they hold."""
    values = {system: evaluate_run(run, report.judgements)[METRIC] for system, run in report.runs.items()}
    words = _words(report)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("raylevance.evaluation", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    better, worse = _moved(report, values)
    return environment.get_template("report.html.j2").render(
        report=report,
        distribution=_distribution(report),
        by_length=_bars(values, {name: (words >= low) & (words <= high) for name, (low, high) in LENGTHS.items()}),
        by_frequency=_bars(values, _head_and_tail(report)),
        by_locale=_bars(values, locales) if len(locales := _locales(report)) > 1 else None,
        better=better,
        worse=worse,
        moved_by=f"{report.candidate} against {report.baseline}",
    )


def _query_ids(report: Report) -> list[str]:
    """The queries in the order of `evaluate_run`'s values."""
    return list(dict.fromkeys(report.judgements["query_id"].to_pylist()))


def _texts(table: pa.Table, key: str, value: str) -> dict[str, str]:
    return dict(zip(table[key].to_pylist(), table[value].to_pylist(), strict=True))


def _words(report: Report) -> npt.NDArray[np.int64]:
    texts = _texts(report.queries, "query_id", "query")
    return np.array([len(texts[query].split()) for query in _query_ids(report)])


def _locales(report: Report) -> dict[str, npt.NDArray[np.bool_]]:
    """The queries of each locale."""
    locales = _texts(report.queries, "query_id", "locale")
    names = np.array([locales[query] or "none" for query in _query_ids(report)])
    return {str(name): names == name for name in np.unique(names)}


def _head_and_tail(report: Report) -> dict[str, npt.NDArray[np.bool_]]:
    """Head: the half of the queries with the most relevant products (our choice: no traffic is known here)."""
    ids = _query_ids(report)
    relevant = dict.fromkeys(ids, 0)
    for query, grade in zip(*(report.judgements[name].to_pylist() for name in ("query_id", "grade")), strict=True):
        relevant[query] += grade == 2
    place = np.argsort(np.argsort([-relevant[query] for query in ids], kind="stable"))
    head = place < len(ids) / 2
    return {"head": head, "tail": ~head}


def _moved(report: Report, values: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The queries that the candidate ranks much better, and much worse, than the baseline, with both rankings."""
    change = values[report.candidate] - values[report.baseline]
    order = np.argsort(-change, kind="stable")
    better, worse = order[change[order] > 0][:MOVED], order[::-1][change[order[::-1]] < 0][:MOVED]
    ids = _query_ids(report)
    chosen = {ids[place]: float(change[place]) for place in (*better, *worse)}
    described = _described(report, chosen)
    return [described[ids[place]] for place in better], [described[ids[place]] for place in worse]


def _described(report: Report, changes: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """The queries of `changes`, each with its text, its change, and the best of both systems with their labels."""
    judged = report.judgements.select(["query_id", "product_id", "label", "grade"])
    judged = judged.filter(pc.is_in(judged["query_id"], pa.array(list(changes), pa.string())))
    labels = {(row["query_id"], row["product_id"]): row["label"] or str(row["grade"]) for row in judged.to_pylist()}
    texts = _texts(report.queries, "query_id", "query")
    best = {
        (query, system): sorted(scores := report.runs[system].get(query, {}), key=lambda product: -scores[product])
        for query in changes
        for system in (report.baseline, report.candidate)
    }
    shown = {product for products in best.values() for product in products[:SHOWN]}
    products = report.products.filter(pc.is_in(report.products["product_id"], pa.array(sorted(shown), pa.string())))
    titles = _texts(products, "product_id", "title")
    return {
        query: {
            "query": texts[query],
            "change": change,
            "rankings": {
                system: [
                    {"title": titles[product], "label": labels.get((query, product), "-")}
                    for product in best[query, system][:SHOWN]
                ]
                for system in (report.baseline, report.candidate)
            },
        }
        for query, change in changes.items()
    }


def _distribution(report: Report) -> Markup:
    """A panel an encoder, on one axis: bands of the grades show as hills that part."""
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
    """nDCG@10 of each system in each group of queries, with 95% intervals."""
    present = {name: chosen for name, chosen in groups.items() if chosen.any()}
    figure = Figure(figsize=(7, 2.8))
    axes = figure.subplots()
    width = 0.8 / len(values)
    for place, (system, scores) in enumerate(values.items()):
        estimates = [bootstrap_mean(scores[chosen]) for chosen in present.values()]
        left = np.arange(len(present)) + place * width
        axes.bar(left, [e.mean for e in estimates], width * 0.9, yerr=_errors(estimates), label=system,
                 color=COLOURS[place % len(COLOURS)], error_kw={"elinewidth": 0.8})  # fmt: skip
    axes.set_xticks(np.arange(len(present)) + 0.4 - width / 2)
    axes.set_xticklabels([f"{name} ({int(chosen.sum())})" for name, chosen in present.items()])
    axes.set_ylabel(METRIC)
    axes.set_ylim(0, 1.05)
    axes.legend(frameon=False, ncols=3, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1))
    return _svg(figure, f"{METRIC} of each system by group of queries")


def _errors(estimates: Sequence[Estimate]) -> npt.NDArray[np.float64]:
    return np.array([[e.mean - e.low for e in estimates], [e.high - e.mean for e in estimates]]).clip(0)


def _svg(figure: Figure, alternative: str) -> Markup:
    """The figure as inline SVG with a text alternative; the same input gives the same bytes."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": alternative, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    return Markup('<figure role="img" aria-label="{}">').format(alternative) + Markup(drawing) + Markup("</figure>")
