"""Weighted directed graphs as compressed sparse rows, stored in Arrow files that are mapped into memory.

A file is one shard: a range of rows, one record for each row, with two list columns. An Arrow list column already holds
offsets and values, which are the compressed rows, so opening a shard copies nothing.
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
FIRST_KEY, COLUMNS_KEY = b"first_row", b"columns"


@dataclass(frozen=True)
class Csr:
    """Rows `first` to `first + rows` of a graph, as compressed sparse rows.

    - `indptr` int64 [rows + 1]: where the edges of each row begin in `indices`, and where the last ones end. The first
      entry is 0.
    - `indices` int32 [edges]: the neighbours, ascending within a row.
    - `weights` float32 [edges]: the weight of each edge.
    - `columns`: the number of nodes that `indices` may refer to.
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
        """Build a whole graph of `shape` from edges [m] in any order. An edge given twice is stored twice."""
        order = np.argsort(rows.astype(np.int64) * shape[1] + columns, kind="stable")
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))]).astype(np.int64)
        return cls(indptr, columns[order].astype(np.int32), weights[order].astype(np.float32), shape[1])

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    @property
    def degrees(self) -> Ints:
        """Number of edges of each row, int64 [rows]."""
        return np.diff(self.indptr)

    def row(self, node: int) -> tuple[Nodes, Weights]:
        """Return the neighbours of `node` and the weights of its edges."""
        edges = slice(self.indptr[node - self.first], self.indptr[node - self.first + 1])
        return self.indices[edges], self.weights[edges]

    def edge_rows(self) -> Nodes:
        """Return the row of each edge, int32 [edges]."""
        return np.repeat(np.arange(self.first, self.first + self.rows, dtype=np.int32), self.degrees)

    def edge_positions(self, nodes: npt.NDArray[np.integer]) -> Ints:
        """Return the positions in `indices` of the edges of `nodes` [n], node by node, int64."""
        return segment_positions(self.indptr, nodes - self.first)

    def transposed(self) -> "Csr":
        """Return the graph with every edge reversed. The graph must be a whole one, not a shard."""
        return Csr.from_edges(self.indices, self.edge_rows(), self.weights, (self.columns, self.rows))

    def select_rows(self, first: int, end: int) -> "Csr":
        """Return the rows of the nodes `first` to `end` (exclusive). Indices and weights are views."""
        start, stop = first - self.first, end - self.first
        edges = slice(self.indptr[start], self.indptr[stop])
        indptr = self.indptr[start : stop + 1] - self.indptr[start]
        return Csr(indptr, self.indices[edges], self.weights[edges], self.columns, first)

    def select_columns(self, start: int, stop: int) -> "Csr":
        """Return the graph with only the columns `start` to `stop` (exclusive).

        Rows and columns of the result are both numbered from 0.
        """
        selected = (self.indices >= start) & (self.indices < stop)
        indptr = np.concatenate([[0], np.cumsum(selected)])[self.indptr].astype(np.int64)
        return Csr(indptr, self.indices[selected] - np.int32(start), self.weights[selected], stop - start)

    def save(self, file: Path) -> None:
        """Write these rows to `file` as one shard."""
        metadata = {FIRST_KEY: str(self.first).encode(), COLUMNS_KEY: str(self.columns).encode()}
        schema = SCHEMA.with_metadata(metadata)
        offsets = pa.array(self.indptr)
        lists = [
            pa.LargeListArray.from_arrays(offsets, pa.array(values, value_type))
            for values, value_type in ((self.indices, pa.int32()), (self.weights, pa.float32()))
        ]
        file.parent.mkdir(parents=True, exist_ok=True)
        with pa.ipc.new_file(str(file), schema) as writer:
            writer.write_batch(pa.record_batch(lists, schema=schema))

    @classmethod
    def map(cls, file: Path) -> Self:
        """Map the shard `file` into memory without copying it.

        Raises `RaylevanceError` if the file is not a shard of a graph.
        """
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(file)))
            batch = reader.get_batch(0)
            metadata = reader.schema.metadata
            neighbours, weights = batch.column("neighbours"), batch.column("weights")
            return cls(
                neighbours.offsets.to_numpy(),
                neighbours.values.to_numpy(),
                weights.values.to_numpy(),
                int(metadata[COLUMNS_KEY]),
                int(metadata[FIRST_KEY]),
            )
        except (pa.ArrowInvalid, KeyError, TypeError) as error:
            raise RaylevanceError(f"{file}: not a shard of a graph: {error}") from None

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load the whole graph from the shards in `folder`. One shard is mapped; several are joined in memory.

        Raises `RaylevanceError` if rows are missing.
        """
        shards = sorted((cls.map(file) for file in folder.glob("*.arrow")), key=lambda shard: shard.first)
        ends = [0, *(shard.first + shard.rows for shard in shards)]
        if not shards or [shard.first for shard in shards] != ends[:-1]:
            raise RaylevanceError(f"{folder}: shards of the graph are missing; build the graph again")
        return shards[0] if len(shards) == 1 else cls.concatenate(shards)

    @classmethod
    def concatenate(cls, shards: Sequence["Csr"]) -> Self:
        """Join the rows of several graphs, in the order given, into one graph."""
        starts = np.cumsum([0, *(shard.indptr[-1] for shard in shards)])
        tails = [shard.indptr[1:] + start for shard, start in zip(shards, starts[:-1], strict=True)]
        return cls(
            np.concatenate([np.zeros(1, np.int64), *tails]),
            np.concatenate([shard.indices for shard in shards]),
            np.concatenate([shard.weights for shard in shards]),
            shards[0].columns,
            shards[0].first,
        )


def segment_positions(starts: Ints, segments: npt.NDArray[np.integer]) -> Ints:
    """Return the positions of the values of each of `segments` [n], segment by segment, int64.

    The values of segment s are at the positions `starts[s]` to `starts[s + 1]` (exclusive). A segment may be given
    several times.
    """
    counts = np.diff(starts)[segments]
    return np.repeat(starts[segments] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
