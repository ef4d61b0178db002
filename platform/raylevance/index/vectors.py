"""Nearest vectors by cosine, on FAISS: exact, HNSW or IVF-PQ behind one class."""

from pathlib import Path
from typing import Any, Literal, Self

import faiss
import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt, ValidationError

from raylevance.config import Settings
from raylevance.errors import RaylevanceError
from raylevance.index.approximate import Kind, build_hnsw, build_ivfpq, exact_store, parameters
from raylevance.index.recall import Tuning, tune

Vectors = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Allowed = npt.NDArray[np.bool_]

EXACT_ROWS = 100_000
"""Up to here a query is compared with every row: 10 to 20 ms of one core at 384 dimensions, and no recall is lost."""

HNSW_ROWS = 3_000_000
"""Up to here vectors and graph fit in memory: 1.8 kB a row at 384 dimensions, 5.4 GB. IVF-PQ takes half."""

INDEX_FILE, DESCRIPTION_FILE = "vectors.faiss", "vectors.json"


class IndexSettings(Settings):
    """How vectors are indexed. `auto`: exact up to 100,000 rows, HNSW up to 3 million, IVF-PQ beyond."""

    kind: Literal["auto", "exact", "hnsw", "ivfpq"] = "auto"
    recall_target: float = Field(0.95, gt=0, le=1)
    """Share of the 100 nearest rows that an approximate search must find; the search effort is raised until it does."""
    use_gpu: bool = False
    """Train, fill and search on the GPUs; filtered searches stay on the CPU. Needs faiss-gpu."""
    threads: PositiveInt | None = None
    """Threads of the build; null: all. With more than one, HNSW's graph differs a little from run to run."""
    seed: int = 0


class Description(Settings):
    """What an index is and how well it finds."""

    kind: Kind
    rows: int
    dimension: int
    tuning: Tuning | None = None
    """Null where search is exact."""


class VectorIndex:
    """Unit vectors and the search for those nearest to a query. Rows are numbered in the order they were given."""

    def __init__(self, index: Any, description: Description, *, use_gpu: bool = False) -> None:
        """`index`: a FAISS index of `description.kind`, on the CPU."""
        self._index = index
        self._store = exact_store(index, description.kind)
        self._description = description
        self._gpu = _on_gpus(index, description.kind) if use_gpu else None

    @classmethod
    def build(cls, vectors: Vectors, settings: IndexSettings, queries: Vectors | None = None) -> Self:
        """Index `vectors`, float32 [n, d], unit norm.

        The recall of an approximate index is measured on `queries` [m, d], unit norm; without them on a sample of
        the vectors, each without itself among its neighbours. That is the easier test: queries lie apart from items.

        Raises `RaylevanceError` for no vectors, one that is not finite or not of unit norm, too few rows for IVF-PQ,
        or a GPU that is not there.
        """
        _check_vectors(vectors)
        rows, dimension = vectors.shape
        kind = _choose(settings.kind, rows)
        _check_gpu(settings.use_gpu, kind)
        with _build_threads(settings.threads):
            index = _fill(vectors, kind, settings)
            tuning = None
            if kind != "exact":
                tuning = tune(index, kind, exact_store(index, kind), settings.recall_target, settings.seed, queries)
        description = Description(kind=kind, rows=rows, dimension=dimension, tuning=tuning)
        return cls(index, description, use_gpu=settings.use_gpu)
