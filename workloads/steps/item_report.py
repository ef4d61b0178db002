"""Measure an item table beside its baselines on the requests of the test part, with intervals."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from raylevance.artifacts import Artifact, Draft
from raylevance.evaluation.item_metrics import coverage, popularity_groups, recall_by_group
from raylevance.graph.item_graph import REQUESTS_FOLDER, ItemGraph
from raylevance.graph.swing import SwingSettings
from raylevance.index.item_table import ItemTable
from raylevance.models.item_features import categories_below, numbered_categories
from raylevance.progress import status
from workloads.readable import with_interval
from workloads.run import Run
from workloads.steps.item_baselines import BaselineData, BaselineName, System, TableSystem, make_baseline
from workloads.steps.item_data import ItemData, load_graph, shown_time
from workloads.steps.item_measures import (
    CUTS,
    Ints,
    MeasuredSystems,
    TestRequests,
    means,
    measure,
    over_best_baseline,
    save_per_request,
)
from workloads.steps.item_pages import COUNTED, write_item_page
from workloads.steps.item_training import text_file
from workloads.steps.report_outcome import ReportOutcome
from workloads.svg import drawing

MODEL = "GCL-MO"
PER_REQUEST, RECALL_PICTURE, PAGE = "per-request.parquet", "recall.svg", "report.html"
READING = 2
"""Goes up when the same inputs give another report, so that one from before is not taken for the same."""
PICTURED = 200
"""The length of the lists whose recall by popularity is drawn."""


class ItemOutcome(ReportOutcome):
    """The report of a run of item-retrieval."""

    def as_table(self) -> Table:
        """Return one row for each system: means over the test requests, with 95% intervals."""
        metrics = self.report.metrics
        title = f"{metrics['requests']} requests of {metrics['data']} after {metrics['cut']}; new items of each user"
        table = Table("", box=None, title=title, title_justify="left")
        shown = ["recall@50", "recall@200", "recall_p@50", "recall_p@200", "ndcg@50"]
        for name in [*shown, "good@50", "tail@50", "coverage@50"]:
            table.add_column(name)
        for name, values in metrics["systems"].items():
            cells = [with_interval(values[metric]) if metric in values else "" for metric in shown]
            rest = [f"{values[metric][0]:.3f}" if metric in values else "" for metric in ("good@50", "tail@50")]
            table.add_row(name, *cells, *rest, f"{values['coverage@50']:.3f}")
        table.caption = f"report: {self.run.store.path(self.report.ref) / PAGE}"
        table.caption_justify = "left"
        return table


def report_step(
    data: ItemData,
    graph: Artifact,
    requests: Artifact,
    texts: Artifact | None,
    tables: Mapping[str, Artifact],
    baselines: Sequence[BaselineName],
    seed: int,
    name: str = "item-retrieval",
    shown: str | None = None,
) -> Artifact:
    """Return `report/<name>`: the metrics of the item `tables`, by name, and of the `baselines` on test `requests`.

    `shown` is the item whose edges the page draws, as in `write_item_page`.
    """
    run = data.run

    def build(draft: Draft) -> None:
        loaded = load_graph(data, graph)
        folder, most = run.store.path(requests.ref) / REQUESTS_FOLDER, data.settings.triggers.most
        tested = TestRequests.read(folder, loaded, most)
        categories, names = numbered_categories(loaded.items)
        file = text_file(run, texts)
        vectors = np.load(file) if file else None
        known = BaselineData(loaded, run.store.path(graph.ref), categories, categories_below(names), vectors, seed)
        systems = _systems(run, tables, names, baselines, known)
        measured = measure_systems(systems, tested, loaded, categories, list(tables), seed)
        draft.metrics |= {"data": data.tables.name.partition("/")[2], "cut": shown_time(data.cut), **tested.counts}
        draft.metrics["systems"] = measured.systems
        draft.metrics["over_best_baseline"] = over_best_baseline(measured.per_request, list(tables), seed)
        save_per_request(draft.path / PER_REQUEST, tested.ids, measured.per_request)
        save_recall(
            draft.path / RECALL_PICTURE,
            {name: values["recall_by_popularity"] for name, values in measured.systems.items()},
        )
        picture = (draft.path / RECALL_PICTURE).read_text(encoding="utf-8")
        write_item_page(draft.path / PAGE, data, loaded, tested, measured, picture, shown)
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    settings: dict[str, Any] = {"baselines": list(baselines), "cuts": list(CUTS), "shown": shown, "reading": READING}
    if "Swing" in baselines:
        settings["swing"] = SwingSettings()
    inputs = [graph, requests, *([texts] if texts else []), *tables.values()]
    return run.step(f"report/{name}", build, settings=settings, inputs=inputs, seed=seed)


def measure_systems(
    systems: Iterable[tuple[str, System]],
    requests: TestRequests,
    graph: ItemGraph,
    categories: Ints,
    models: Sequence[str],
    seed: int,
) -> MeasuredSystems:
    """Rank the catalogue by each system for each request, and measure the lists.

    `categories` [items] is the number of the category of each item; `models` are the systems that are no baselines.
    """
    popularity = popularity_groups(graph.event_counts.sum(axis=1))
    found = MeasuredSystems({}, {}, {})
    for name, system in systems:
        lists = system.rank(requests.triggers, requests.categories, max(CUTS))
        found.per_request[name] = measure(lists, requests, graph, categories)
        by_popularity = recall_by_group(lists, requests.targets, PICTURED, popularity)
        found.systems[name] = {
            **means(found.per_request[name], seed),
            **{f"coverage@{k}": coverage(lists, len(graph), k) for k in CUTS},
            "recall_by_popularity": [None if np.isnan(share) else float(share) for share in by_popularity],
        }
        # The lists of all systems would not fit in memory with many requests; the page shows two.
        found = found._replace(lists=_on_the_page({**found.lists, name: lists[:, :COUNTED]}, found.systems, models))
    return found


def _on_the_page(
    lists: dict[str, Ints], systems: Mapping[str, Mapping[str, Any]], models: Sequence[str]
) -> dict[str, Ints]:
    """Return the lists of the last model, then of the baseline with the highest recall@50, where there are such."""
    baselines = [name for name in lists if name not in models]
    best = max(baselines, key=lambda name: float(systems[name]["recall@50"][0]), default=None)
    model = [name for name in lists if name in models][-1:]
    return {name: lists[name] for name in [*model, *([best] if best else [])]}


def _systems(
    run: Run,
    tables: Mapping[str, Artifact],
    categories: Sequence[str],
    baselines: Sequence[BaselineName],
    data: BaselineData,
) -> list[tuple[str, System]]:
    found: list[tuple[str, System]] = []
    for name in baselines:
        status(f"baseline: {name}")
        if (system := make_baseline(name, data)) is None:
            reasons = {
                "text": "encoder.text is not set",
                "category popularity": "the data has no categories",
            }
            status(f"{name}: left out, {reasons.get(name, 'the data has no choices')}")
        else:
            found.append((name, system))
    found += [
        (name, TableSystem(ItemTable.load(run.store.path(made.ref)), categories)) for name, made in tables.items()
    ]
    return found


def save_recall(file: Path, recalls: Mapping[str, Sequence[float | None]]) -> None:
    """Draw the recall of each system by the popularity of the target, as SVG: new items, then tenths of the others."""
    with drawing(file, (8, 4)) as save:
        from matplotlib import pyplot

        figure, axes = pyplot.subplots()
        for place, (name, values) in enumerate(recalls.items()):
            drawn = [np.nan if value is None else value for value in values]
            own = {"linewidth": 2.5, "color": "black"} if name == MODEL else {"color": f"C{place}"}
            axes.plot(range(len(drawn)), drawn, marker="o", markersize=3, label=name, **own)
        axes.set_xticks(range(11), ["new", *map(str, range(1, 11))])
        axes.set_xlabel("target without events, then tenths of the items by their events, the least popular first")
        axes.set_ylabel(f"share found among the first {PICTURED}")
        axes.legend(fontsize="small", ncols=2)
        save(figure)
