"""Search for the nearest vectors by cosine, on FAISS: exact, HNSW and IVF-PQ behind one class."""

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
    REFINE_FACTOR,
    IndexKind,
    build_hnsw,
    build_ivfpq,
    flat_index,
    max_effort,
    search_parameters,
)
from raylevance.index.exact import build_exact, search_exact
from raylevance.index.ranking import Rows, Scores, sort_by_score
from raylevance.index.recall import Tuning, tune_effort

Vectors = npt.NDArray[np.float32]
Allowed = npt.NDArray[np.bool_]

EXACT_ROWS = 100_000
"""Up to this many rows, a query is compared with all of them: at 384 dimensions, 150 MB of vectors read once."""

HNSW_ROWS = 3_000_000
"""Up to this many rows, HNSW is used. It takes 1.8 kB for each row at 384 dimensions; IVF-PQ takes less than half."""

NORM_TOLERANCE = 1e-3
VECTORS_FILE, DESCRIPTION_FILE = "vectors.faiss", "vectors.json"


class IndexSettings(Settings):
    """How vectors are indexed."""

    kind: Literal["auto", "exact", "hnsw", "ivfpq"] = "auto"
    """Kind of index. auto takes exact up to 100,000 rows and on a GPU, HNSW up to 3 million rows, and IVF-PQ beyond."""
    recall_target: float = Field(default=0.95, gt=0, le=1)
    """Share of the 100 nearest rows that an approximate search must find. Its effort is raised until it does."""
    use_gpu: bool = False
    """Search on the GPUs, exactly. Filtered searches stay on the CPU. This needs faiss-gpu."""
    threads: PositiveInt | None = None
    """Number of threads that build the index; null means all. With more than one, the graph of HNSW differs slightly
    from run to run."""
    seed: int = 0
    """Seed of the training of IVF-PQ and of the sample on which recall is measured."""


class IndexDescription(Settings):
    """Facts about an index, stored with it. `tuning` is the measured recall of an approximate index."""

    kind: IndexKind
    rows: int
    dimension: int
    tuning: Tuning | None = None


class VectorIndex:
    """An index of unit vectors, and the search for those nearest to a query.

    Rows are numbered in the order in which the vectors were given.
    """

    def __init__(self, index: Any, description: IndexDescription, *, use_gpu: bool = False) -> None:
        """Wrap `index`, a FAISS index of the kind in `description` in main memory."""
        self._index = index
        self._flat = flat_index(index, description.kind)
        self._gpu = faiss.index_cpu_to_all_gpus(index) if use_gpu else None
        self._description = description

    @classmethod
    def build(cls, vectors: Vectors, settings: IndexSettings) -> Self:
        """Index `vectors`, float32 [n, d], unit norm.

        Raises `RaylevanceError` if

        - there are no vectors, or they are not of unit norm,
        - there are too few rows for IVF-PQ,
        - the settings ask for a GPU that does not exist or cannot search this kind of index.
        """
        _check_vectors(vectors)
        rows, dimension = vectors.shape
        kind = _choose_kind(settings, rows)
        check_gpu(settings)
        with _faiss_threads(settings.threads):
            index = _build(np.ascontiguousarray(vectors), kind, settings.seed)
            tuning = None
            if kind != "exact":
                tuning = tune_effort(index, kind, flat_index(index, kind), settings.recall_target, settings.seed)
        description = IndexDescription(kind=kind, rows=rows, dimension=dimension, tuning=tuning)
        return cls(index, description, use_gpu=settings.use_gpu)

    def __len__(self) -> int:
        return self._description.rows

    def describe(self) -> dict[str, Any]:
        """Return kind, rows, dimension and, if the search is approximate, effort, recall and a warning if it is low."""
        return self._description.model_dump()

    def search(self, queries: Vectors, k: int, allowed: Allowed | None = None) -> tuple[Scores, Rows]:
        """Search for the `k` rows nearest to each of `queries`, float32 [m, d], unit norm.

        `allowed` bool [n] limits the search to some rows. If these are few, they are searched exactly.

        Returns cosines float32 [m, k], best first and the lower row first among equals, and rows int64 [m, k]. If there
        are fewer than `k` rows, the rest is filled with -inf and -1. On a GPU or an approximate index, any of the rows
        with the same score as the last one may be returned.

        Raises `RaylevanceError` if the queries have another dimension than the index.
        """
        if queries.ndim != 2 or queries.shape[1] != self._description.dimension:
            raise RaylevanceError(
                f"queries have shape {queries.shape}, but the index has {self._description.dimension} dimensions; "
                "encode them with the encoder of the index"
            )
        queries = np.ascontiguousarray(queries, np.float32)
        if allowed is not None:
            return self._search_allowed(queries, k, allowed)
        if self._gpu is not None:
            return sort_by_score(*self._gpu.search(queries, k))
        if self._description.kind == "exact":
            return search_exact(self._flat, queries, k)
        return sort_by_score(*self._index.search(queries, k, params=self._parameters(k)))

    def vectors(self, rows: Rows) -> Vectors:
        """Return the vectors of `rows`, int64 [n], as float32 [n, d]. IVF-PQ stores them rounded to float16."""
        vectors: Vectors = self._flat.reconstruct_batch(np.ascontiguousarray(rows, np.int64))
        return vectors

    def save(self, folder: Path) -> None:
        """Write the index to `folder`. Raises `RaylevanceError` if it cannot be written."""
        folder.mkdir(parents=True, exist_ok=True)
        try:
            faiss.write_index(self._index, str(folder / VECTORS_FILE))
        except RuntimeError as error:
            raise RaylevanceError(f"{folder / VECTORS_FILE}: cannot be written: {_first_line(error)}") from None
        (folder / DESCRIPTION_FILE).write_text(self._description.model_dump_json(indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, *, use_gpu: bool = False) -> Self:
        """Load an index that `save` wrote.

        Raises `RaylevanceError` if a file is missing or damaged, or if `use_gpu` is set and the GPU cannot be used.
        """
        try:
            description = IndexDescription.model_validate_json((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
            index = faiss.read_index(str(folder / VECTORS_FILE))
        except OSError as error:
            raise RaylevanceError(f"{folder}: not an index of vectors: {error}") from None
        except (RuntimeError, ValidationError) as error:
            raise RaylevanceError(f"{folder}: damaged index of vectors; build it again: {_first_line(error)}") from None
        if (index.ntotal, index.d) != (description.rows, description.dimension):
            raise RaylevanceError(
                f"{folder}: {VECTORS_FILE} and {DESCRIPTION_FILE} belong to different indexes; build it again"
            )
        if use_gpu:
            if description.kind != "exact":
                raise RaylevanceError(
                    f"{folder}: a GPU searches exact indexes, but this one is {description.kind}; "
                    "build it with index.kind exact, or search on the CPU"
                )
            _check_gpu_found()
        return cls(index, description, use_gpu=use_gpu)

    def _search_allowed(self, queries: Vectors, k: int, allowed: Allowed) -> tuple[Scores, Rows]:
        """Search few rows exactly, and many approximately, doubling the effort until the results of a query settle.

        A filter may leave only rows far from a query, which an approximate search visits last. An effort raised by the
        share of the rows that are left is enough only for filters that are unrelated to the query.
        """
        selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        count = int(allowed.sum())
        tuning, kind = self._description.tuning, self._description.kind
        if tuning is None or count <= EXACT_ROWS:
            return search_exact(self._flat, queries, k, faiss.SearchParameters(sel=selector))
        limit = max_effort(self._index, kind)
        effort = min(round(tuning.effort * len(allowed) / count), limit)
        parameters = search_parameters(kind, effort, k, selector)
        scores, rows = sort_by_score(*self._index.search(queries, k, params=parameters))
        unsettled, refine_factor = np.arange(len(queries)), REFINE_FACTOR
        while len(unsettled) and (effort < limit or (kind == "ivfpq" and refine_factor * k < count)):
            effort, refine_factor, before = min(2 * effort, limit), 2 * refine_factor, rows[unsettled]
            parameters = search_parameters(kind, effort, k, selector, refine_factor)
            scores[unsettled], rows[unsettled] = sort_by_score(
                *self._index.search(queries[unsettled], k, params=parameters)
            )
            overlap = [np.isin(new, old).mean() for new, old in zip(rows[unsettled], before, strict=True)]
            full = (rows[unsettled] >= 0).sum(axis=1) >= min(k, count)
            unsettled = unsettled[~full | (np.array(overlap) < tuning.recall_target)]
        return scores, rows

    def _parameters(self, k: int) -> Any:
        tuning = self._description.tuning
        return search_parameters(self._description.kind, tuning.effort if tuning else 0, k)


def check_gpu(settings: IndexSettings) -> None:
    """Raise `RaylevanceError` if `settings` ask for a GPU that this machine does not have or that can't search."""
    if settings.use_gpu:
        check_gpu_kind(settings)
        _check_gpu_found()


def check_gpu_kind(settings: IndexSettings, name: str = "index.") -> None:
    """Raise `RaylevanceError` if a GPU can't search the kind of index that `settings` ask for.

    `name` is the dotted prefix of `settings` in the message.
    """
    if settings.kind not in ("auto", "exact"):
        raise RaylevanceError(
            f"{name}use_gpu searches exactly, but {name}kind is {settings.kind}; set it to exact or auto"
        )


def _check_gpu_found() -> None:
    if not faiss.get_num_gpus():
        raise RaylevanceError("FAISS sees no GPU to search on; install faiss-gpu, or search on the CPU")


def _choose_kind(settings: IndexSettings, rows: int) -> IndexKind:
    if settings.kind != "auto":
        return settings.kind
    if settings.use_gpu or rows <= EXACT_ROWS:
        return "exact"
    return "hnsw" if rows <= HNSW_ROWS else "ivfpq"


def _build(vectors: Vectors, kind: IndexKind, seed: int) -> Any:
    if kind == "hnsw":
        return build_hnsw(vectors)
    return build_ivfpq(vectors, seed) if kind == "ivfpq" else build_exact(vectors)


def _check_vectors(vectors: Vectors) -> None:
    if vectors.ndim != 2 or not vectors.size:
        raise RaylevanceError(f"an index needs vectors of shape [n, d], got {vectors.shape}")
    off = np.flatnonzero(~(np.abs(np.linalg.norm(vectors, axis=1) - 1) <= NORM_TOLERANCE))
    if len(off):
        norm = np.linalg.norm(vectors[off[0]])
        raise RaylevanceError(
            f"vector {off[0]} has norm {norm:g}, expected 1 ({len(off)} such vectors); normalise the vectors"
        )


@contextmanager
def _faiss_threads(count: int | None) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count or before)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
