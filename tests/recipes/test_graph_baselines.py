"""Baselines that learn vectors on a graph put together what the same users chose."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse as sp
import torch

from raylevance.graph.csr import Csr
from workloads.steps.graph_baselines import contrast, graphsage_vectors, lightgcn_vectors, xsimgcl_vectors

USERS, ITEMS, GROUPS = 60, 40, 4
GROUP_OF = np.random.default_rng(3).permutation(np.arange(ITEMS) % GROUPS)


def shop(seed: int) -> sp.csr_matrix:
    """Users who choose items of one group each, but for one item in ten."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros((USERS, ITEMS))
    for user in range(USERS):
        inside = np.flatnonzero(user % GROUPS == GROUP_OF)
        chosen[user, rng.choice(inside, 6, replace=False)] = 1
        if user % 5 == 0:
            chosen[user, rng.integers(ITEMS)] = 1
    return sp.csr_matrix(chosen)


def by_graphsage(choices: sp.csr_matrix, seed: int) -> npt.NDArray[np.float32]:
    together = sp.csr_matrix(choices.T @ choices)
    together.setdiag(0)
    together.eliminate_zeros()
    rows, columns = together.nonzero()
    neighbours = Csr.from_edges(rows, columns, together.data.astype(np.float32), together.shape)
    return graphsage_vectors(choices, neighbours, GROUP_OF % 2 + 1, seed)


@pytest.mark.parametrize("learn", [lightgcn_vectors, xsimgcl_vectors, by_graphsage])
def test_items_of_the_same_users_are_near(
    learn: Callable[[sp.csr_matrix, int], npt.NDArray[np.float32]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"STEPS": 60, "BATCH": 256}.items():
        monkeypatch.setattr(f"workloads.steps.graph_baselines.{name}", value)
    choices = shop(0)
    unchosen = choices.tolil()
    unchosen[:, 5] = 0
    choices = sp.csr_matrix(unchosen)
    vectors = learn(choices, 7)
    chosen = np.arange(ITEMS) != 5
    expected = np.where(chosen | (learn is by_graphsage), 1, 0)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), expected, atol=1e-5)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    nearest = np.argsort(-cosines, axis=1)[:, :5]
    assert np.mean((GROUP_OF[nearest] == GROUP_OF[:, None])[chosen]) > 0.85
    np.testing.assert_array_equal(learn(choices, 7), vectors)
    assert not np.allclose(learn(choices, 8), vectors)


def test_contrast_equals_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    losses = []
    for i in range(5):
        similar = [float(one[i] @ other[j] / (one[i].norm() * other[j].norm())) / 0.15 for j in range(5)]
        losses.append(np.log(np.sum(np.exp(similar))) - similar[i])
    assert float(contrast(one, other)) == pytest.approx(np.mean(losses))
