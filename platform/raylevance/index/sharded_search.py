"""Search for the nearest of more vectors than fit in memory: each shard is searched, and the results are merged."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import ray
import ray.data

from raylevance.cluster import count_gpus
from raylevance.data.groups import Groups
from raylevance.errors import RaylevanceError
from raylevance.index.approximate import MIN_IVFPQ_ROWS
from raylevance.index.fusion import Ranking
from raylevance.index.group_search import search_groups
from raylevance.index.ranking import sort_by_score
from raylevance.index.vectors import IndexSettings, VectorIndex, Vectors, check_gpu_kind

QUERIES_PER_PASS = 20_000
"""Queries that a task searches at once. At 384 dimensions and k = 200, it holds 110 MB of vectors and results."""


def search_shards(
    shards: Sequence[Path], queries: Vectors, k: int, settings: IndexSettings, groups: Groups | None = None
) -> Ranking:
    """Search all `shards` for the `k` rows nearest to each of `queries`, float32 [m, d], unit norm.

    Each shard is indexed once, as `settings` say (exactly, if it is too small for IVF-PQ), by one Ray task that has one
    processor and, with `use_gpu`, one GPU. Memory use is one shard for each task that runs, however many shards there
    are, and the result of all queries. With `kind=exact` the result is that of one exact index over all rows.

    - `shards`: .npy files of unit vectors, float32 [n_i, d], that every machine can read. Rows are numbered through all
      of them.
    - `groups`: the group of each query and row, if a query may only find rows of its own group.

    Returns scores and rows, both [m, k], best first and the lower row first among equals. If there are fewer than `k`
    rows, the rest is filled with -inf and -1.

    Raises `RaylevanceError` if the settings ask for a GPU that the cluster does not have.
    """
    check_cluster_gpu(settings)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    if len(queries):
        for batch in _search(shards, queries, k, settings, groups).iter_batches(batch_size=1, batch_format="numpy"):
            start, found = int(batch["start"][0]), (batch["scores"][0], batch["rows"][0])
            part = slice(start, start + len(found[0]))
            scores[part], rows[part] = merge_rankings((scores[part], rows[part]), found, k)
    return scores, rows


def check_cluster_gpu(settings: IndexSettings, name: str = "index.") -> None:
    """Raise `RaylevanceError` if `settings` ask for a GPU that no node has or that can't search this kind of index.

    `name` is the dotted prefix of `settings` in the message, such as "mining.index.".
    """
    if not settings.use_gpu:
        return
    check_gpu_kind(settings, name)
    if not count_gpus():
        raise RaylevanceError(f"{name}use_gpu is set, but no node of the cluster has a GPU; set it to false")


def merge_rankings(one: Ranking, other: Ranking, k: int) -> Ranking:
    """Return the `k` best of two rankings, [m, k1] and [m, k2], that have no row in common."""
    scores = np.concatenate([one[0], other[0]], axis=1)
    rows = np.concatenate([one[1], other[1]], axis=1)
    scores, rows = sort_by_score(scores, rows)
    return scores[:, :k], rows[:, :k]


def _search(
    shards: Sequence[Path], queries: Vectors, k: int, settings: IndexSettings, groups: Groups | None
) -> ray.data.Dataset:
    """Return a row for each shard and pass over the queries: the number of the first query, and scores and rows."""
    sizes = [len(np.load(shard, mmap_mode="r")) for shard in shards]
    first_rows = np.cumsum([0, *sizes[:-1]])
    tasks = [{"shard": str(shard), "first": int(first)} for shard, first in zip(shards, first_rows, strict=True)]
    return ray.data.from_items(tasks, override_num_blocks=len(shards)).map_batches(
        cast(Any, _search_shard),
        fn_kwargs={"shared": ray.put((queries, groups)), "k": k, "settings": settings},
        batch_size=1,
        num_cpus=1,
        num_gpus=int(settings.use_gpu),
    )


def _search_shard(task: dict[str, Any], shared: Any, k: int, settings: IndexSettings) -> Iterator[dict[str, Any]]:
    """Yield the best rows of one shard for one pass of queries after the other, numbered through all shards.

    `shared` refers to the queries and their groups.
    """
    vectors = np.load(task["shard"][0])
    first = int(task["first"][0])
    queries, groups = ray.get(shared)
    if len(vectors) < MIN_IVFPQ_ROWS:
        settings = settings.model_copy(update={"kind": "exact"})
    index = VectorIndex.build(vectors, settings)
    shard_groups = groups and groups.part(slice(None), slice(first, first + len(vectors)))
    for start in range(0, len(queries), QUERIES_PER_PASS):
        part = slice(start, start + QUERIES_PER_PASS)
        scores, rows = _search_pass(index, queries[part], k, shard_groups and shard_groups.part(part, slice(None)))
        rows = np.where(rows < 0, rows, rows + first)
        yield {"start": np.array([start]), "scores": scores[None], "rows": rows[None]}


def _search_pass(index: VectorIndex, queries: Vectors, k: int, groups: Groups | None) -> Ranking:
    k = min(k, len(index))
    if groups is None:
        return index.search(queries, k)
    return search_groups(groups, lambda chosen, allowed: index.search(queries[chosen], k, allowed))
