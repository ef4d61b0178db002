"""An index in shards: each holds the vectors and the BM25 of some rows, and a search merges what all of them find.

A shard can be in this process (`LocalShards`) or in another one, so that no process needs memory for the whole index.
Source: our choice, as Lucene and Vespa split an index by documents.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from raylevance.data.groups import Allowed
from raylevance.errors import RaylevanceError
from raylevance.index.fusion import Ranking
from raylevance.index.lexical import LexicalIndex
from raylevance.index.ranking import Rows, sort_by_score
from raylevance.index.vectors import VectorIndex, Vectors

QUERIES_AT_ONCE = 32
VECTORS_FOLDER, LEXICAL_FOLDER, SHARDS_FOLDER = "vectors", "lexical", "shards"


@dataclass(frozen=True)
class IndexShard:
    """The vectors and the BM25 of consecutive rows of an index. Its rows are numbered from 0."""

    vectors: VectorIndex
    lexical: LexicalIndex

    def __len__(self) -> int:
        return len(self.vectors)

    def save(self, folder: Path) -> None:
        """Write the shard to `folder`. Raises `RaylevanceError` if it cannot be written."""
        self.vectors.save(folder / VECTORS_FOLDER)
        self.lexical.save(folder / LEXICAL_FOLDER)

    @classmethod
    def load(cls, folder: Path, *, use_gpu: bool = False) -> Self:
        """Load a shard that `save` wrote. Raises `RaylevanceError` if a file is missing or damaged."""
        vectors = VectorIndex.load(folder / VECTORS_FOLDER, use_gpu=use_gpu)
        lexical = LexicalIndex.load(folder / LEXICAL_FOLDER)
        if len(vectors) != len(lexical):
            lengths = f"{len(vectors)} vectors, {len(lexical)} BM25 documents"
            raise damaged(folder, f"got {lengths}")
        return cls(vectors, lexical)


class Shards(Protocol):
    """The shards of an index, here or in other processes. The rows of each are numbered from 0.

    Each method takes one argument for each shard, or one for all of them, and returns one result for each.
    """

    @property
    def sizes(self) -> Sequence[int]:
        """The number of rows of each shard."""

    def nearest(self, queries: Vectors, k: int, allowed: Sequence[Allowed | None]) -> list[Ranking]:
        """Search for the nearest vectors, as `VectorIndex.search`."""

    def matching(self, queries: Sequence[str], k: int, allowed: Sequence[Allowed | None]) -> list[Ranking]:
        """Search by BM25, as `LexicalIndex.search`."""

    def vectors(self, rows: Sequence[Rows]) -> list[Vectors]:
        """Return the vectors of rows, as `VectorIndex.vectors`."""


@dataclass(frozen=True)
class LocalShards:
    """Shards in this process."""

    shards: Sequence[IndexShard]

    @property
    def sizes(self) -> Sequence[int]:
        """The number of rows of each shard."""
        return [len(shard) for shard in self.shards]

    def nearest(self, queries: Vectors, k: int, allowed: Sequence[Allowed | None]) -> list[Ranking]:
        """Search for the nearest vectors, as `Shards.nearest`."""
        return [shard.vectors.search(queries, k, part) for shard, part in zip(self.shards, allowed, strict=True)]

    def matching(self, queries: Sequence[str], k: int, allowed: Sequence[Allowed | None]) -> list[Ranking]:
        """Search by BM25, as `Shards.matching`."""
        return [shard.lexical.search(queries, k, part) for shard, part in zip(self.shards, allowed, strict=True)]

    def vectors(self, rows: Sequence[Rows]) -> list[Vectors]:
        """Return the vectors of rows, as `Shards.vectors`."""
        return [shard.vectors.vectors(part) for shard, part in zip(self.shards, rows, strict=True)]


class _AllShards:
    """All rows of an index, numbered through its shards."""

    def __init__(self, shards: Shards) -> None:
        """Search in `shards`."""
        self._shards = shards
        self._starts = np.cumsum([0, *shards.sizes])

    def __len__(self) -> int:
        return int(self._starts[-1])


class ShardedVectors(_AllShards):
    """The vectors of all shards, searched like a `VectorIndex`. With exact shards, the results are those of one."""

    def search(self, queries: Vectors, k: int, allowed: Allowed | None = None) -> Ranking:
        """Search for the `k` nearest rows of each query, as `VectorIndex.search`."""
        found = self._shards.nearest(queries, k, split_mask(allowed, self._starts))
        return merge_shards(found, self._starts, k)

    def vectors(self, rows: Rows) -> Vectors:
        """Return the vectors of `rows`, int64 [n], as float32 [n, d]."""
        shard_of = np.searchsorted(self._starts, rows, side="right") - 1
        numbers = range(len(self._starts) - 1)
        parts = self._shards.vectors([rows[shard_of == number] - self._starts[number] for number in numbers])
        vectors = np.empty((len(rows), parts[0].shape[1]), np.float32)
        for number, part in enumerate(parts):
            vectors[shard_of == number] = part
        return vectors


class ShardedLexical(_AllShards):
    """The BM25 of all shards, searched like the `LexicalIndex` that they were split from, with the same scores."""

    def search(self, queries: Sequence[str], k: int, allowed: Allowed | None = None) -> Ranking:
        """Search for the `k` best rows of each query, as `LexicalIndex.search`."""
        found = self._shards.matching(queries, k, split_mask(allowed, self._starts))
        return merge_shards(found, self._starts, k)


VectorSearch = VectorIndex | ShardedVectors
LexicalSearch = LexicalIndex | ShardedLexical


def vectors_of(index: VectorSearch, rows: Rows) -> Iterator[Vectors]:
    """Return the vectors of the rows of each of m queries; `rows` is int64 [m, k], -1 for no row.

    They are fetched for `QUERIES_AT_ONCE` queries together, because the shards may be in other processes.
    """
    for first in range(0, len(rows), QUERIES_AT_ONCE):
        block = rows[first : first + QUERIES_AT_ONCE]
        counts = (block >= 0).sum(axis=1)
        yield from np.split(index.vectors(block[block >= 0]), np.cumsum(counts)[:-1])


def split_mask(allowed: Allowed | None, starts: npt.NDArray[Any]) -> list[Allowed | None]:
    """Return the part of a mask of all rows for each shard; None for each without a mask."""
    return [None if allowed is None else allowed[start:stop] for start, stop in pairwise(starts)]


def merge_shards(found: Sequence[Ranking], starts: npt.NDArray[Any], k: int) -> Ranking:
    """Return the `k` best of the rankings of all shards, whose rows are numbered from 0 in each."""
    scores = np.concatenate([scores for scores, _ in found], axis=1)
    numbered = [np.where(rows < 0, rows, rows + start) for (_, rows), start in zip(found, starts[:-1], strict=True)]
    scores, rows = sort_by_score(scores, np.concatenate(numbered, axis=1))
    return scores[:, :k], rows[:, :k]


def shard_bounds(rows: int, shards: int) -> list[tuple[int, int]]:
    """Return the first row of each shard and the row after its last, of sizes that differ by at most one."""
    edges = [rows * number // shards for number in range(shards + 1)]
    return list(pairwise(edges))


def damaged(folder: Path, reason: object) -> RaylevanceError:
    """Return the error of an index whose files can't be read, or do not belong together."""
    return RaylevanceError(f"{folder}: damaged index; build it again: {str(reason).splitlines()[0]}")
