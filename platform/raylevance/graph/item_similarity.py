"""Similarities of items by who chose them: item-CF and EASE. They are what the item encoder is compared with."""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Matrix = sp.csr_matrix


def item_cf(users: Matrix, shrink: float, top: int) -> Matrix:
    """Return the cosines of items with shrinkage, float64 [items, items], the `top` best of each row.

        s_ij = G_ij / ( sqrt(G_ii G_jj) + shrink ),    G = X^T X,    s_ii = 0

    `users` is X, [users, items], with the weight of each choice. Memory grows with the pairs of items that one user
    chose.

    Source: Sarwar et al. 2001 for the cosine of items; shrinkage as in Bell and Koren 2007.
    """
    gram = (users.T @ users).tocsr().astype(np.float64)
    norms = np.sqrt(gram.diagonal())
    gram.setdiag(0)
    gram.eliminate_zeros()
    rows = np.repeat(np.arange(gram.shape[0]), np.diff(gram.indptr))
    gram.data /= norms[rows] * norms[gram.indices] + shrink
    return keep_top(gram, top)


def ease(
    users: Matrix, regularisation: float, most_items: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return EASE^R's weights between the `most_items` most chosen items, float32 [m, m], and these items, int64 [m].

        P = (X^T X + lambda I)^-1,    B_ij = -P_ij / P_jj,    B_jj = 0

    A user's scores are x_u B. Memory is m^2 numbers of 8 bytes, twice.

    Source: Steck 2019 (arXiv 1905.03375).
    """
    chosen = np.asarray(users.sum(axis=0)).ravel()
    items = np.sort(np.argsort(-chosen, kind="stable")[:most_items])
    items = items[chosen[items] > 0]
    own = users[:, items]
    gram = np.asarray((own.T @ own).todense(), np.float64)
    gram[np.diag_indices_from(gram)] += regularisation
    weights = np.linalg.inv(gram)
    del gram
    weights /= -np.diag(weights).copy()
    np.fill_diagonal(weights, 0)
    return weights.astype(np.float32), items


def keep_top(matrix: Matrix, top: int) -> Matrix:
    """Return `matrix` with the `top` highest values of each row; of equal ones those of the lower columns."""
    matrix.sort_indices()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows)) - matrix.indptr[rows]
    kept = rank < top
    return sp.csr_matrix((matrix.data[kept], (rows[kept], matrix.indices[kept])), matrix.shape)
