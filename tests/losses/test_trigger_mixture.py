"""The loss of a mixture of triggers, against a float64 loop over its formula."""

import math

import numpy as np
import pytest
import torch

from raylevance.losses.trigger_mixture import trigger_mixture_loss


def loop(logits: np.ndarray, weights: np.ndarray, targets: np.ndarray, excluded: np.ndarray) -> list[float]:
    losses = []
    for v, y, left_out in zip(weights, targets, excluded, strict=True):
        mass = [sum(v[t] * math.exp(logits[t, i]) for t in range(len(logits))) for i in range(logits.shape[1])]
        total = sum(m for m, out in zip(mass, left_out, strict=True) if not out)
        losses.append(-sum(share * math.log(m / total) for share, m in zip(y, mass, strict=True) if share))
    return losses


def example(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Five histories of seven triggers among eleven candidates; the fourth has no target, the last one trigger."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 4, (7, 11))
    weights = random.uniform(0, 1, (5, 7)) * (random.random((5, 7)) < 0.6)
    weights[:, 3] += 0.1
    weights[4] = np.eye(7)[2]
    weights /= weights.sum(axis=1, keepdims=True)
    targets = random.uniform(0, 1, (5, 11)) * (random.random((5, 11)) < 0.4)
    targets[:, 0] += 0.1
    targets /= targets.sum(axis=1, keepdims=True)
    targets[3] = 0
    return logits, weights, targets, (targets == 0) & (random.random((5, 11)) < 0.3)


@pytest.mark.parametrize("seed", range(5))
def test_it_equals_the_loop(seed: int) -> None:
    logits, weights, targets, excluded = example(seed)
    found = trigger_mixture_loss(*(torch.from_numpy(part) for part in (logits, weights, targets, excluded)))
    np.testing.assert_allclose(found.numpy(), loop(logits, weights, targets, excluded), rtol=1e-10)
    assert found[3] == 0


def test_with_one_trigger_it_is_the_cross_entropy_of_a_softmax() -> None:
    logits, weights, targets, _ = (torch.from_numpy(part) for part in example(0))
    found = trigger_mixture_loss(logits, weights, targets, torch.zeros(5, 11, dtype=torch.bool))[4]
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(logits[2], targets[4]))


def test_its_gradient_is_that_of_finite_differences() -> None:
    logits, weights, targets, excluded = (torch.from_numpy(part) for part in example(1))
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: trigger_mixture_loss(z, weights, targets, excluded), logits)


def test_a_trigger_whose_items_others_bring_has_less_of_the_gradient() -> None:
    # Triggers 0 and 1 both bring the target, 2 does not: alone, 0 has all of the pull towards it, beside 1 half of it.
    logits = torch.tensor([[5.0, 0.0], [5.0, 0.0], [0.0, 0.0]], requires_grad=True)
    weights = torch.tensor([[0.5, 0.0, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    losses = trigger_mixture_loss(logits, weights, targets, torch.zeros(2, 2, dtype=torch.bool))
    alone, beside = (torch.autograd.grad(loss, logits, retain_graph=True)[0][0, 0].abs() for loss in losses)
    assert beside < 0.6 * alone


def test_a_sum_too_small_for_float32_is_raised() -> None:
    logits = torch.tensor([[0.0, -300.0], [300.0, -300.0]], requires_grad=True)
    weights, targets = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    loss = trigger_mixture_loss(logits, weights, targets, torch.zeros(1, 2, dtype=torch.bool)).sum()
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(2), rel=1e-4), "both sums are raised to the same"
    assert (logits.grad == 0).all()
