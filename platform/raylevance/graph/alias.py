"""Alias tables: a neighbour drawn by its edge's weight, in constant time (Walker 1977; built as by Vose 1991)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raylevance.graph.compiled import compiled
from raylevance.graph.csr import Csr, Ints

ONE = 2.0**31
NEIGHBOUR, OTHER, THRESHOLD = 0, 1, 2

Slots = npt.NDArray[np.int32]


@dataclass(frozen=True)
class AliasTable:
    """Rows `first` to `first + rows` of a graph, ready to be drawn from.

    `slots` int32 [edges, 3]: a neighbour, the one drawn in its place, and the share of the slot that is its own, times
    2^31. The neighbours of a row ascend. `segments` int64 [rows, types + 1]: where a row's neighbours of each node
    type begin, and where the last ones end.
    """

    slots: Slots
    segments: Ints
    first: int = 0

    @classmethod
    def build(cls, graph: Csr, type_starts: tuple[int, ...] = (0,)) -> "AliasTable":
        """Of `graph`, whose nodes from `type_starts[i]` on, up to the next, are of type i."""
        bounds = np.array([*type_starts, np.iinfo(np.int32).max], np.int64)
        segments = _segments(graph.indptr, graph.indices, bounds)
        slots = np.empty((len(graph.indices), 3), np.int32)
        _fill(segments, graph.indices, graph.weights, slots)
        return cls(slots, segments, graph.first)

    @property
    def rows(self) -> int:
        return len(self.segments)


@compiled
def _segments(indptr: Ints, indices: npt.NDArray[np.int32], bounds: Ints) -> Ints:
    rows, types = len(indptr) - 1, len(bounds) - 1
    segments = np.empty((rows, types + 1), np.int64)
    for row in range(rows):
        start, end = indptr[row], indptr[row + 1]
        for kind in range(types):
            segments[row, kind] = start + np.searchsorted(indices[start:end], bounds[kind])
        segments[row, types] = end
    return segments


@compiled
def _fill(segments: Ints, indices: npt.NDArray[np.int32], weights: npt.NDArray[np.float32], slots: Slots) -> None:
    longest = 0
    for row in range(len(segments)):
        for kind in range(segments.shape[1] - 1):
            longest = max(longest, segments[row, kind + 1] - segments[row, kind])
    scaled, small, large = np.empty(longest), np.empty(longest, np.int64), np.empty(longest, np.int64)
    for row in range(len(segments)):
        for kind in range(segments.shape[1] - 1):
            start, end = segments[row, kind], segments[row, kind + 1]
            if end > start:
                _fill_segment(start, end, indices, weights, slots, scaled, small, large)


@compiled
def _fill_segment(
    start: Any, end: Any, indices: Any, weights: Any, slots: Any, scaled: Any, small: Any, large: Any
) -> Any:
    count, total = end - start, 0.0
    for place in range(count):
        total += weights[start + place]
    few = many = 0
    for place in range(count):
        scaled[place] = weights[start + place] * count / total
        slots[start + place, NEIGHBOUR] = slots[start + place, OTHER] = indices[start + place]
        slots[start + place, THRESHOLD] = np.int32(ONE - 1)
        if scaled[place] < 1:
            small[few] = place
            few += 1
        else:
            large[many] = place
            many += 1
    while few and many:
        few -= 1
        lesser, greater = small[few], large[many - 1]
        slots[start + lesser, THRESHOLD] = np.int32(min(scaled[lesser] * ONE, ONE - 1))
        slots[start + lesser, OTHER] = indices[start + greater]
        scaled[greater] -= 1 - scaled[lesser]
        if scaled[greater] < 1:
            many -= 1
            small[few] = greater
            few += 1
