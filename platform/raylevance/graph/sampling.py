"""Pairs of all types from a behaviour graph: anchors are walked from and sampled in chunks, on all processors.

Pairs are rows of numbers (`PAIRS`): `kind` is query-query, item-item or query-item; nodes are numbered within their
own kind.
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
from raylevance.data.blocks import collect
from raylevance.graph.alias import AliasTable
from raylevance.graph.building import BehaviourGraph
from raylevance.graph.csr import Csr
from raylevance.graph.pairs import PairSettings, Relation, sample_pairs
from raylevance.graph.related import bipartite, both_ways
from raylevance.graph.walks import WalkSettings, walk

Kind = Literal["query-query", "item-item", "query-item"]
KINDS: tuple[Kind, ...] = ("query-query", "item-item", "query-item")
PAIRS = pa.schema(
    {"kind": pa.string(), "anchor": pa.int32(), "positive": pa.int32(), "negatives": pa.list_(pa.int32())}
)
ANCHORS_PER_CHUNK = 20_000


class Mix(Settings):
    """Shares of the pair types; those that a graph can't fill are filled by the others (our choice)."""

    query_query: float = Field(0.4, ge=0)
    item_item: float = Field(0.2, ge=0)
    query_item: float = Field(0.4, ge=0)


class SamplingSettings(Settings):
    """Walks, the rules of pairs, their mix, and how many there are in all at most (null: as `filled` says)."""

    walks: WalkSettings = WalkSettings(p=0.5, q=2.0)
    related: WalkSettings | None = WalkSettings(walks_per_node=200)
    """Walks from a node that come by what is no negative of it (null: its neighbours alone are none)."""
    pairs: PairSettings = PairSettings()
    mix: Mix = Mix()
    most: PositiveInt | None = None

    @field_validator("walks", "related")
    @classmethod
    def _no_path(cls, walks: WalkSettings | None) -> WalkSettings | None:
        if walks and walks.meta_path:
            raise ValueError("meta_path is not to be set here: each kind of pairs has its own")
        return walks


@dataclass(frozen=True)
class Ground:
    """What pairs of one kind are drawn from: a table to walk on, and the relation of anchors to targets."""

    kind: Kind
    table: AliasTable
    relation: Relation
    walks: WalkSettings


def grounds(graph: BehaviourGraph, related: Csr, features: tuple[Csr, Csr], settings: WalkSettings) -> list[Ground]:
    """Of each kind. `related`: as `related_on_cluster` says. `features`: queries by features and items by features."""
    queries, items = features
    alternating = settings.model_copy(update={"meta_path": (0, 1)})
    first_item, nodes = graph.edges.rows, related.rows
    of_queries, of_items = related.part(0, first_item), related.part(first_item, nodes)
    return [
        Ground(
            "query-query",
            AliasTable.build(graph.query_ppmi),
            Relation(
                ppmi=graph.query_ppmi,
                near=both_ways(graph.query_ppmi),
                related=of_queries.between(0, first_item),
                features=queries,
                featured=queries.transposed(),
                same=True,
            ),
            settings,
        ),
        Ground(
            "item-item",
            AliasTable.build(graph.item_ppmi),
            Relation(
                ppmi=graph.item_ppmi,
                near=both_ways(graph.item_ppmi),
                related=of_items.between(first_item, nodes),
                features=items,
                featured=items.transposed(),
                same=True,
            ),
            settings,
        ),
        Ground(
            "query-item",
            AliasTable.build(bipartite(graph.edges), (0, first_item)),
            Relation(
                ppmi=graph.query_item_ppmi,
                near=graph.edges,
                related=of_queries.between(first_item, nodes),
                features=queries,
                featured=items.transposed(),
                same=False,
                first_target=first_item,
            ),
            alternating,
        ),
    ]


def sample_on_cluster(ground: Ground, settings: PairSettings, seed: int) -> pa.Table:
    """`PAIRS` of one kind, in the order of their anchors: the same on any number of workers."""
    anchors = np.flatnonzero(ground.relation.ppmi.degrees)
    starts = [{"start": start} for start in range(0, len(anchors), ANCHORS_PER_CHUNK)]
    if not starts:
        return PAIRS.empty_table()
    shared = ray.put((ground, anchors))

    def sample(batch: pa.Table) -> pa.Table:
        there, everyone = ray.get(shared)
        start = batch["start"][0].as_py()
        return sample_anchors(there, everyone[start : start + ANCHORS_PER_CHUNK], settings, seed)

    chunks = ray.data.from_items(starts, override_num_blocks=len(starts))
    rows = chunks.map_batches(sample, batch_size=1, batch_format="pyarrow")
    rows.context.execution_options.preserve_order = True
    return collect(rows, PAIRS)


def sample_anchors(ground: Ground, anchors: npt.NDArray[Any], settings: PairSettings, seed: int) -> pa.Table:
    """`PAIRS` of `anchors` [n]."""
    walks = walk(ground.table, anchors, ground.walks, seed)
    samples = sample_pairs(walks, anchors, ground.relation, settings, seed)
    place, rank = np.nonzero(samples.positives >= 0)
    negatives = samples.negatives[place, rank]
    offsets = np.concatenate([[0], np.cumsum((negatives >= 0).sum(axis=1))])
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(negatives[negatives >= 0], pa.int32()))
    columns = [
        pa.repeat(ground.kind, len(place)),
        anchors[place].astype(np.int32),
        samples.positives[place, rank],
        lists,
    ]
    return pa.table([pa.chunked_array([column]) for column in columns], schema=PAIRS)


def mixed(pairs: list[pa.Table], settings: SamplingSettings, seed: int) -> pa.Table:
    """Pairs of the kinds `KINDS` in the shares of the mix, shuffled."""
    shares = np.array([settings.mix.query_query, settings.mix.item_item, settings.mix.query_item])
    counts = filled(np.array([part.num_rows for part in pairs]), shares, settings.most)
    random = np.random.default_rng(seed)
    kept = [
        part.take(pa.array(np.sort(random.permutation(part.num_rows)[:count])))
        for part, count in zip(pairs, counts, strict=True)
    ]
    table = pa.concat_tables(kept)
    return table.take(pa.array(random.permutation(table.num_rows)))


def filled(found: npt.NDArray[Any], shares: npt.NDArray[Any], most: int | None) -> list[int]:
    """How many of each kind to take of those `found` [kinds].

    `most` in the given shares, where the others make up for a kind that runs out. Without `most`, all of the most
    plentiful of the kinds that are wanted most, and of each other kind its share beside that, if there are so many.
    """
    left = (shares > 0) & (found > 0)
    if most is None:
        largest = shares[left].max(initial=0)
        unit = found[left & (shares == largest)].max(initial=0) / (largest or 1)
        return [int(count) for count in np.minimum(found, (unit * shares).round())]
    counts = np.zeros(len(found), np.int64)
    while left.any():
        room = (most - counts.sum()) * shares * left / (shares * left).sum()
        exhausted = left & (room >= found)
        if not exhausted.any():
            counts[left] = room[left].round()
            break
        counts[exhausted] = found[exhausted]
        left &= ~exhausted
    return [int(count) for count in counts]
