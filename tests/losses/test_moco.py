"""Tests of the losses of momentum contrast against naive float64 loops, of their gradients, and of hard cases."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from raylevance.losses.moco import cluster_loss, instance_loss

T = 0.3


def random_case(seed: int, anchors: int = 5, queue: int = 7, hard: int = 6) -> dict[str, torch.Tensor]:
    """Return unit vectors in float64. Anchor 0 has no hard negative."""
    rng = np.random.default_rng(seed)

    def unit(rows: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.tensor(rng.normal(size=(rows, 4))), dim=-1)

    return {
        "anchors": unit(anchors),
        "positives": unit(anchors),
        "queue": unit(queue),
        "excluded_keys": torch.tensor(rng.random((anchors, queue)) < 0.3),
        "hard_negatives": unit(hard),
        "hard_negative_anchors": torch.tensor(rng.integers(1, anchors, hard)),
    }


def naive_instance(case: dict[str, torch.Tensor], weight: list[float]) -> float:
    z, positives, queue, excluded, hard, owner = (case[name].tolist() for name in case)

    def exponential(one: list[float], other: list[float]) -> float:
        return math.exp(sum(a * b for a, b in zip(one, other, strict=True)) / T)

    total = 0.0
    for row, anchor in enumerate(z):
        own = exponential(anchor, positives[row])
        queued = [exponential(anchor, key) for key, out in zip(queue, excluded[row], strict=True) if not out]
        harder = [exponential(anchor, key) for key, its in zip(hard, owner, strict=True) if its == row]
        total -= weight[row] * math.log(own / (own + sum(queued) + sum(harder)))
    return total


@pytest.mark.parametrize("sizes", [{}, {"queue": 0}, {"hard": 0}, {"queue": 0, "hard": 0}, {"hard": 40}])
def test_instance_loss_equals_the_naive_loop(sizes: dict[str, int]) -> None:
    case = random_case(0, **sizes)
    assert instance_loss(**case, temperature=T).item() == pytest.approx(naive_instance(case, [1] * 5), abs=1e-12)
    weight = [0.5, 1.0, 0.0, 0.25, 2.0]
    weighed = instance_loss(**case, temperature=T, weight=torch.tensor(weight, dtype=torch.float64))
    assert weighed.item() == pytest.approx(naive_instance(case, weight), abs=1e-12)


@pytest.mark.parametrize("anchors", [0, 1, 6])
def test_cluster_loss_equals_the_naive_loop(anchors: int) -> None:
    rng = np.random.default_rng(1)
    z, centroids = rng.normal(size=(anchors, 4)), rng.normal(size=(8, 4))
    own, excluded, weight = rng.integers(0, 8, anchors), rng.random((anchors, 8)) < 0.4, rng.random(anchors)
    expected = 0.0
    for row in range(anchors):
        exponentials = [math.exp(float(z[row] @ centroid) / T) for centroid in centroids]
        others = [value for j, value in enumerate(exponentials) if j != own[row] and not excluded[row, j]]
        expected -= weight[row] * math.log(exponentials[own[row]] / (exponentials[own[row]] + sum(others)))
    given = [torch.tensor(values) for values in (z, own, centroids, excluded)]
    loss = cluster_loss(*given, temperature=T, weight=torch.tensor(weight))
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_gradients() -> None:
    case = random_case(2)
    vectors = [case[name].requires_grad_() for name in ("anchors", "positives", "queue", "hard_negatives")]
    weight = torch.rand(5, dtype=torch.float64, requires_grad=True)

    def instance(z: Any, positives: Any, queue: Any, hard: Any, w: Any) -> torch.Tensor:
        return instance_loss(
            z, positives, queue, case["excluded_keys"], hard, case["hard_negative_anchors"], temperature=T, weight=w
        )

    assert torch.autograd.gradcheck(instance, (*vectors, weight))
    own = torch.tensor([0, 3, 3, 6, 1])

    def cluster(z: Any, centroids: Any, w: Any) -> torch.Tensor:
        return cluster_loss(z, own, centroids, case["excluded_keys"], temperature=T, weight=w)

    assert torch.autograd.gradcheck(cluster, (vectors[0], vectors[2], weight))


def test_excluded_keys_have_no_effect() -> None:
    """A queue of copies of the positive adds no loss and gets no gradient if all of them are excluded."""
    case = random_case(3)
    case["queue"] = case["positives"][[0] * 7].clone().requires_grad_()
    case["excluded_keys"] = torch.ones(5, 7, dtype=torch.bool)
    loss = instance_loss(**case, temperature=T)
    nothing = {"queue": torch.zeros(0, 4).double(), "excluded_keys": torch.ones(5, 0).bool()}
    empty = instance_loss(**(case | nothing), temperature=T)
    assert loss.item() == pytest.approx(empty.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, case["queue"])
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_a_low_temperature_stays_finite_in_float32() -> None:
    z = torch.tensor([[1.0, 0.0]], requires_grad=True)
    against = torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.0]]), torch.zeros(1, 1, dtype=torch.bool)
    loss = instance_loss(z, *against, torch.tensor([[1.0, 0.0]]), torch.tensor([0]), temperature=0.005)
    loss.backward()
    assert loss.item() == pytest.approx(400 + math.log(2), rel=1e-6)
    assert z.grad is not None and torch.isfinite(z.grad).all() and z.grad.abs().sum() > 0
