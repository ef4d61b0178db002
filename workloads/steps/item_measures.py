"""The test requests of an item table, and the metrics of recommended lists on each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raylevance.data.schema import ACTIONS
from raylevance.evaluation.intervals import bootstrap_mean, paired_difference
from raylevance.evaluation.item_metrics import Targets, good_rate, ndcg, recall, share_of_list, tail_items
from raylevance.graph.item_graph import ItemGraph
from raylevance.graph.list_columns import flat_lists
from raylevance.graph.query_categories import categories_of
from raylevance.inference.item_table import TriggerLists
from workloads.steps.item_data import measured_requests

Ints = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

CUTS = (20, 50, 200)
REQUEST_IDS = ["request_id", "query_id"]


@dataclass(frozen=True)
class TestRequests:
    """The requests that are measured: those with a trigger and a target.

    - `ids`: request_id and query_id of each.
    - `triggers`: all items among the user's last actions before the request (`TriggerSettings.window`); those beyond
      the most that count have weight 0.
    - `targets`, `bought`: the items chosen in the request that are not among these, and those bought.
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

    @property
    def counts(self) -> dict[str, Any]:
        """How many requests and items are measured and left out, and the share of targets without an earlier event."""
        requests, targets = len(self.targets.counts), int(self.targets.counts.sum())
        return {
            "requests": requests,
            "left_out": self.left_out,
            "targets": targets,
            "bought": int(self.bought.counts.sum()),
            "new_items_among_targets": 1 - int(self.known.counts.sum()) / max(targets, 1),
        }

    @classmethod
    def read(cls, folder: Path, graph: ItemGraph, most: int) -> "TestRequests":
        """Read the requests that `held_out_requests_step` wrote to `folder`; of each, the first `most` triggers count.

        Memory is that of all requests of the test part.
        """
        order = [(name, "ascending") for name in ("time", "request_id", "user_id")]
        requests = pq.read_table(folder).sort_by(order)
        measured = measured_requests(requests)
        requests = requests.take(pa.array(measured.rows))

        def chosen(which: npt.NDArray[np.bool_]) -> Targets:
            counts = np.bincount(measured.owners[which], minlength=len(measured.rows))
            return Targets(_starts(counts), measured.items[which])

        bought = measured.actions == ACTIONS.index("purchase")
        has_events = graph.items["first_time"].is_valid().to_numpy()
        return cls(
            requests.select(REQUEST_IDS),
            _trigger_lists(requests, most),
            chosen(measured.actions > 0),
            chosen(bought),
            chosen(has_events[measured.items]),
            categories_of(requests["query_id"], graph.queries),
            measured.left_out,
        )


def _trigger_lists(requests: pa.Table, most: int) -> TriggerLists:
    """Return all triggers of `requests`, rows of `REQUESTS`; those of each after the first `most` have weight 0."""
    rows, triggers = flat_lists(requests["triggers"])
    starts = _starts(np.bincount(rows, minlength=requests.num_rows))
    weights = requests["trigger_weights"].combine_chunks().flatten().to_numpy().astype(np.float64)
    place = np.arange(len(rows)) - starts[rows]
    return TriggerLists(starts, triggers, np.where(place < most, weights, 0.0))


def _starts(counts: npt.NDArray[np.integer]) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


class MeasuredSystems(NamedTuple):
    """The measured systems of a report, by name.

    - `per_request`: each metric of each request, as `measure` returns them.
    - `systems`: the mean of each metric with its interval, coverage, and recall by the popularity of the target.
    - `lists`: the items that systems on the report's page put first, the model first, int64 [requests, k].
    """

    per_request: dict[str, dict[str, Values]]
    systems: dict[str, dict[str, Any]]
    lists: dict[str, Ints]


def measure(lists: Ints, requests: TestRequests, graph: ItemGraph, categories: Ints) -> dict[str, Values]:
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
            f"recall@{k}": recall(lists, requests.targets, k),
            f"recall_p@{k}": recall(lists, requests.bought, k),
            f"recall_known@{k}": recall(lists, requests.known, k),
            f"ndcg@{k}": ndcg(lists, requests.targets, k),
            f"good@{k}": good_rate(lists, requests.targets, categories, k),
            f"tail@{k}": share_of_list(lists, tail, k),
        }
    return values


def means(values: Mapping[str, Values], seed: int) -> dict[str, list[float]]:
    """Return the mean of each metric over the requests that have it, with its 95% interval."""
    found: dict[str, list[float]] = {}
    for metric, each in values.items():
        measured = each[~np.isnan(each)]
        if len(measured):
            found[metric] = list(bootstrap_mean(measured, seed))
    return found


def over_best_baseline(
    per_request: Mapping[str, Mapping[str, Values]], models: Sequence[str], seed: int
) -> dict[str, Any]:
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


def save_per_request(file: Path, requests: pa.Table, per_request: Mapping[str, Mapping[str, Values]]) -> None:
    """Write a row for each system and request of `requests` (request_id and query_id) with its metrics."""
    ids = {name: requests[name] for name in REQUEST_IDS}
    parts = [pa.table({"system": [name] * requests.num_rows, **ids, **values}) for name, values in per_request.items()]
    pq.write_table(pa.concat_tables(parts), file)


def read_per_request(file: Path, system: str) -> dict[str, Values]:
    """Return the metrics of each request of one system, as `measure` returns them."""
    table = pq.read_table(file)
    own = table.filter(pc.equal(table["system"], system))
    own = own.drop_columns([name for name in ("system", *REQUEST_IDS) if name in own.column_names])
    return {name: own[name].to_numpy() for name in own.column_names}
