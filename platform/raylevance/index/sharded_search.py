"""Search for the nearest of more vectors than fit in memory: each shard is searched, and the results are merged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import ray
import ray.data

from raylevance.cluster import cpus_per_node
from raylevance.data.groups import Groups
from raylevance.index.approximate import MIN_IVFPQ_ROWS
from raylevance.index.fusion import Ranking
from raylevance.index.group_search import search_groups
from raylevance.index.ranking import sort_by_score
from raylevance.index.vectors import IndexSettings, VectorIndex, Vectors

QUERIES_PER_PASS = 20_000
"""Queries that are searched at once. At 384 dimensions and k = 200, the driver holds 110 MB of vectors and results."""


def search_shards(
    shards: Sequence[Path], queries: Vectors, k: int, settings: IndexSettings, groups: Groups | None = None
) -> Ranking:
    """Search all `shards` for the `k` rows nearest to each of `queries`, float32 [m, d], unit norm.

    Each shard is indexed as `settings` say (exactly, if it is too small for IVF-PQ) and searched by one Ray task, so
    memory use is one shard for each task that runs, however many shards there are. With `kind=exact` the result is that
    of one exact index over all rows.

    - `shards`: .npy files of unit vectors, float32 [n_i, d], that every machine can read. Rows are numbered through all
      of them.
    - `groups`: the group of each query and row, if a query may only find rows of its own group.

    Returns scores and rows, both [m, k], best first and the lower row first among equals. If there are fewer than `k`
    rows, the rest is filled with -inf and -1.
    """
    sizes = [len(np.load(shard, mmap_mode="r")) for shard in shards]
    first_rows = np.cumsum([0, *sizes[:-1]])
    rankings = []
    for start in range(0, len(queries), QUERIES_PER_PASS):
        part = slice(start, start + QUERIES_PER_PASS)
        part_groups = groups and groups.part(part, slice(None))
        rankings.append(_search(shards, first_rows, queries[part], k, settings, part_groups))
    if not rankings:
        return np.empty((0, k), np.float32), np.empty((0, k), np.int64)
    return np.concatenate([scores for scores, _ in rankings]), np.concatenate([rows for _, rows in rankings])


def merge_rankings(one: Ranking, other: Ranking, k: int) -> Ranking:
    """Return the `k` best of two rankings, [m, k1] and [m, k2], that have no row in common."""
    scores = np.concatenate([one[0], other[0]], axis=1)
    rows = np.concatenate([one[1], other[1]], axis=1)
    scores, rows = sort_by_score(scores, rows)
    return scores[:, :k], rows[:, :k]


def _search(
    shards: Sequence[Path], first_rows: Any, queries: Vectors, k: int, settings: IndexSettings, groups: Groups | None
) -> Ranking:
    shared = ray.put((queries, groups))
    tasks = ray.data.from_items(
        [{"shard": str(shard), "first": int(first)} for shard, first in zip(shards, first_rows, strict=True)],
        override_num_blocks=len(shards),
    )
    results = tasks.map_batches(
        cast(Any, _search_shard),
        fn_kwargs={"shared": shared, "k": k, "settings": settings},
        batch_size=1,
        num_cpus=cpus_per_node(),
    )
    best: Ranking = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for batch in results.iter_batches(batch_size=1, batch_format="numpy"):
        best = merge_rankings(best, (batch["scores"][0], batch["rows"][0]), k)
    padding = ((0, 0), (0, k - best[0].shape[1]))
    return np.pad(best[0], padding, constant_values=-np.inf), np.pad(best[1], padding, constant_values=-1)


def _search_shard(task: dict[str, Any], shared: Any, k: int, settings: IndexSettings) -> dict[str, Any]:
    """Return the best rows of one shard, numbered through all shards, as a batch of one.

    `shared` refers to the queries and their groups.
    """
    vectors = np.load(task["shard"][0])
    first = int(task["first"][0])
    queries, groups = ray.get(shared)
    if len(vectors) < MIN_IVFPQ_ROWS:
        settings = settings.model_copy(update={"kind": "exact"})
    index = VectorIndex.build(vectors, settings)
    k = min(k, len(vectors))
    if groups is None:
        scores, rows = index.search(queries, k)
    else:
        shard_groups = groups.part(slice(None), slice(first, first + len(vectors)))
        scores, rows = search_groups(shard_groups, lambda chosen, allowed: index.search(queries[chosen], k, allowed))
    rows = np.where(rows < 0, rows, rows + first)
    return {"scores": scores[None], "rows": rows[None]}
