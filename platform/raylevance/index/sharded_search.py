"""Nearest rows among more vectors than one memory holds: each shard is searched by itself, the best of all are kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import ray
import ray.data

from raylevance.data.groups import Groups
from raylevance.index.approximate import SMALLEST_IVFPQ
from raylevance.index.fusion import Ranking
from raylevance.index.group_search import search_groups
from raylevance.index.ranking import by_score
from raylevance.index.vectors import IndexSettings, VectorIndex, Vectors

QUERIES_AT_ONCE = 20_000
"""Query vectors and their best rows so far are held once on the driver: 110 MB at 384 dimensions and k = 200."""


def search_shards(
    shards: Sequence[Path], queries: Vectors, k: int, settings: IndexSettings, groups: Groups | None = None
) -> Ranking:
    """Scores and rows [m, k] of the `k` nearest rows, of its own group, for each of `queries` [m, d], best first.

    `shards`: .npy files of unit vectors float32 [n_i, d] that every node sees; rows are numbered through all of them.
    Each is indexed as `settings` say (one too small for IVF-PQ: exactly) and searched by one Ray task, so memory is a
    shard an active task, whatever their number. `kind=exact` finds what one exact index of everything finds, the lower
    row first among equals. -1 stands where there are fewer than k rows.
    """
    sizes = [len(np.load(shard, mmap_mode="r")) for shard in shards]
    first = np.cumsum([0, *sizes[:-1]])
    found = []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        chosen = slice(start, start + QUERIES_AT_ONCE)
        of_chosen = groups and groups.part(chosen, slice(None))
        found.append(_search(shards, first, queries[chosen], k, settings, of_chosen))
    if not found:
        return np.empty((0, k), np.float32), np.empty((0, k), np.int64)
    return np.concatenate([scores for scores, _ in found]), np.concatenate([rows for _, rows in found])


def merge(one: Ranking, other: Ranking, k: int) -> Ranking:
    """The `k` best of two rankings [m, k1] and [m, k2] of different rows."""
    scores = np.concatenate([one[0], other[0]], axis=1)
    rows = np.concatenate([one[1], other[1]], axis=1)
    scores, rows = by_score(scores, rows)
    return scores[:, :k], rows[:, :k]


def _search(
    shards: Sequence[Path], first: Any, queries: Vectors, k: int, settings: IndexSettings, groups: Groups | None
) -> Ranking:
    shared = ray.put((queries, groups))
    tasks = ray.data.from_items(
        [{"shard": str(shard), "first": int(start)} for shard, start in zip(shards, first, strict=True)],
        override_num_blocks=len(shards),
    )
    machines = sum(node["Alive"] for node in ray.nodes())
    searched = tasks.map_batches(
        cast(Any, _search_shard),
        fn_kwargs={"shared": shared, "k": k, "settings": settings},
        batch_size=1,
        num_cpus=max(1, int(ray.cluster_resources()["CPU"]) // machines),
    )
    best: Ranking = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for batch in searched.iter_batches(batch_size=1, batch_format="numpy"):
        best = merge(best, (batch["scores"][0], batch["rows"][0]), k)
    short = k - best[0].shape[1]
    padding = ((0, 0), (0, short))
    return np.pad(best[0], padding, constant_values=-np.inf), np.pad(best[1], padding, constant_values=-1)


def _search_shard(shard: dict[str, Any], shared: Any, k: int, settings: IndexSettings) -> dict[str, Any]:
    """One shard's best rows, numbered through all shards, as a batch of one; `shared`: the queries and their groups."""
    vectors = np.load(shard["shard"][0])
    first = int(shard["first"][0])
    queries, groups = ray.get(shared)
    if len(vectors) < SMALLEST_IVFPQ:
        settings = settings.model_copy(update={"kind": "exact"})
    index = VectorIndex.build(vectors, settings)
    k = min(k, len(vectors))
    if groups is None:
        scores, rows = index.search(queries, k)
    else:
        own = groups.part(slice(None), slice(first, first + len(vectors)))
        scores, rows = search_groups(own, lambda places, allowed: index.search(queries[places], k, allowed))
    rows = np.where(rows < 0, rows, rows + first)
    return {"scores": scores[None], "rows": rows[None]}
