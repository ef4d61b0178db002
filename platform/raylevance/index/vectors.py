"""Nearest vectors by cosine, on FAISS: exact, HNSW or IVF-PQ behind one class."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

import faiss
import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt, ValidationError

from raylevance.config import Settings
from raylevance.errors import RaylevanceError
from raylevance.index.approximate import (
    REFINED,
    Kind,
    build_hnsw,
    build_ivfpq,
    exact_store,
    most_effort,
    search_parameters,
)
from raylevance.index.exact import build_exact, search_exactly
from raylevance.index.ranking import Rows, Scores, by_score
from raylevance.index.recall import Tuning, tune

Vectors = npt.NDArray[np.float32]
Allowed = npt.NDArray[np.bool_]

EXACT_ROWS = 100_000
"""Up to here a query is compared with every row: 150 MB of vectors at 384 dimensions, read once."""

HNSW_ROWS = 3_000_000
"""Up to here vectors and graph are kept whole: 1.8 kB a row at 384 dimensions. IVF-PQ takes less than half of it."""

NORM_TOLERANCE = 1e-3
VECTORS, DESCRIPTION = "vectors.faiss", "vectors.json"


class IndexSettings(Settings):
    """How vectors are indexed. `auto`: exact up to 100,000 rows and on a GPU, HNSW to 3 million, IVF-PQ beyond."""

    kind: Literal["auto", "exact", "hnsw", "ivfpq"] = "auto"
    recall_target: float = Field(default=0.95, gt=0, le=1)
    """Share of the 100 nearest rows that an approximate search must find; its effort is raised until it does."""
    use_gpu: bool = False
    """Search on the GPUs, exactly; filtered searches stay on the CPU. Needs faiss-gpu."""
    threads: PositiveInt | None = None
    """Threads of the build; null: all. With more than one, HNSW's graph differs a little from run to run."""
    seed: int = 0


class Description(Settings):
    """What an index is; `tuning` says how well an approximate one finds."""

    kind: Kind
    rows: int
    dimension: int
    tuning: Tuning | None = None


class VectorIndex:
    """Unit vectors and the search for those nearest to a query. Rows are numbered in the order they were given."""

    def __init__(self, index: Any, description: Description, *, use_gpu: bool = False) -> None:
        """`index`: a FAISS index of `description.kind`, in main memory."""
        self._index = index
        self._store = exact_store(index, description.kind)
        self._gpu = faiss.index_cpu_to_all_gpus(index) if use_gpu else None
        self._description = description

    @classmethod
    def build(cls, vectors: Vectors, settings: IndexSettings) -> Self:
        """Index `vectors`, float32 [n, d], unit norm.

        Raises `RaylevanceError` for no vectors, vectors that are not of unit norm, too few rows for IVF-PQ, or a GPU
        that is not there or can't search this kind.
        """
        _check_vectors(vectors)
        rows, dimension = vectors.shape
        kind = _choose(settings, rows)
        check_gpu(settings)
        with _threads(settings.threads):
            index = _fill(np.ascontiguousarray(vectors), kind, settings.seed)
            tuning = None
            if kind != "exact":
                tuning = tune(index, kind, exact_store(index, kind), settings.recall_target, settings.seed)
        description = Description(kind=kind, rows=rows, dimension=dimension, tuning=tuning)
        return cls(index, description, use_gpu=settings.use_gpu)

    def __len__(self) -> int:
        return self._description.rows

    def describe(self) -> dict[str, Any]:
        """Kind, rows, dimension and, where search is approximate, effort, recall and a warning where it is low."""
        return self._description.model_dump()

    def search(self, queries: Vectors, k: int, allowed: Allowed | None = None) -> tuple[Scores, Rows]:
        """The `k` rows nearest to each of `queries`, float32 [m, d], unit norm, among `allowed`, bool [n].

        Returns cosines float32 [m, k], best first and the lower row first among equals, and rows int64 [m, k]; where
        there are fewer than k rows, the rest is -inf and -1. A filter that leaves few rows is searched exactly. On a
        GPU, and approximately, any of those that are equal at the end may be the ones found.
        """
        if queries.ndim != 2 or queries.shape[1] != self._description.dimension:
            wanted = self._description.dimension
            raise RaylevanceError(f"queries of shape {queries.shape}, index of {wanted} dimensions: not its encoder's")
        queries = np.ascontiguousarray(queries, np.float32)
        if allowed is not None:
            return self._search_allowed(queries, k, allowed)
        if self._gpu is not None:
            return by_score(*self._gpu.search(queries, k))
        if self._description.kind == "exact":
            return search_exactly(self._store, queries, k)
        return by_score(*self._index.search(queries, k, params=self._parameters(k)))

    def vectors(self, rows: Rows) -> Vectors:
        """The vectors of `rows`, int64 [n], as float32 [n, d]; rounded to float16 in an IVF-PQ index."""
        found: Vectors = self._store.reconstruct_batch(np.ascontiguousarray(rows, np.int64))
        return found

    def save(self, folder: Path) -> None:
        """Write the index into `folder`. Raises `RaylevanceError` where it can't be written."""
        folder.mkdir(parents=True, exist_ok=True)
        try:
            faiss.write_index(self._index, str(folder / VECTORS))
        except RuntimeError as error:
            raise RaylevanceError(f"{folder / VECTORS}: can't be written: {_first_line(error)}") from None
        (folder / DESCRIPTION).write_text(self._description.model_dump_json(indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, *, use_gpu: bool = False) -> Self:
        """The index that `save` wrote. Raises `RaylevanceError` for a missing or torn file."""
        try:
            description = Description.model_validate_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
            index = faiss.read_index(str(folder / VECTORS))
        except OSError as error:
            raise RaylevanceError(f"{folder}: not an index of vectors: {error}") from None
        except (RuntimeError, ValidationError) as error:
            raise RaylevanceError(f"{folder}: damaged index of vectors: {_first_line(error)}") from None
        if (index.ntotal, index.d) != (description.rows, description.dimension):
            raise RaylevanceError(f"{folder}: {VECTORS} and {DESCRIPTION} are not of one index")
        if use_gpu:
            _check_gpu(description.kind)
        return cls(index, description, use_gpu=use_gpu)

    def _search_allowed(self, queries: Vectors, k: int, allowed: Allowed) -> tuple[Scores, Rows]:
        """Exactly where few rows are left; else with more effort, until what a query finds stays as the effort doubles.

        A filter may leave only rows that are far from a query, where a search looks last: effort by the share of the
        rows that are left does for filters that have nothing to do with it, and no more.
        """
        selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        count = int(allowed.sum())
        tuning, kind = self._description.tuning, self._description.kind
        if tuning is None or count <= EXACT_ROWS:
            return search_exactly(self._store, queries, k, faiss.SearchParameters(sel=selector))
        most = most_effort(self._index, kind)
        effort = min(round(tuning.effort * len(allowed) / count), most)
        scores, rows = by_score(*self._index.search(queries, k, params=search_parameters(kind, effort, k, selector)))
        moving, refined = np.arange(len(queries)), REFINED
        while len(moving) and (effort < most or (kind == "ivfpq" and refined * k < count)):
            effort, refined, before = min(2 * effort, most), 2 * refined, rows[moving]
            parameters = search_parameters(kind, effort, k, selector, refined)
            scores[moving], rows[moving] = by_score(*self._index.search(queries[moving], k, params=parameters))
            stayed = [np.isin(new, old).mean() for new, old in zip(rows[moving], before, strict=True)]
            full = (rows[moving] >= 0).sum(axis=1) >= min(k, count)
            moving = moving[~full | (np.array(stayed) < tuning.recall_target)]
        return scores, rows

    def _parameters(self, k: int) -> Any:
        tuning = self._description.tuning
        return search_parameters(self._description.kind, tuning.effort if tuning else 0, k)


def _choose(settings: IndexSettings, rows: int) -> Kind:
    if settings.kind != "auto":
        return settings.kind
    if settings.use_gpu or rows <= EXACT_ROWS:
        return "exact"
    return "hnsw" if rows <= HNSW_ROWS else "ivfpq"


def _fill(vectors: Vectors, kind: Kind, seed: int) -> Any:
    if kind == "hnsw":
        return build_hnsw(vectors)
    return build_ivfpq(vectors, seed) if kind == "ivfpq" else build_exact(vectors)


def _check_vectors(vectors: Vectors) -> None:
    if vectors.ndim != 2 or not vectors.size:
        raise RaylevanceError(f"an index needs vectors of shape [n, d], got {vectors.shape}")
    off = np.flatnonzero(~(np.abs(np.linalg.norm(vectors, axis=1) - 1) <= NORM_TOLERANCE))
    if len(off):
        norm = np.linalg.norm(vectors[off[0]])
        raise RaylevanceError(f"vector {off[0]} has norm {norm:g}, expected 1 ({len(off)} such vectors)")


def check_gpu(settings: IndexSettings) -> None:
    """Raises `RaylevanceError` where `settings` want a GPU that is not there, or a kind that none searches."""
    if settings.use_gpu:
        _check_gpu("exact" if settings.kind == "auto" else settings.kind)


def _check_gpu(kind: Kind) -> None:
    if kind != "exact":
        raise RaylevanceError(f"index.use_gpu searches exactly, got index.kind {kind}; set it to exact or auto")
    if not faiss.get_num_gpus():
        raise RaylevanceError("index.use_gpu is set and FAISS sees no GPU: install faiss-gpu or set it to false")


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count or before)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
