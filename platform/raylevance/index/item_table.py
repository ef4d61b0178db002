"""The table of items: for each item, the items nearest to it.

A folder holds `items.parquet` (product_id and category by row), `neighbours.npy` int32 [items, K] (rows, the best
first, -1 for none), `scores.npy` float32 [items, K] and `table.json` (the settings, and the temperature by which lists
are merged). `item_scores` says what the score of an item is.

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
from pydantic import Field, PositiveInt

from raylevance.config import Settings
from raylevance.errors import RaylevanceError
from raylevance.index.item_scores import POPULARITY, Scores
from raylevance.index.vectors import IndexSettings, VectorIndex

Rows = npt.NDArray[np.int32]

ITEMS, NEIGHBOURS, SCORES, TABLE = "items.parquet", "neighbours.npy", "scores.npy", "table.json"
SEARCHED_AT_ONCE = 4_000
"""How many items are looked up in the index at a time."""
SEARCHED_PER_KEPT = 4
"""How many items are ranked by their scores for each that is kept, where scores are more than cosines."""


class ItemTableSettings(Settings):
    """How the table of items is made."""

    k: PositiveInt = 400
    """Neighbours of an item."""
    popularity: float = Field(POPULARITY, ge=0)
    """b in the score: how much the popularity of an item counts. 0 makes the score the cosine."""
    same_category: bool = False
    """Keep only neighbours of the item's own category; items without one are a category of their own."""
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
    vectors: npt.NDArray[np.float32],
    categories: Sequence[str | None],
    settings: ItemTableSettings,
    terms: Scores | None = None,
) -> tuple[Rows, Scores]:
    """Return the `settings.k` best items for each item, int32 [n, k], and their scores, float32 [n, k].

    - `vectors` float32 [n, d], of unit norm, and `categories` [n] are those of the items.
    - `terms` float32 [n]: what is added to the cosine of each item, as `popularity_terms` returns; None for nothing.

    The `SEARCHED_PER_KEPT` * k items of the highest cosine are ranked by their scores. An item is not its own
    neighbour. Rows have the best first and end with -1 where there are fewer. Memory is that of the index, the result,
    and one batch of searches.
    """
    index = VectorIndex.build(vectors, settings.index)
    rows = np.full((len(vectors), settings.k), -1, np.int32)
    scores = np.full((len(vectors), settings.k), -np.inf, np.float32)
    if not settings.same_category:
        for start in range(0, len(vectors), SEARCHED_AT_ONCE):
            own = np.arange(start, min(start + SEARCHED_AT_ONCE, len(vectors)))
            _fill(index, vectors, own, None, terms, rows, scores)
        return rows, scores
    codes = np.unique([category or "" for category in categories], return_inverse=True)[1]
    for code in range(codes.max() + 1):
        inside = codes == code
        members = np.flatnonzero(inside)
        for start in range(0, len(members), SEARCHED_AT_ONCE):
            _fill(index, vectors, members[start : start + SEARCHED_AT_ONCE], inside, terms, rows, scores)
    return rows, scores


def _fill(
    index: VectorIndex, vectors: Any, own: Any, allowed: Any, terms: Scores | None, rows: Rows, scores: Scores
) -> None:
    k = rows.shape[1]
    cosines, found = index.search(
        vectors[own], min(k * (SEARCHED_PER_KEPT if terms is not None else 1) + 1, len(rows)), allowed
    )
    ranked = cosines if terms is None else cosines + terms[found]
    missing = (found < 0) | (found == own[:, None])
    ranked = np.where(missing, -np.inf, ranked)
    # Equal scores stay in the order of the search: the higher cosine first, then the lower row.
    order = np.argsort(-ranked, axis=1, kind="stable")[:, :k]
    found, ranked = np.take_along_axis(found, order, axis=1), np.take_along_axis(ranked, order, axis=1)
    width = order.shape[1]
    rows[own, :width] = np.where(np.isneginf(ranked), -1, found)
    scores[own, :width] = ranked
