"""The behaviour graph of a recipe: `graph/behaviour` from the log in its tables, or from simulated clicks."""

from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq
import ray.data

from raylevance.artifacts import Artifact, Draft, Store, digest, fingerprint
from raylevance.data.judged import Judged
from raylevance.data.simulated_clicks import SimulationSettings, simulate_clicks
from raylevance.data.text import query_key
from raylevance.errors import RaylevanceError, UsageError
from raylevance.graph.baskets import BasketFile, read_baskets
from raylevance.graph.building import BehaviourGraph, GraphSettings, build_graph, describe_graph, merge_graph
from workloads.run import Run

LOGGED, SIMULATED = "the log", "clicks simulated from training judgements"


class BehaviourSettings(GraphSettings):
    """`simulation`: of data that has no log. `merge_into`: a graph that the tables' events are added to. `baskets`:
    products that go together without a search; they are given again where a day is merged."""

    simulation: SimulationSettings = SimulationSettings()
    merge_into: str | None = None
    baskets: BasketFile | None = None


def graph_step(
    run: Run,
    tables: Artifact,
    learned: Judged,
    held_out: pa.Array,
    settings: BehaviourSettings,
    seed: int,
    name: str = "graph/behaviour",
) -> Artifact:
    """The graph of all events but those of the queries `held_out` (ids), and of queries with the text of one of them.

    Tables without events get a log that is simulated from the judgements of `learned`. Raises `RaylevanceError` where
    such a log would be merged into another.
    """
    folder = run.store.path(tables.ref)
    before = graph_before(settings.merge_into, tables, run.store) if settings.merge_into else None
    if before and not has_log(folder):
        raise RaylevanceError(f"behaviour.merge_into={settings.merge_into}: {tables.ref} has no events to merge")
    held_out = with_the_text_of(held_out, pq.read_table(folder / "queries", columns=["query_id", "query"]))
    baskets = partial(read_baskets, settings.baskets, without=held_out) if settings.baskets else None

    def build(draft: Draft) -> None:
        queries, items = (pq.read_table(folder / table, columns=[key])[key].combine_chunks() for table, key in NODES)
        if has_log(folder):
            events = ray.data.read_parquet(str(folder / "events"))
        else:
            events = ray.data.from_arrow(simulate_clicks(learned.judgements, settings.simulation, seed))
        if before is None:
            build_graph(events, queries, items, draft.path, settings, baskets, held_out)
        else:
            merge_graph(run.store.path(before.ref), events, queries, items, draft.path, settings, baskets, held_out)
        source = LOGGED if has_log(folder) else SIMULATED
        if before and before.metrics["source"] != source:
            source = f"{source}, merged into {before.metrics['source']}"
        if settings.baskets:
            source += f", with the baskets of {settings.baskets.file.name}"
        draft.metrics |= {"source": source, **describe_graph(BehaviourGraph.load(draft.path), draft.path)}

    made_from = settings.model_dump(mode="json") | {
        "held_out": fingerprint(sorted(held_out.to_pylist())),
        "learned": fingerprint(learned.queries["query_id"].to_pylist()),
    }
    if settings.baskets:
        settings.baskets.check()
        made_from["baskets"] |= {"file": digest([settings.baskets.file])}
    inputs = [tables, before] if before else [tables]
    return run.step(name, build, settings=made_from, inputs=inputs, seed=seed)


def graph_before(name: str, tables: Artifact, store: Store) -> Artifact:
    """The graph `name` as it was before the events of `tables` were merged into it: none is counted twice.

    Raises `RaylevanceError` where it was built from `tables` to begin with.
    """
    if not name.startswith("graph/"):
        raise UsageError(f"behaviour.merge_into={name}: expected graph/NAME[@VERSION]")
    graph = store.get(name)
    while tables.ref in graph.parents:
        older = [parent for parent in graph.parents if parent.startswith("graph/")]
        if not older:
            raise RaylevanceError(f"behaviour.merge_into={name}: {graph.ref} was built from the events of {tables.ref}")
        graph = store.get(older[0])
    return graph


NODES = (("queries", "query_id"), ("products", "product_id"))


def has_log(tables: Path) -> bool:
    """Whether a tables folder has events that followed searches."""
    return (tables / "events").is_dir()


def has_choices(tables: Path, held_out: pa.Array) -> bool:
    """Whether a tables folder has an event beside exposures of a query other than those `held_out`, by text."""
    if not has_log(tables):
        return False
    unseen = with_the_text_of(held_out, pq.read_table(tables / "queries", columns=["query_id", "query"]))
    chosen = (pc.field("action") != "exposure") & ~pc.field("query_id").isin(unseen)
    return bool(pyarrow.dataset.dataset(tables / "events", format="parquet").head(1, filter=chosen).num_rows)


def with_the_text_of(chosen: pa.Array, queries: pa.Table) -> pa.Array:
    """The ids of `queries` (query_id, query) whose normalised text one of the `chosen` (ids) has."""
    keys, ids = query_key(queries["query"]), queries["query_id"]
    texts = keys.filter(pc.is_in(ids, chosen.cast(ids.type))).combine_chunks()
    return ids.filter(pc.is_in(keys, texts)).combine_chunks()
