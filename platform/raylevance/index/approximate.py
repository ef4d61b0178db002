"""FAISS's approximate indexes, HNSW and IVF-PQ: how they are built, and the parameters of a search.

The effort of a search is efSearch (nodes visited) for HNSW and nprobe (lists read) for IVF-PQ.

Source: Malkov and Yashunin 2018 (arXiv 1603.09320) for HNSW, Jégou, Douze and Schmid 2011 for IVF-PQ, and arXiv
2401.08281 for FAISS.
"""

from math import isqrt
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt

from raylevance.errors import RaylevanceError

IndexKind = Literal["exact", "hnsw", "ivfpq"]

HNSW_LINKS = 32
HNSW_CONSTRUCTION_EFFORT = 200

MIN_IVFPQ_ROWS = 256
"""Number of rows that a product quantiser of 8 bits needs to learn its 256 centroids."""

TRAINING_ROWS_PER_LIST = 39
"""FAISS's own minimum number of training rows for each centroid of k-means."""

REFINE_FACTOR = 8
"""IVF-PQ proposes this many times k rows, and their float16 vectors rank them. Measured at 384 dimensions on 60,000
rows, reading half of the lists or fewer: recall@100 is 0.92 at a factor of 2, 0.96 at 4, 0.97 at 8, and no higher at
16."""


def build_hnsw(vectors: npt.NDArray[np.float32]) -> Any:
    """Build an HNSW graph over `vectors`, float32 [n, d]. It stores them unchanged."""
    index = faiss.IndexHNSWFlat(vectors.shape[1], HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = HNSW_CONSTRUCTION_EFFORT
    index.add(vectors)
    return index


def build_ivfpq(vectors: npt.NDArray[np.float32], seed: int) -> Any:
    """Build an IVF-PQ index over `vectors`, float32 [n, d], whose results are ranked again by float16 vectors.

    A code has one byte for every 8 dimensions if d is a multiple of 8, else for every 4, 2 or 1.

    Raises `RaylevanceError` if there are fewer than 256 rows.
    """
    rows, dimension = vectors.shape
    if rows < MIN_IVFPQ_ROWS:
        raise RaylevanceError(
            f"index.kind ivfpq needs at least {MIN_IVFPQ_ROWS} rows to train on, got {rows}; use exact"
        )
    lists = max(1, min(4 * isqrt(rows), rows // TRAINING_ROWS_PER_LIST))
    width = next(width for width in (8, 4, 2, 1) if dimension % width == 0)
    # "np" means no polysemous codes, which would make training 50 times as long.
    factory = f"IVF{lists},PQ{dimension // width}np,Refine(SQfp16)"
    index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    ivf = faiss.downcast_index(index.base_index)
    for clustering in (ivf.cp, ivf.pq.cp):
        clustering.seed = seed
        clustering.min_points_per_centroid = 1
    index.train(vectors)
    index.add(vectors)
    return index


def max_effort(index: Any, kind: IndexKind) -> int:
    """Return the effort above which a search cannot find more: all lists of IVF-PQ, or all rows of HNSW."""
    return int(faiss.downcast_index(index.base_index).nlist) if kind == "ivfpq" else int(index.ntotal)


def flat_index(index: Any, kind: IndexKind) -> Any:
    """Return the flat index inside `index` that holds the vectors, in float32, or in float16 for IVF-PQ."""
    if kind == "hnsw":
        return faiss.downcast_index(index.storage)
    return faiss.downcast_index(index.refine_index) if kind == "ivfpq" else index


def search_parameters(
    kind: IndexKind, effort: int, k: int, selector: Any | None = None, refine_factor: int = REFINE_FACTOR
) -> Any:
    """Return FAISS's parameters for a search of the `k` nearest rows.

    A `selector` limits the search to its rows. `refine_factor` applies to IVF-PQ only.
    """
    if kind == "hnsw":
        return faiss.SearchParametersHNSW(efSearch=max(effort, k), sel=selector)
    if kind == "ivfpq":
        lists = faiss.SearchParametersIVF(nprobe=effort, sel=selector)
        return faiss.IndexRefineSearchParameters(k_factor=refine_factor, base_index_params=lists)
    return faiss.SearchParameters(sel=selector)
