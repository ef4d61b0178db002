"""The data of item retrieval: the log cut in two at one moment, its item graphs, and the requests to test on."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq
import ray.data
from pydantic import Field, PositiveFloat

from raylevance.artifacts import Artifact, Draft
from raylevance.config import Settings
from raylevance.data.judged_tables import TEST
from raylevance.data.parquet_parts import PartFiles, write_parts
from raylevance.errors import RaylevanceError, UsageError
from raylevance.graph.edges import NodeIds
from raylevance.graph.item_graph import (
    REQUESTS_FOLDER,
    ItemGraph,
    ItemGraphSettings,
    build_item_graph,
    relevance_by_basket,
)
from raylevance.graph.item_objectives import LARGEST_BASKET
from raylevance.graph.item_relevance import MOST_ITEMS
from raylevance.graph.item_requests import DAY, REQUESTS, make_requests
from raylevance.graph.list_columns import flat_lists
from raylevance.inference.encoder import backbone_digest
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.encoding import encode_texts
from raylevance.models.item_features import categories_below, numbered_categories
from raylevance.progress import status
from workloads.run import Run
from workloads.steps.encoder_training import precision_settings

Ints = npt.NDArray[np.int64]

SHARE_OF_DAYS = 8
GRAPH_READING = 2
"""Goes up when the same log gives another item graph, so that one from before is not taken for the same."""
TEXTS = "texts.npy"
PRODUCT_COLUMNS = {
    "product_id": pa.string(),
    "category": pa.list_(pa.string()),
    "brand": pa.string(),
    "price": pa.float64(),
}


class TimeSplitSettings(Settings):
    """Where the log is cut into training and test events: at one moment for all users."""

    test_days: PositiveFloat | None = None
    """Days at the end of the log to test on. Null takes the last eighth of its days, at least one."""
    leave_out_days: float = Field(0.0, ge=0)
    """Days at the end of the log that are not read, counted from the end of its last day."""


@dataclass(frozen=True)
class ItemData:
    """The tables of a run, and the moments that cut their log, in milliseconds since 1970.

    `cut` is the first moment of the test part, and `end` the first moment that is not read.
    """

    run: Run
    tables: Artifact
    settings: ItemGraphSettings
    cut: int
    end: int

    @classmethod
    def open(
        cls,
        run: Run,
        tables: Artifact,
        settings: ItemGraphSettings,
        split: TimeSplitSettings,
        end: int | None = None,
    ) -> "ItemData":
        """Cut the log of `tables`; events from `end` on, where it is given, are not read.

        Raises `RaylevanceError` if there is no log, or none on both sides of the cut.
        """
        folder = run.store.path(tables.ref)
        if not (folder / "events").is_dir():
            raise RaylevanceError(f"{tables.ref}: has no events; item retrieval needs a log of clicks or purchases")
        first, last = time_range(folder / "events")
        day = int(DAY)
        # From midnight to midnight, so that with whole days a user's day is never on both sides of the cut.
        midnight = (last // day + 1) * day
        end = end if end is not None else midnight - round(split.leave_out_days * DAY)
        if end <= first:
            raise RaylevanceError(
                f"{tables.ref}: split.leave_out_days={split.leave_out_days:g} leaves nothing of the log to read, which "
                f"has {-(-midnight // day) - first // day} days; lower it"
            )
        whole_days = -(-end // day) - first // day
        days = split.test_days or max(1, whole_days // SHARE_OF_DAYS)
        cut = end - round(days * DAY)
        said = f"{tables.ref}: the log has {whole_days} days to read, and split.test_days={days:g} leaves none"
        if cut <= first:
            raise RaylevanceError(f"{said} to train on; lower split.test_days")
        if last < cut and end == midnight:
            raise RaylevanceError(f"{said} to test on, as the last event is before; raise split.test_days")
        return cls(run, tables, settings, cut, end)

    @property
    def held_out_days(self) -> float:
        """Length of the test part in days."""
        return (self.end - self.cut) / DAY

    @cached_property
    def products(self) -> pa.Table:
        """The catalogue (`PRODUCT_COLUMNS`), by ascending product_id. Raises `RaylevanceError` if there is none."""
        folder = self.run.store.path(self.tables.ref) / "products"
        if not folder.is_dir():
            raise RaylevanceError(f"{self.tables.ref}: has no products; item retrieval needs products and events")
        dataset = pyarrow.dataset.dataset(folder, format="parquet")
        table = dataset.to_table(columns=[name for name in PRODUCT_COLUMNS if name in dataset.schema.names])
        for name, kind in PRODUCT_COLUMNS.items():
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(table.num_rows, kind))
        return table.select(list(PRODUCT_COLUMNS)).sort_by("product_id").combine_chunks()

    def events(self, until: int) -> ray.data.Dataset:
        """Return the events before `until`."""
        events = ray.data.read_parquet(str(self.run.store.path(self.tables.ref) / "events"))
        limit = pa.scalar(until, pa.timestamp("ms", tz="UTC"))

        def earlier(block: pa.Table) -> pa.Table:
            return block.filter(pc.less(block["timestamp"], limit))

        return events.map_batches(earlier, batch_format="pyarrow", batch_size=None)

    @property
    def has_judgements(self) -> bool:
        """Whether the tables have judged pairs."""
        return (self.run.store.path(self.tables.ref) / "judgements").is_dir()

    def judgements(self) -> pa.Table | None:
        """Return the judged pairs of training queries (query_id, product_id, grade), None where there are none."""
        if not self.has_judgements:
            return None
        folder = self.run.store.path(self.tables.ref) / "judgements"
        judgements = pq.read_table(folder, columns=["query_id", "product_id", "grade", "split"])
        return judgements.filter(pc.fill_null(pc.not_equal(judgements["split"], TEST), True)).drop_columns(["split"])


def time_range(events: Path) -> tuple[int, int]:
    """Return the first and the last time of the events in a folder, in milliseconds since 1970."""
    ends: list[Any] = [
        pc.min_max(batch.column("timestamp").cast(pa.int64()))
        for batch in pyarrow.dataset.dataset(events, format="parquet").to_batches(columns=["timestamp"])
        if batch.num_rows
    ]
    if not ends:
        raise RaylevanceError(f"{events}: holds no event; import a log that has some")
    return min(end["min"].as_py() for end in ends), max(end["max"].as_py() for end in ends)


def graph_step(data: ItemData, until: int, name: str) -> Artifact:
    """Return `graph/<name>`: the item graph of the events before `until`."""

    categories, names = numbered_categories(data.products)
    below = categories_below(names)
    check_relevance(data, has_categories=bool(categories.any()))
    judgements = data.judgements() if data.settings.relevance in ("auto", "judgements") else None

    def build(draft: Draft) -> None:
        figures = build_item_graph(
            data.events(until), data.products, categories, below, judgements, draft.path, data.settings
        )
        draft.metrics |= figures
        edges = ", ".join(f"{objective} {count}" for objective, count in figures["edges"].items())
        status(f"{name}: edges: {edges}; neighbours {figures['neighbour_edges']}")
        if left_out := figures["events_of_unknown_products"]:
            status(f"{name}: {left_out} events are of products that {data.tables.ref} does not have; left out")
        if too_large := figures["baskets_too_large"]:
            status(f"{name}: {too_large} baskets have over {LARGEST_BASKET} items; left out of relevance")
        if cut := figures["queries_with_too_many_items"]:
            status(
                f"{name}: {cut} queries have over {MOST_ITEMS} relevant items; only the first {MOST_ITEMS} are joined"
            )
        if figures["objectives_without_edges"]:
            status(f"{name}: objectives without edges: {', '.join(figures['objectives_without_edges'])}")

    settings = {"graph": data.settings, "until": until, "reading": GRAPH_READING}
    if relevance_by_basket(data.settings, categories, judgements):
        # Not a setting of its own: graphs from before baskets gave relevance are made anew.
        settings["relevance"] = "basket"
    return data.run.step(f"graph/{name}", build, settings=settings, inputs=[data.tables])


def check_relevance(data: ItemData, *, has_categories: bool) -> None:
    """Raise `UsageError` for a setting of relevance that needs what the tables do not have."""
    there = {"judgements": data.has_judgements, "category": has_categories, "basket": True}
    relevance = data.settings.relevance
    if not there.get(relevance, True):
        needed = "judgements" if relevance == "judgements" else "product with a category"
        others = " or ".join(name for name, has in there.items() if has)
        raise UsageError(f"graph.relevance={relevance}: {data.tables.ref} has no {needed}; set it to {others}")


def shown_time(milliseconds: int) -> str:
    """Return a moment, in milliseconds since 1970, to the minute as people read it."""
    moment = np.datetime64(milliseconds, "ms").astype("datetime64[m]").item()
    return f"{moment.isoformat(sep=' ', timespec='minutes')} UTC"


def held_out_requests_step(data: ItemData, name: str) -> Artifact:
    """Return `requests/<name>`: the requests of the test part, with all triggers of the window of their users.

    Raises `RaylevanceError` if none of them can be measured.
    """

    def build(draft: Draft) -> None:
        items = NodeIds.assign(data.products["product_id"].combine_chunks())
        whole_window = data.settings.triggers.model_copy(update={"most": data.settings.triggers.window})
        requests = make_requests(data.events(data.end), items, whole_window, data.cut)
        written = write_parts(requests, PartFiles(draft.path / REQUESTS_FOLDER, REQUESTS))
        if not written.rows:
            after = f"no event from {shown_time(data.cut)} on is of a product in the catalogue"
            raise RaylevanceError(f"{data.tables.ref}: {after}; change split.test_days or split.leave_out_days")
        measured = measured_requests(pq.read_table(draft.path / REQUESTS_FOLDER))
        if not len(measured.rows):
            raise RaylevanceError(f"{data.tables.ref}: {why_not_measured(measured, shown_time(data.cut))}")
        draft.metrics["requests"] = written.rows

    # "checked" is not a setting: requests from before this check are made anew.
    settings = {"graph": data.settings, "from": data.cut, "until": data.end, "checked": "some can be measured"}
    return data.run.step(f"requests/{name}", build, settings=settings, inputs=[data.tables])


class MeasuredRequests(NamedTuple):
    """The requests of a test part that a recommendation can be measured on, and why the others are left out.

    - `rows` int64 [m]: the rows of those with an earlier choice of their user and an item that this user had not chosen
      before, as far as the window of triggers goes back. An action whose weight in `TriggerSettings` is 0 is no choice
      before.
    - `owners`, `items`, `actions` int64 [targets]: the number among the m requests, the item and the action (a position
      in `ACTIONS`) of each such choice.
    - `left_out`: how many requests have no earlier choice, and how many no new item.
    """

    rows: Ints
    owners: Ints
    items: Ints
    actions: Ints
    left_out: dict[str, int]


def measured_requests(requests: pa.Table) -> MeasuredRequests:
    """Return which of the `requests`, rows of `REQUESTS` with all triggers of the window, can be measured."""
    rows, items = flat_lists(requests["items"])
    trigger_rows, triggers = flat_lists(requests["triggers"])
    actions = requests["actions"].combine_chunks().flatten().to_numpy().astype(np.int64)
    size = 1 + max(int(items.max(initial=0)), int(triggers.max(initial=0)))
    new = (actions > 0) & ~np.isin(rows * size + items, trigger_rows * size + triggers)
    has_trigger, has_new = np.zeros((2, requests.num_rows), np.bool_)
    has_trigger[trigger_rows], has_new[rows[new]] = True, True
    measured = has_trigger & has_new
    targets = new & measured[rows]
    left_out = {
        "without a trigger": int((~has_trigger).sum()),
        "without a new item": int((has_trigger & ~has_new).sum()),
    }
    owners = (np.cumsum(measured) - 1)[rows[targets]]
    return MeasuredRequests(np.flatnonzero(measured), owners, items[targets], actions[targets], left_out)


def why_not_measured(requests: MeasuredRequests, cut: str) -> str:
    """Return why no request from `cut` on can be measured, and what to do."""
    without = requests.left_out
    said = f"no request from {cut} on can be measured: " + ", ".join(f"{count} {why}" for why, count in without.items())
    if without["without a new item"]:
        return f"{said} that its user chose there; change split.test_days"
    return f"{said}; events need a user_id, or a session_id that several requests share"


def text_step(data: ItemData, encoder: str, name: str) -> Artifact:
    """Return `vectors/<name>`: the vector of each item's text by `encoder`, float32 [items, d]."""

    def build(draft: Draft) -> None:
        folder = data.run.store.path(data.tables.ref) / "products"
        products = pq.read_table(folder).sort_by("product_id")
        named = load_encoder(data.run.store, encoder)
        vectors = encode_texts(named.path, named.item_texts(products), "item")
        np.save(draft.path / TEXTS, vectors)
        draft.metrics |= {"items": len(vectors), "dimension": vectors.shape[1]}

    described: dict[str, Any] = {"encoder": encoder, **precision_settings()}
    inputs = [data.tables]
    if encoder.startswith("encoder/"):
        inputs.append(data.run.store.get(encoder))
    else:
        described["backbone"] = backbone_digest(encoder)
    return data.run.step(f"vectors/{name}", build, settings=described, inputs=inputs)


def load_graph(data: ItemData, graph: Artifact) -> ItemGraph:
    """Load an item graph of the run."""
    return ItemGraph.load(data.run.store.path(graph.ref))
