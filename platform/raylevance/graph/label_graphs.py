"""Graphs of labels for a query classifier: co-occurrence, semantic and hierarchy, how they are fused and normalised.

A graph is a sparse matrix [labels, labels] of the labels of one task. The row i of a graph convolution A H is the sum
of the rows j of H, each times A[i, j]: label i receives from label j.

Source: SSUF (arXiv 2506.21049), structure-enhanced module. The direction of edges, the cuts and the normalisation are
our choice.
"""

import functools
from collections.abc import Iterable
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray.data
from scipy.sparse import csr_matrix, triu

from raylevance.errors import RaylevanceError

Graph = csr_matrix
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]

CELLS = pa.schema({"row": pa.int32(), "column": pa.int32(), "count": pa.int64()})
"""Schema of the counts of one block: in how many rows two labels are together, row <= column."""
ROWS_AT_ONCE = 65_536
"""How many rows of query labels are counted at a time."""
CELLS_BEFORE_SUM = 4_000_000
"""How many counts are gathered before they are added up."""
LABELS_AT_ONCE = 1024
"""How many rows of similarities are computed at a time."""


def cooccurrence_graph(labels: ray.data.Dataset, rows: slice, alpha: float = 0.0) -> Graph:
    """Return how often label j is given where label i is: A[i, j] = N(i, j) / N(i), float64.

    `labels` has a list column `labels`, as the schema `QUERY_LABELS`, with one row for each query and task; `rows` are
    the labels of one task, and others are left out. N counts rows; a label that a row names twice counts once. Cells
    below `alpha`, and those of a label with itself, are left out. A label without a row has no edge.

    The result does not depend on the blocks of `labels`. Memory grows with the pairs of labels that occur.

    Source: SSUF (arXiv 2506.21049), structure-enhanced module.
    """
    count = functools.partial(_count_block, rows=rows)
    blocks = labels.select_columns(["labels"]).map_batches(count, batch_format="pyarrow", batch_size=ROWS_AT_ONCE)
    upper = _summed(
        cast(Iterable[pa.Table], blocks.iter_batches(batch_format="pyarrow", batch_size=None)), rows.stop - rows.start
    )
    alone = upper.diagonal()
    upper = triu(upper, k=1, format="csr")
    graph = csr_matrix(upper + upper.T, dtype=np.float64)
    graph.data /= np.repeat(alone, np.diff(graph.indptr))
    return _kept(graph, graph.data >= alpha)


def semantic_graph(vectors: Floats, beta: float = 0.8, most: int = 10) -> Graph:
    """Return the cosines of unit `vectors` [labels, d] that are `beta` or more, float64, at most `most` a row.

    Of equal cosines, those of the earlier labels are kept. A label has no edge to itself. Negative cosines, which would
    be negative weights, are never kept.

    Raises `RaylevanceError` for a vector that is not finite.

    Source: SSUF (arXiv 2506.21049), structure-enhanced module; the limit of a row is our choice.
    """
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise RaylevanceError(f"the vector of label {bad[0]} is not finite; the encoder may have diverged")
    size = len(vectors)
    indptr, indices, data = [0], [np.empty(0, np.int64)], [np.empty(0)]
    vectors = vectors.astype(np.float64)
    for start in range(0, size, LABELS_AT_ONCE):
        cosines = vectors[start : start + LABELS_AT_ONCE] @ vectors.T
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -np.inf
        for cosine in cosines:
            near = np.flatnonzero((cosine >= beta) & (cosine > 0))
            if len(near) > most:
                near = near[cosine[near] >= np.partition(cosine[near], -most)[-most]]
            near = np.sort(near[np.argsort(-cosine[near], kind="stable")[:most]])
            indices.append(near)
            data.append(cosine[near])
            indptr.append(indptr[-1] + len(near))
    return csr_matrix((np.concatenate(data), np.concatenate(indices), indptr), (size, size))


def hierarchy_graph(parents: npt.NDArray[np.integer], samples: npt.NDArray[np.number]) -> Graph:
    """Return the edges of the label tree, float64: each child i hears its parent k, and the parent hears each child.

    A[i, k] = max(1 / |Child(k)|, m_i / sum of m_j over Child(k)), and A[k, i] = 1. m_i are the samples of child i and
    of all labels below it; where there are none, only the first term counts.

    `parents` [labels] are numbers of labels, -1 for a root, as `LabelSpace.parents_within` returns; `samples` [labels]
    is how many training samples each label has itself.

    Source: SSUF (arXiv 2506.21049), structure-enhanced module, for the maximum. That m counts samples, those below
    included, that it weighs what a child receives, and the weight 1 upwards are our reading, after HiAGM (Zhou et al.
    2020).
    """
    size = len(parents)
    children = np.flatnonzero(parents >= 0)
    above = parents[children]
    below = _samples_below(parents, samples)
    count = np.bincount(above, minlength=size)[above]
    total = np.bincount(above, below[children], size)[above]
    share = np.divide(below[children], total, out=np.zeros(len(children)), where=total > 0)
    down = np.maximum(1 / np.maximum(count, 1), share)
    values = np.concatenate([down, np.ones(len(children))])
    return csr_matrix((values, (np.append(children, above), np.append(above, children))), (size, size))


def fuse_graphs(
    cooccurrence: Graph | None,
    semantic: Graph | None,
    hierarchy: Graph | None,
    mode: Literal["overwrite", "average"] = "overwrite",
) -> Graph:
    """Return one graph of the given ones, float64.

    A graph that is None takes no part, as in an ablation: the mean is that of the others, so without one of
    `cooccurrence` and `semantic` the cells of the other count in full instead of half.

    - overwrite: the mean of `cooccurrence` and `semantic`, in which the cells of `hierarchy` replace those there are.
    - average: the mean of all.

    Raises `RaylevanceError` if all are None.

    Source: SSUF (arXiv 2506.21049), structure-enhanced module: A = 1/2 (A_coo + A_sim) -> A_hier.
    """
    learned = [graph for graph in (cooccurrence, semantic) if graph is not None]
    if hierarchy is None or not learned or mode == "average":
        given = [*learned, *([hierarchy] if hierarchy is not None else [])]
        if not given:
            raise RaylevanceError("no label graph to fuse: use one of co-occurrence, semantic and hierarchy")
        return csr_matrix(sum(given[1:], given[0]) / len(given), dtype=np.float64)
    mean = csr_matrix(sum(learned[1:], learned[0]) / len(learned), dtype=np.float64)
    replaced = hierarchy.astype(bool)
    return csr_matrix(mean - mean.multiply(replaced) + hierarchy)


def normalise(graph: Graph) -> Graph:
    """Return D^-1/2 (A + I) D^-1/2, float64, where D are the row sums of A + I.

    Edges of a label to itself are taken out of `graph` before I is added, so that each has one of weight 1.

    Raises `RaylevanceError` for a weight that is negative or not finite.

    Source: Kipf and Welling 2017 (arXiv 1609.02907), section 2 (our choice for SSUF).
    """
    if not (np.isfinite(graph.data).all() and (graph.data >= 0).all()):
        raise RaylevanceError("a weight of the label graph is negative or not finite")
    edges = graph.tocoo()
    others = edges.row != edges.col
    size = graph.shape[0]
    loops = np.arange(size)
    rows, columns = np.append(edges.row[others], loops), np.append(edges.col[others], loops)
    whole = csr_matrix((np.append(edges.data[others].astype(np.float64), np.ones(size)), (rows, columns)), graph.shape)
    scale = 1 / np.sqrt(np.asarray(whole.sum(axis=1)).ravel())
    whole.data *= np.repeat(scale, np.diff(whole.indptr)) * scale[whole.indices]
    return whole


def _count_block(block: pa.Table, rows: slice) -> pa.Table:
    """Return the rows of `CELLS` of one block: the upper triangle of X^T X, where X [rows, labels] has ones."""
    lists = block["labels"].combine_chunks()
    query = lists.value_parent_indices().to_numpy()
    label = lists.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    own = (label >= rows.start) & (label < rows.stop)
    shape = (block.num_rows, rows.stop - rows.start)
    given = csr_matrix((np.ones(int(own.sum()), np.int64), (query[own], label[own] - rows.start)), shape)
    given.data[:] = 1
    cells = triu(given.T @ given, format="coo")
    return pa.table([cells.row.astype(np.int32), cells.col.astype(np.int32), cells.data], schema=CELLS)


def _samples_below(parents: npt.NDArray[np.integer], samples: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
    """Return the samples of each label and of all labels below it."""
    below = samples.astype(np.float64)
    here = parents.astype(np.int64)
    while (up := here >= 0).any():
        np.add.at(below, here[up], samples[up])
        here = np.where(up, parents[here], -1)
    return below


def _kept(graph: Graph, cells: npt.NDArray[np.bool_]) -> Graph:
    """Return `graph` with only the stored `cells`."""
    rows = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))[cells]
    return csr_matrix((graph.data[cells], (rows, graph.indices[cells])), graph.shape)


def _summed(blocks: Iterable[pa.Table], size: int) -> Graph:
    """Return the sum of the counts of all blocks. They are added once they are as many as the cells of the sum."""
    total, waiting = _matrix([], size), list[pa.Table]()
    for block in blocks:
        if block.num_rows:
            waiting.append(block)
        if sum(part.num_rows for part in waiting) > total.nnz + CELLS_BEFORE_SUM:
            total, waiting = total + _matrix(waiting, size), []
    return csr_matrix(total + _matrix(waiting, size))


def _matrix(blocks: list[pa.Table], size: int) -> Graph:
    cells = pa.concat_tables([CELLS.empty_table(), *blocks])
    row, column, count = (cells[name].to_numpy() for name in CELLS.names)
    return csr_matrix((count, (row, column)), (size, size))
