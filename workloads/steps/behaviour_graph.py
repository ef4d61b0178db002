"""Build the behaviour graph of a recipe from the log in its tables, or from simulated clicks."""

from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq
import ray.data

from raylevance.artifacts import Artifact, Draft, Store, digest, fingerprint
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.simulated_clicks import SimulationSettings, simulate_clicks
from raylevance.data.text import query_key
from raylevance.errors import RaylevanceError, UsageError
from raylevance.graph.baskets import BasketFile, read_baskets
from raylevance.graph.building import BehaviourGraph, GraphSettings, build_graph, describe_graph, merge_graph
from workloads.run import Run

LOGGED, SIMULATED = "the log", "clicks simulated from training judgements"


class BehaviourSettings(GraphSettings):
    """How a behaviour graph is built, and from what."""

    simulation: SimulationSettings = SimulationSettings()
    """How clicks are simulated for data that has no log."""
    merge_into: str | None = None
    """graph/NAME[@VERSION] that the events of the tables are added to, such as the graph up to yesterday."""
    baskets: BasketFile | None = None
    """Products that were bought together without a search. Give them again when a day is merged."""


def graph_step(
    run: Run,
    tables: Artifact,
    learned: JudgedTables,
    held_out: pa.Array,
    settings: BehaviourSettings,
    seed: int,
    name: str = "graph/behaviour",
) -> Artifact:
    """Return the graph of all events, without those of the queries `held_out` (ids) and of queries with their texts.

    Tables without events get a log that is simulated from the judgements of `learned`. Raises `RaylevanceError` when
    such a log would be merged into another graph.
    """
    folder = run.store.path(tables.ref)
    before = graph_before(settings.merge_into, tables, run.store) if settings.merge_into else None
    if before and not has_log(folder):
        raise RaylevanceError(f"behaviour.merge_into={settings.merge_into}: {tables.ref} has no events to merge")
    held_out = query_ids_with_same_text(held_out, pq.read_table(folder / "queries", columns=["query_id", "query"]))
    baskets = partial(read_baskets, settings.baskets, held_out_queries=held_out) if settings.baskets else None

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

    if settings.baskets:
        settings.baskets.check()
    described = {
        **dict(settings),
        "equal_ppmi": "highest click weight first",
        "held_out": fingerprint(sorted(held_out.to_pylist())),
        "learned": fingerprint(learned.queries["query_id"].to_pylist()),
    }
    if settings.baskets:
        # The content of the file decides the graph, not its place.
        described["baskets"] = {**dict(settings.baskets), "file": digest([settings.baskets.file])}
    inputs = [tables, before] if before else [tables]
    return run.step(name, build, settings=described, inputs=inputs, seed=seed)


def graph_before(name: str, tables: Artifact, store: Store) -> Artifact:
    """Return the graph `name` as it was before the events of `tables` were merged into it, so none counts twice.

    Raises `RaylevanceError` when the graph was built from `tables` in the first place.
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
    """Return whether a tables folder has a log of events."""
    return (tables / "events").is_dir()


def has_choices(tables: Path, held_out: pa.Array) -> bool:
    """Return whether the log holds a click, cart or purchase for a query with another text than those of `held_out`.

    `held_out` holds query ids.
    """
    if not has_log(tables):
        return False
    unseen = query_ids_with_same_text(held_out, pq.read_table(tables / "queries", columns=["query_id", "query"]))
    chosen = (pc.field("action") != "exposure") & ~pc.field("query_id").isin(unseen)
    return bool(pyarrow.dataset.dataset(tables / "events", format="parquet").head(1, filter=chosen).num_rows)


def query_ids_with_same_text(chosen: pa.Array, queries: pa.Table) -> pa.Array:
    """Return the ids of `queries` (query_id, query) that share their normalised text with one of `chosen` (ids)."""
    keys, ids = query_key(queries["query"]), queries["query_id"]
    texts = keys.filter(pc.is_in(ids, chosen.cast(ids.type))).combine_chunks()
    return ids.filter(pc.is_in(keys, texts)).combine_chunks()
