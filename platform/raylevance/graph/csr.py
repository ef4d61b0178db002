"""Weighted directed graphs in compressed sparse rows, kept as Arrow files that are mapped into memory.

A file is one shard: a run of rows, one record each, with two list columns. Arrow's lists are the compressed rows
themselves (offsets and values), so opening a shard copies nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raylevance.errors import RaylevanceError

Ints = npt.NDArray[np.int64]
Nodes = npt.NDArray[np.int32]
Weights = npt.NDArray[np.float32]

SCHEMA = pa.schema({"neighbours": pa.large_list(pa.int32()), "weights": pa.large_list(pa.float32())})
FIRST, COLUMNS = b"first_row", b"columns"


@dataclass(frozen=True)
class Csr:
    """Rows `first` to `first + rows` of a graph.

    `indptr` int64 [rows + 1] starts at 0; `indices` int32 [edges] ascend within a row; `weights` float32 [edges];
    `columns`: how many nodes an index may name.
    """

    indptr: Ints
    indices: Nodes
    weights: Weights
    columns: int
    first: int = 0

    @classmethod
    def from_edges(
        cls,
        rows: npt.NDArray[np.integer],
        columns: npt.NDArray[np.integer],
        weights: npt.NDArray[np.floating],
        shape: tuple[int, int],
    ) -> Self:
        """A whole graph of `shape` from edges [m] in any order; those named twice stay two."""
        order = np.argsort(rows.astype(np.int64) * shape[1] + columns, kind="stable")
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))]).astype(np.int64)
        return cls(indptr, columns[order].astype(np.int32), weights[order].astype(np.float32), shape[1])

    @property
    def rows(self) -> int:
        return len(self.indptr) - 1

    @property
    def degrees(self) -> Ints:
        """Edges of each row, int64 [rows]."""
        return np.diff(self.indptr)

    def row(self, node: int) -> tuple[Nodes, Weights]:
        """The neighbours of `node` and the weights of its edges."""
        place = slice(self.indptr[node - self.first], self.indptr[node - self.first + 1])
        return self.indices[place], self.weights[place]

    def edge_rows(self) -> Nodes:
        """The row of each edge, int32 [edges]."""
        return np.repeat(np.arange(self.first, self.first + self.rows, dtype=np.int32), self.degrees)

    def edges_of(self, nodes: npt.NDArray[np.integer]) -> Ints:
        """Where the edges of each of `nodes` [n] stand in `indices`, node by node."""
        rows = nodes - self.first
        counts = self.degrees[rows]
        return np.repeat(self.indptr[rows] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())

    def transposed(self) -> "Csr":
        """The same edges from their other end; of a whole graph."""
        return Csr.from_edges(self.indices, self.edge_rows(), self.weights, (self.columns, self.rows))

    def part(self, first: int, end: int) -> "Csr":
        """Rows `first` to `end` (nodes), as views."""
        start, stop = first - self.first, end - self.first
        edges = slice(self.indptr[start], self.indptr[stop])
        indptr = self.indptr[start : stop + 1] - self.indptr[start]
        return Csr(indptr, self.indices[edges], self.weights[edges], self.columns, first)

    def between(self, start: int, stop: int) -> "Csr":
        """The same rows, numbered from 0, with the columns `start` to `stop` alone, which are numbered from 0 too."""
        kept = (self.indices >= start) & (self.indices < stop)
        indptr = np.concatenate([[0], np.cumsum(kept)])[self.indptr].astype(np.int64)
        return Csr(indptr, self.indices[kept] - np.int32(start), self.weights[kept], stop - start)

    def save(self, file: Path) -> None:
        """Write these rows as one shard."""
        metadata = {FIRST: str(self.first).encode(), COLUMNS: str(self.columns).encode()}
        schema = SCHEMA.with_metadata(metadata)
        offsets = pa.array(self.indptr)
        lists = [
            pa.LargeListArray.from_arrays(offsets, pa.array(values, kind))
            for values, kind in ((self.indices, pa.int32()), (self.weights, pa.float32()))
        ]
        file.parent.mkdir(parents=True, exist_ok=True)
        with pa.ipc.new_file(str(file), schema) as writer:
            writer.write_batch(pa.record_batch(lists, schema=schema))

    @classmethod
    def map(cls, file: Path) -> Self:
        """The shard `file`, mapped into memory. Raises `RaylevanceError` where it is none."""
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(file)))
            batch = reader.get_batch(0)
            metadata = reader.schema.metadata
            neighbours, weights = batch.column("neighbours"), batch.column("weights")
            return cls(
                neighbours.offsets.to_numpy(),
                neighbours.values.to_numpy(),
                weights.values.to_numpy(),
                int(metadata[COLUMNS]),
                int(metadata[FIRST]),
            )
        except (pa.ArrowInvalid, KeyError, TypeError) as error:
            raise RaylevanceError(f"{file}: not a shard of a graph: {error}") from None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The whole graph whose shards are in `folder`: mapped where there is one, joined in memory otherwise.

        Raises `RaylevanceError` where rows are missing.
        """
        shards = sorted((cls.map(file) for file in folder.glob("*.arrow")), key=lambda shard: shard.first)
        ends = [0, *(shard.first + shard.rows for shard in shards)]
        if not shards or [shard.first for shard in shards] != ends[:-1]:
            raise RaylevanceError(f"{folder}: shards of the graph are missing")
        return shards[0] if len(shards) == 1 else cls.joined(shards)

    @classmethod
    def joined(cls, shards: Sequence["Csr"]) -> Self:
        """One graph of shards that follow each other."""
        starts = np.cumsum([0, *(shard.indptr[-1] for shard in shards)])
        tails = [shard.indptr[1:] + start for shard, start in zip(shards, starts[:-1], strict=True)]
        return cls(
            np.concatenate([np.zeros(1, np.int64), *tails]),
            np.concatenate([shard.indices for shard in shards]),
            np.concatenate([shard.weights for shard in shards]),
            shards[0].columns,
            shards[0].first,
        )
