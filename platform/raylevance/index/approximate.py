"""FAISS's approximate indexes: how HNSW and IVF-PQ are built, and the parameters of a search.

HNSW: Malkov and Yashunin 2018 (arXiv 1603.09320). IVF-PQ: Jégou, Douze and Schmid 2011. FAISS: arXiv 2401.08281.
Both are searched with an effort: efSearch (nodes visited) of HNSW, nprobe (lists read) of IVF.
"""

from math import isqrt
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt

from raylevance.errors import RaylevanceError

Kind = Literal["exact", "hnsw", "ivfpq"]

LINKS = 32
CONSTRUCTION_EFFORT = 200
SMALLEST_IVFPQ = 256
"""Rows that a product quantiser of 8 bits needs to learn its 256 centroids."""

TRAINING_ROWS_PER_LIST = 39
"""FAISS's own minimum for a k-means centroid."""

REFINED = 8
"""IVF-PQ proposes this many times k rows, and their float16 vectors rank them. Measured at 384 dimensions on 60,000
rows: recall@100 of 0.92 at a factor of 2, 0.96 at 4, 0.97 at 8 and no more at 16 (half of the lists read or fewer)."""


def build_hnsw(vectors: npt.NDArray[np.float32]) -> Any:
    """An HNSW graph over `vectors`, float32 [n, d], which it keeps as they are."""
    index = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = CONSTRUCTION_EFFORT
    index.add(vectors)
    return index


def build_ivfpq(vectors: npt.NDArray[np.float32], seed: int) -> Any:
    """IVF-PQ over `vectors`, float32 [n, d], one byte for 8 dimensions where 8 divides d, refined by float16 vectors.

    Raises `RaylevanceError` below 256 rows.
    """
    rows, dimension = vectors.shape
    if rows < SMALLEST_IVFPQ:
        raise RaylevanceError(f"index.kind ivfpq learns from {SMALLEST_IVFPQ} rows or more, got {rows}; use exact")
    lists = max(1, min(4 * isqrt(rows), rows // TRAINING_ROWS_PER_LIST))
    width = next(width for width in (8, 4, 2, 1) if dimension % width == 0)
    factory = f"IVF{lists},PQ{dimension // width}np,Refine(SQfp16)"  # np: no polysemous codes, 50 times the training
    index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    ivf = faiss.downcast_index(index.base_index)
    for clustering in (ivf.cp, ivf.pq.cp):
        clustering.seed = seed
        clustering.min_points_per_centroid = 1
    index.train(vectors)
    index.add(vectors)
    return index


def most_effort(index: Any, kind: Kind) -> int:
    """The effort beyond which a search can't find more: every list of an IVF, every row of an HNSW graph."""
    return int(faiss.downcast_index(index.base_index).nlist) if kind == "ivfpq" else int(index.ntotal)


def exact_store(index: Any, kind: Kind) -> Any:
    """The flat index inside, which holds the vectors: float32, or float16 within IVF-PQ."""
    if kind == "hnsw":
        return faiss.downcast_index(index.storage)
    return faiss.downcast_index(index.refine_index) if kind == "ivfpq" else index


def search_parameters(kind: Kind, effort: int, k: int, selector: Any | None = None, refined: int = REFINED) -> Any:
    """FAISS's parameters for the `k` nearest, among the rows of `selector` where there is one."""
    if kind == "hnsw":
        return faiss.SearchParametersHNSW(efSearch=max(effort, k), sel=selector)
    if kind == "ivfpq":
        lists = faiss.SearchParametersIVF(nprobe=effort, sel=selector)
        return faiss.IndexRefineSearchParameters(k_factor=refined, base_index_params=lists)
    return faiss.SearchParameters(sel=selector)
