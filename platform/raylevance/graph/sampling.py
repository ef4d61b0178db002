"""Training pairs of all kinds from a behaviour graph. Anchors are sampled in chunks, on all processors of a cluster.

Pairs are rows of `PAIR_SCHEMA`. Nodes are given by number, within their own kind. Queries and items are both anchors of
both kinds of nodes, because only the encoder of an anchor learns from its pair.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import ray.data
from pydantic import Field, PositiveInt, field_validator

from raylevance.config import Settings
from raylevance.data.collecting import collect
from raylevance.graph.alias import AliasTable
from raylevance.graph.building import BehaviourGraph
from raylevance.graph.csr import Csr
from raylevance.graph.excluded_negatives import bipartite
from raylevance.graph.metapaths import PpmiSettings, direct_ppmi
from raylevance.graph.pairs import PairGraphs, PairSettings, sample_pairs
from raylevance.graph.walks import WalkSettings, walk

PairKind = Literal["query-query", "item-item", "query-item", "item-query"]
PAIR_KINDS: tuple[PairKind, ...] = ("query-query", "item-item", "query-item", "item-query")

PAIR_SCHEMA = pa.schema(
    {"kind": pa.string(), "anchor": pa.int32(), "positive": pa.int32(), "negatives": pa.list_(pa.int32())}
)
"""Schema of sampled pairs. `kind` is one of `PAIR_KINDS`: that of the anchor, then that of the positive and the
negatives."""

ANCHORS_PER_CHUNK = 20_000


class PairShares(Settings):
    """The shares of the kinds of pairs. If a kind has too few pairs, the others fill its share (our choice)."""

    query_query: float = Field(0.4, ge=0)
    """Share of the pairs of two queries."""
    item_item: float = Field(0.2, ge=0)
    """Share of the pairs of two items."""
    query_item: float = Field(0.4, ge=0)
    """Share of the pairs of a query and an item, half of them anchored at the query and half at the item."""


class SamplingSettings(Settings):
    """How training pairs are sampled from a behaviour graph."""

    walks: WalkSettings = WalkSettings(p=0.5, q=2.0)
    """The random walks from which positives are drawn. No node that they visit is a negative."""
    related: WalkSettings | None = WalkSettings(walks_per_node=200)
    """The random walks whose visited nodes are excluded as negatives of the node they start from. The longer and the
    more they are, the easier the negatives. Null means that only a node's neighbours are excluded."""
    pairs: PairSettings = PairSettings()
    """The rules by which positives and negatives are drawn."""
    mix: PairShares = PairShares()
    """The shares of the kinds of pairs."""
    most: PositiveInt | None = None
    """Largest number of pairs in all. Null takes all pairs of the kind with the largest share, and of each other kind
    as many as its share allows."""

    @field_validator("walks", "related")
    @classmethod
    def _no_path(cls, walks: WalkSettings | None) -> WalkSettings | None:
        if walks and walks.meta_path:
            raise ValueError("meta_path must be empty here, because each kind of pairs has a meta-path of its own")
        return walks


@dataclass(frozen=True)
class PairSource:
    """Everything that pairs of one kind are drawn from: a table to walk on, the graphs that decide, and the walks.

    `first_anchor` is the number that anchor 0 has in walks.
    """

    kind: PairKind
    table: AliasTable
    graphs: PairGraphs
    walks: WalkSettings
    first_anchor: int = 0


_Nodes = tuple[int, int]
"""The first number of the nodes of one kind, and the number after their last one."""


def pair_sources(
    graph: BehaviourGraph,
    excluded_negatives: Csr,
    features: tuple[Csr, Csr],
    walks: WalkSettings,
    ppmi: PpmiSettings | None = None,
) -> list[PairSource]:
    """Return the source of each kind of pairs, in the order of `PAIR_KINDS`.

    - `excluded_negatives`: the result of `find_excluded_negatives`.
    - `features`: queries by features, and items by features.
    - `ppmi`: the settings that `graph` was built with; None means the defaults. An item's own best queries are found by
      them, because `graph.query_item_ppmi` is cut at the query's side.
    """
    first_item, nodes = graph.edges.rows, excluded_negatives.rows
    queries, items = (0, first_item), (first_item, nodes)
    of_queries, of_items = ((each, each.transposed()) for each in features)

    def graphs(weights: Csr, anchors: _Nodes, targets: _Nodes, first_target: int = 0) -> PairGraphs:
        return PairGraphs(
            ppmi=weights,
            excluded_negatives=excluded_negatives.select_rows(*anchors).select_columns(*targets),
            anchor_features=(of_queries if anchors == queries else of_items)[0],
            feature_targets=(of_queries if targets == queries else of_items)[1],
            same_kind=anchors == targets,
            first_target=first_target,
        )

    both_kinds = AliasTable.build(bipartite(graph.edges), (0, first_item))
    item_query_ppmi = direct_ppmi(graph.edges.transposed(), ppmi or PpmiSettings())
    return [
        PairSource(
            kind="query-query",
            table=AliasTable.build(graph.query_ppmi),
            graphs=graphs(graph.query_ppmi, queries, queries),
            walks=walks,
        ),
        PairSource(
            kind="item-item",
            table=AliasTable.build(graph.item_ppmi),
            graphs=graphs(graph.item_ppmi, items, items),
            walks=walks,
        ),
        PairSource(
            kind="query-item",
            table=both_kinds,
            graphs=graphs(graph.query_item_ppmi, queries, items, first_target=first_item),
            walks=walks.model_copy(update={"meta_path": (0, 1)}),
        ),
        PairSource(
            kind="item-query",
            table=both_kinds,
            graphs=graphs(item_query_ppmi, items, queries),
            walks=walks.model_copy(update={"meta_path": (1, 0)}),
            first_anchor=first_item,
        ),
    ]


def sample_on_cluster(source: PairSource, settings: PairSettings, seed: int) -> pa.Table:
    """Sample all pairs of one kind on a Ray cluster.

    Returns rows of `PAIR_SCHEMA` in the order of their anchors, the same on any number of workers.
    """
    anchors = np.flatnonzero(source.graphs.ppmi.degrees)
    starts = [{"start": start} for start in range(0, len(anchors), ANCHORS_PER_CHUNK)]
    if not starts:
        return PAIR_SCHEMA.empty_table()
    shared = ray.put((source, anchors))

    def sample(batch: pa.Table) -> pa.Table:
        source, anchors = ray.get(shared)
        start = batch["start"][0].as_py()
        return sample_anchors(source, anchors[start : start + ANCHORS_PER_CHUNK], settings, seed)

    chunks = ray.data.from_items(starts, override_num_blocks=len(starts))
    rows = chunks.map_batches(sample, batch_size=1, batch_format="pyarrow")
    rows.context.execution_options.preserve_order = True
    return collect(rows, PAIR_SCHEMA)


def sample_anchors(source: PairSource, anchors: npt.NDArray[Any], settings: PairSettings, seed: int) -> pa.Table:
    """Sample the pairs of `anchors` [n] in this process. Returns rows of `PAIR_SCHEMA`."""
    walks = walk(source.table, anchors + source.first_anchor, source.walks, seed)
    samples = sample_pairs(walks, anchors, source.graphs, settings, seed)
    row, rank = np.nonzero(samples.positives >= 0)
    negatives = samples.negatives[row, rank]
    offsets = np.concatenate([[0], np.cumsum((negatives >= 0).sum(axis=1))])
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(negatives[negatives >= 0], pa.int32()))
    columns = [
        pa.repeat(source.kind, len(row)),
        anchors[row].astype(np.int32),
        samples.positives[row, rank],
        lists,
    ]
    return pa.table([pa.chunked_array([column]) for column in columns], schema=PAIR_SCHEMA)


def mix_pairs(pairs: list[pa.Table], settings: SamplingSettings, seed: int) -> pa.Table:
    """Draw from the `pairs` of each kind, in the order of `PAIR_KINDS`, by the shares of the mix, and shuffle them."""
    query_query, item_item, *both_ways = (part.num_rows for part in pairs)
    shares = np.array([settings.mix.query_query, settings.mix.item_item, settings.mix.query_item])
    available = np.array([query_query, item_item, sum(both_ways)])
    *counts, count = pairs_per_kind(available, shares, settings.most)
    counts += halves(count, *both_ways)
    random = np.random.default_rng(seed)
    drawn = [
        part.take(pa.array(np.sort(random.permutation(part.num_rows)[:count])))
        for part, count in zip(pairs, counts, strict=True)
    ]
    table = pa.concat_tables(drawn)
    return table.take(pa.array(random.permutation(table.num_rows)))


def halves(count: int, first: int, second: int) -> list[int]:
    """Divide `count` in halves of at most `first` and `second`; one makes up for the other that is too small."""
    of_first = min(first, max(count - count // 2, count - second))
    return [of_first, min(second, count - of_first)]


def pairs_per_kind(available: npt.NDArray[Any], shares: npt.NDArray[Any], limit: int | None) -> list[int]:
    """Return how many pairs of each kind to take, given how many there are, `available` [kinds].

    Here pairs of a query and an item are one kind, whichever is the anchor.

    - With a `limit`: that many in all, in the given `shares` [kinds]. The others make up for a kind that runs out.
    - Without one: all pairs of the kind with the largest share (of several such kinds, the one with the most pairs),
      and as many of every other kind as keep to the shares, if there are that many.
    """
    open_kinds = (shares > 0) & (available > 0)
    if limit is None:
        largest = shares[open_kinds].max(initial=0)
        unit = available[open_kinds & (shares == largest)].max(initial=0) / (largest or 1)
        return [int(count) for count in np.minimum(available, (unit * shares).round())]
    counts = np.zeros(len(available), np.int64)
    while open_kinds.any():
        room = (limit - counts.sum()) * shares * open_kinds / (shares * open_kinds).sum()
        exhausted = open_kinds & (room >= available)
        if not exhausted.any():
            counts[open_kinds] = _rounded(room[open_kinds])
            break
        counts[exhausted] = available[exhausted]
        open_kinds &= ~exhausted
    return [int(count) for count in counts]


def _rounded(parts: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Round `parts` to whole numbers with the same sum: those with the largest remainders are rounded up."""
    whole = np.floor(parts).astype(np.int64)
    up = np.argsort(whole - parts, kind="stable")[: round(float(parts.sum())) - int(whole.sum())]
    whole[up] += 1
    return whole
