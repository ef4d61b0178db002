"""Measure an item table beside its baselines on the requests of the test part, with intervals."""

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.table import Table

from raylevance.artifacts import Artifact, Draft
from raylevance.data.schema import ACTIONS
from raylevance.evaluation.intervals import bootstrap_mean, paired_difference
from raylevance.evaluation.item_metrics import (
    Targets,
    coverage,
    ndcg,
    popularity_groups,
    recall,
    recall_by_group,
    share_of_list,
    tail_items,
)
from raylevance.graph.item_graph import REQUESTS_FOLDER, ItemGraph
from raylevance.graph.query_categories import categories_of
from raylevance.index.item_table import ItemTable
from raylevance.inference.item_table import TriggerLists
from raylevance.models.item_features import categories_below, numbered_categories
from raylevance.progress import status
from workloads.run import Run
from workloads.steps.item_baselines import BaselineData, BaselineName, System, TableSystem, make_baseline
from workloads.steps.item_data import ItemData, load_graph, measured_requests, shown_time
from workloads.steps.item_pages import COUNTED, write_item_page
from workloads.steps.item_training import text_file
from workloads.steps.report_outcome import ReportOutcome
from workloads.svg import drawing

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

MODEL = "GCL-MO"
CUTS = (20, 50, 200)
PER_REQUEST, RECALL_PICTURE, PAGE = "per-request.parquet", "recall.svg", "report.html"
PICTURED = 200
"""The length of the lists whose recall by popularity is drawn."""


@dataclass(frozen=True)
class TestRequests:
    """The requests that are measured: those with a trigger and a target.

    - `ids`: request_id and query_id of each.
    - `triggers`: all items that the user chose before; those beyond the most that count have weight 0.
    - `targets`, `bought`: the items chosen in the request that the user had not chosen before, and those bought.
    - `known`: the targets that had an event before the cut.
    - `categories`: the number of the category of each request's query, as its users chose before the cut, 0 for a
      request without one.
    - `left_out`: how many requests of the test part had no trigger, and how many no such item.
    """

    ids: pa.Table
    triggers: TriggerLists
    targets: Targets
    bought: Targets
    known: Targets
    categories: Ints
    left_out: dict[str, int]

    @classmethod
    def read(cls, folder: Path, graph: ItemGraph, most: int) -> "TestRequests":
        """Read the requests that `held_out_requests_step` wrote."""
        order = [(name, "ascending") for name in ("time", "request_id", "user_id")]
        requests = pq.read_table(folder).sort_by(order)
        measured = measured_requests(requests)
        requests = requests.take(pa.array(measured.rows, pa.int64()))
        has_events = graph.items["first_time"].is_valid().to_numpy()
        triggers = [
            (own, [*weights[:most], *([0.0] * (len(own) - most))])
            for own, weights in zip(
                *(requests[name].to_pylist() for name in ("triggers", "trigger_weights")), strict=True
            )
        ]
        targets = [[item for item, _ in chosen] for chosen in measured.chosen]
        bought = [[item for item, action in chosen if ACTIONS[action] == "purchase"] for chosen in measured.chosen]
        known = [[item for item in items if has_events[item]] for items in targets]
        return cls(
            requests.select(["request_id", "query_id"]),
            TriggerLists.of(triggers),
            Targets.of(targets),
            Targets.of(bought),
            Targets.of(known),
            categories_of(requests["query_id"], graph.queries),
            measured.left_out,
        )


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
            cells = ["{:.3f} [{:.3f}, {:.3f}]".format(*values[metric]) if metric in values else "" for metric in shown]
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
        asked = TestRequests.read(run.store.path(requests.ref) / REQUESTS_FOLDER, loaded, data.settings.triggers.most)
        categories, names = numbered_categories(loaded.items)
        file = text_file(run, texts)
        vectors = np.load(file) if file else None
        fitted = BaselineData(loaded, run.store.path(graph.ref), categories, categories_below(names), vectors, seed)
        popularity = popularity_groups(loaded.event_counts.sum(axis=1))
        per_request: dict[str, dict[str, Values]] = {}
        systems: dict[str, dict[str, Any]] = {}
        drawn: dict[str, Ints] = {}
        for system_name, system in _systems(run, tables, names, baselines, fitted):
            lists = system.rank(asked.triggers, asked.categories, max(CUTS))
            per_request[system_name] = measure(lists, asked, loaded, categories)
            systems[system_name] = _summary(per_request[system_name], seed)
            systems[system_name] |= {f"coverage@{k}": coverage(lists, len(loaded), k) for k in CUTS}
            by_popularity = recall_by_group(lists, asked.targets, PICTURED, popularity)
            systems[system_name]["recall_by_popularity"] = [None if np.isnan(x) else float(x) for x in by_popularity]
            drawn = _model_and_best_baseline({**drawn, system_name: lists[:, :COUNTED]}, systems, tables)
        draft.metrics |= {
            "data": data.tables.name.partition("/")[2],
            "cut": shown_time(data.cut),
            "requests": len(asked.targets.counts),
            "left_out": asked.left_out,
            "targets": int(asked.targets.counts.sum()),
            "bought": int(asked.bought.counts.sum()),
            "new_items_among_targets": 1 - int(asked.known.counts.sum()) / max(int(asked.targets.counts.sum()), 1),
            "systems": systems,
            "over_best_baseline": _differences(per_request, list(tables), seed),
        }
        save_per_request(draft.path / PER_REQUEST, per_request)
        save_recall(
            draft.path / RECALL_PICTURE, {name: values["recall_by_popularity"] for name, values in systems.items()}
        )
        picture = (draft.path / RECALL_PICTURE).read_text(encoding="utf-8")
        write_item_page(draft.path / PAGE, data, loaded, asked, drawn, systems, picture, shown)
        (draft.path / "report.json").write_text(json.dumps(draft.metrics, indent=1), encoding="utf-8")

    settings = {"baselines": list(baselines), "cuts": list(CUTS), "shown": shown}
    inputs = [graph, requests, *([texts] if texts else []), *tables.values()]
    return run.step(f"report/{name}", build, settings=settings, inputs=inputs, seed=seed)


def _model_and_best_baseline(
    lists: dict[str, Ints], systems: Mapping[str, Mapping[str, Any]], models: Container[str]
) -> dict[str, Ints]:
    """Return the lists of the last model, and of the baseline with the highest recall@50, where there are such."""
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
            lacks = {"text": "texts", "category popularity": "categories"}.get(name, "choices")
            status(f"{name}: left out, the data has no {lacks}")
        else:
            found.append((name, system))
    found += [
        (name, TableSystem(ItemTable.load(run.store.path(made.ref)), categories)) for name, made in tables.items()
    ]
    return found


def measure(lists: Ints, asked: TestRequests, graph: ItemGraph, categories: Ints) -> dict[str, Values]:
    """Return each metric of each request, float64 [requests]; nan where a request has none.

    An item is good if it has the category of an item that the user chose in the request; without categories nothing is
    measured. The tail is by exposures before the cut, or by all events of a log without exposures.
    """
    counts = graph.event_counts
    exposures = counts[:, ACTIONS.index("exposure")]
    tail = tail_items(exposures if exposures.any() else counts.sum(axis=1))
    values: dict[str, Values] = {}
    for k in CUTS:
        values |= {
            f"recall@{k}": recall(lists, asked.targets, k),
            f"recall_p@{k}": recall(lists, asked.bought, k),
            f"recall_known@{k}": recall(lists, asked.known, k),
            f"ndcg@{k}": ndcg(lists, asked.targets, k),
            f"good@{k}": share_good(lists, asked.targets, categories, k),
            f"tail@{k}": share_of_list(lists, tail, k),
        }
    return values


def share_good(lists: Ints, targets: Targets, categories: Ints, k: int) -> Values:
    """Return how many of each list's first `k` items have the category of a target, over `k`, float64 [requests].

    Without categories it is nan.
    """
    if not categories.any():
        return np.full(len(lists), np.nan)
    lists = lists[:, :k]
    of_targets = Targets(targets.starts, categories[targets.items])
    listed = np.where(lists >= 0, categories[lists], 0)
    good = of_targets.hits(listed) & (lists >= 0) & (listed > 0)
    return np.asarray(good.sum(axis=1) / k, np.float64)


def _summary(values: Mapping[str, Values], seed: int) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for metric, each in values.items():
        measured = each[~np.isnan(each)]
        if len(measured):
            summary[metric] = list(bootstrap_mean(measured, seed))
    return summary


def _differences(per_request: Mapping[str, Mapping[str, Values]], models: Sequence[str], seed: int) -> dict[str, Any]:
    """Return, for each model and recall, the best baseline and the difference to it with its interval."""
    baselines = [name for name in per_request if name not in models]
    found: dict[str, Any] = {}
    for model in models if baselines else ():
        for metric, values in per_request[model].items():
            measured = ~np.isnan(values)
            if not metric.startswith("recall") or not measured.any():
                continue
            means = {name: float(np.nanmean(per_request[name][metric])) for name in baselines}
            best = max(means, key=lambda name: means[name])
            other = per_request[best][metric]
            difference = paired_difference(values[measured], other[measured], seed)
            base = float(np.mean(other[measured]))
            relative = float(np.mean(values[measured])) / base - 1 if base else None
            found.setdefault(model, {})[metric] = {
                "baseline": best,
                "difference": list(difference),
                "relative": relative,
            }
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


def save_per_request(file: Path, per_request: Mapping[str, Mapping[str, Values]]) -> None:
    """Write a row for each system and request with its metrics."""
    parts = [
        pa.table({"system": [name] * len(next(iter(values.values()))), **values})
        for name, values in per_request.items()
    ]
    pq.write_table(pa.concat_tables(parts), file)


def read_per_request(file: Path, system: str) -> dict[str, Values]:
    """Return the metrics of each request of one system, as `measure` returns them."""
    table = pq.read_table(file)
    own = table.filter(pc.equal(table["system"], system)).drop_columns(["system"])
    return {name: own[name].to_numpy() for name in own.column_names}
