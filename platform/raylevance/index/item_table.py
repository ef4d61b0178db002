"""The table of items: for each item, the items nearest to it.

A folder holds `items.parquet` (product_id and category by row), `neighbours.npy` int32 [items, K] (rows, the nearest
first, -1 for none), `scores.npy` float32 [items, K] (cosines) and `table.json` (the settings, and the temperature by
which lists are merged).

Source: GCL-MO (arXiv 2307.04322), 4.7.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import PositiveInt

from raylevance.config import Settings
from raylevance.errors import RaylevanceError
from raylevance.index.vectors import IndexSettings, VectorIndex

Rows = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]

ITEMS, NEIGHBOURS, SCORES, TABLE = "items.parquet", "neighbours.npy", "scores.npy", "table.json"
SEARCHED_AT_ONCE = 10_000
"""How many items are looked up in the index at a time."""


class ItemTableSettings(Settings):
    """How the table of items is made."""

    k: PositiveInt = 400
    """Neighbours of an item."""
    same_category: bool = False
    """Keep only neighbours of the item's own category."""
    index: IndexSettings = IndexSettings()


@dataclass(frozen=True)
class ItemTable:
    """A table of items. `neighbours` int32 and `scores` float32 are [items, K], and -1 stands for no item."""

    items: pa.Table
    neighbours: Rows
    scores: Scores
    temperature: float

    def __len__(self) -> int:
        return len(self.neighbours)

    def save(self, folder: Path, settings: ItemTableSettings) -> None:
        """Write the table to `folder`."""
        pq.write_table(self.items, folder / ITEMS)
        np.save(folder / NEIGHBOURS, self.neighbours)
        np.save(folder / SCORES, self.scores)
        values = {"temperature": self.temperature, "settings": settings.model_dump(mode="json")}
        (folder / TABLE).write_text(json.dumps(values, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map the table in `folder` into memory. Raises `RaylevanceError` if a file is missing or damaged."""
        missing = [name for name in (ITEMS, NEIGHBOURS, SCORES, TABLE) if not (folder / name).is_file()]
        if missing:
            raise RaylevanceError(f"{folder}: not a table of items: {missing[0]} is missing")
        values = json.loads((folder / TABLE).read_text(encoding="utf-8"))
        items = pq.read_table(folder / ITEMS)
        neighbours, scores = (np.load(folder / name, mmap_mode="r") for name in (NEIGHBOURS, SCORES))
        if not neighbours.shape == scores.shape == (items.num_rows, neighbours.shape[1]):
            raise RaylevanceError(f"{folder}: {NEIGHBOURS}, {SCORES} and {ITEMS} are not of one table")
        return cls(items, neighbours, scores, float(values["temperature"]))


def nearest_items(
    vectors: npt.NDArray[np.float32], categories: Sequence[str | None], settings: ItemTableSettings
) -> tuple[Rows, Scores]:
    """Return the `settings.k` items nearest to each item, int32 [n, k], and their cosines, float32 [n, k].

    `vectors` float32 [n, d] are of unit norm, `categories` [n] those of the items. An item is not its own neighbour.
    Rows have the nearest first and end with -1 where there are fewer. Memory is that of the index and the result.
    """
    index = VectorIndex.build(vectors, settings.index)
    rows = np.full((len(vectors), settings.k), -1, np.int32)
    scores = np.full((len(vectors), settings.k), -np.inf, np.float32)
    if not settings.same_category:
        for start in range(0, len(vectors), SEARCHED_AT_ONCE):
            own = np.arange(start, min(start + SEARCHED_AT_ONCE, len(vectors)))
            _fill(index, vectors, own, None, rows, scores)
        return rows, scores
    codes = np.unique([category or "" for category in categories], return_inverse=True)[1]
    for code in range(codes.max() + 1):
        own = np.flatnonzero(codes == code)
        _fill(index, vectors, own, codes == code, rows, scores)
    return rows, scores


def _fill(index: VectorIndex, vectors: Any, own: Any, allowed: Any, rows: Rows, scores: Scores) -> None:
    k = rows.shape[1]
    cosines, found = index.search(vectors[own], k + 1, allowed)
    # The item itself goes last, and is cut off with what comes after it.
    order = np.argsort(found == own[:, None], axis=1, kind="stable")[:, :k]
    found, cosines = np.take_along_axis(found, order, axis=1), np.take_along_axis(cosines, order, axis=1)
    missing = (found < 0) | (found == own[:, None])
    rows[own] = np.where(missing, -1, found)
    scores[own] = np.where(missing, -np.inf, cosines)
