"""Alias tables, which draw a neighbour in proportion to the weight of its edge in constant time.

Source: Walker 1977. The tables are built by the method of Vose 1991.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raylevance.graph.compiled import compiled
from raylevance.graph.csr import Csr, Ints

THRESHOLD_SCALE = 2.0**31
NEIGHBOUR, ALIAS, THRESHOLD = 0, 1, 2
"""Columns of `AliasTable.slots`."""

Slots = npt.NDArray[np.int32]


@dataclass(frozen=True)
class AliasTable:
    """Alias tables of the graph's rows `first` to `first + rows`, one slot for each edge.

    - `slots` int32 [edges, 3]: a neighbour, its alias, and a threshold. A draw that lands in the slot takes the
      neighbour with probability threshold / 2^31, and its alias otherwise. The neighbours of a row ascend.
    - `segments` int64 [rows, types + 1]: the slot at which a row's neighbours of each node type begin, and the slot
      after its last one. A draw may be limited to one type.
    """

    slots: Slots
    segments: Ints
    first: int = 0

    @classmethod
    def build(cls, graph: Csr, type_starts: tuple[int, ...] = (0,)) -> "AliasTable":
        """Build the tables of `graph`. Nodes from `type_starts[i]` up to the next start are of node type i."""
        bounds = np.array([*type_starts, np.iinfo(np.int32).max], np.int64)
        segments = _segments(graph.indptr, graph.indices, bounds)
        slots = np.empty((len(graph.indices), 3), np.int32)
        _fill(segments, graph.indices, graph.weights, slots)
        return cls(slots, segments, graph.first)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.segments)


@compiled
def _segments(indptr: Ints, indices: npt.NDArray[np.int32], bounds: Ints) -> Ints:
    rows, types = len(indptr) - 1, len(bounds) - 1
    segments = np.empty((rows, types + 1), np.int64)
    for row in range(rows):
        start, end = indptr[row], indptr[row + 1]
        for node_type in range(types):
            segments[row, node_type] = start + np.searchsorted(indices[start:end], bounds[node_type])
        segments[row, types] = end
    return segments


@compiled
def _fill(segments: Ints, indices: npt.NDArray[np.int32], weights: npt.NDArray[np.float32], slots: Slots) -> None:
    longest = 0
    for row in range(len(segments)):
        for node_type in range(segments.shape[1] - 1):
            longest = max(longest, segments[row, node_type + 1] - segments[row, node_type])
    scaled, small, large = np.empty(longest), np.empty(longest, np.int64), np.empty(longest, np.int64)
    for row in range(len(segments)):
        for node_type in range(segments.shape[1] - 1):
            start, end = segments[row, node_type], segments[row, node_type + 1]
            if end > start:
                _fill_segment(start, end, indices, weights, slots, scaled, small, large)


@compiled
def _fill_segment(
    start: Any, end: Any, indices: Any, weights: Any, slots: Any, scaled: Any, small: Any, large: Any
) -> Any:
    count, total = end - start, 0.0
    for slot in range(count):
        total += weights[start + slot]
    small_count = large_count = 0
    for slot in range(count):
        scaled[slot] = weights[start + slot] * count / total
        slots[start + slot, NEIGHBOUR] = slots[start + slot, ALIAS] = indices[start + slot]
        slots[start + slot, THRESHOLD] = np.int32(THRESHOLD_SCALE - 1)
        if scaled[slot] < 1:
            small[small_count] = slot
            small_count += 1
        else:
            large[large_count] = slot
            large_count += 1
    while small_count and large_count:
        small_count -= 1
        lesser, greater = small[small_count], large[large_count - 1]
        slots[start + lesser, THRESHOLD] = np.int32(min(scaled[lesser] * THRESHOLD_SCALE, THRESHOLD_SCALE - 1))
        slots[start + lesser, ALIAS] = indices[start + greater]
        scaled[greater] -= 1 - scaled[lesser]
        if scaled[greater] < 1:
            large_count -= 1
            small[small_count] = greater
            small_count += 1
