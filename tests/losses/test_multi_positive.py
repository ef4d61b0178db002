"""The loss of several positives, against a float64 loop, with the gradients that positives have on each other."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.losses.multi_positive import multi_positive_contrastive

TAU = 0.1


def loop(cosines: np.ndarray, positives: np.ndarray, negatives: np.ndarray, tau: float, others: bool) -> list[float]:
    """The formula, term by term, in float64."""
    losses = []
    for s, p, n in zip(cosines, positives, negatives, strict=True):
        total = 0.0
        for i in np.flatnonzero(p):
            denominator = math.exp(s[i] / tau) + sum(n[k] * math.exp(s[k] / tau) for k in np.flatnonzero(n))
            if others:
                denominator += sum(math.exp(s[j] / tau) for j in np.flatnonzero(p) if j != i)
            total -= p[i] / p.sum() * math.log(math.exp(s[i] / tau) / denominator)
        losses.append(total)
    return losses


@given(seed=st.integers(0, 10_000), others=st.booleans(), tau=st.sampled_from([0.05, 0.1, 0.5, 1.0]))
@settings(max_examples=40, deadline=None)
def test_equals_a_loop_over_positives(seed: int, others: bool, tau: float) -> None:
    rng = np.random.default_rng(seed)
    cosines = rng.uniform(-1, 1, (5, 9))
    kind = rng.integers(0, 3, cosines.shape)
    positives = np.where(kind == 1, rng.integers(1, 4, cosines.shape), 0).astype(float)
    negatives = np.where(kind == 2, rng.choice([0.3, 1.0], cosines.shape), 0.0)
    tensors = [torch.from_numpy(part) for part in (cosines, positives, negatives)]
    found = multi_positive_contrastive(*tensors, tau, others)
    assert found.tolist() == pytest.approx(loop(cosines, positives, negatives, tau, others), rel=1e-9, abs=1e-9)
    order = rng.permutation(9)
    shuffled = multi_positive_contrastive(
        *(torch.from_numpy(np.ascontiguousarray(part[:, order])) for part in (cosines, positives, negatives)),
        tau,
        others,
    )
    assert torch.allclose(found, shuffled)


def gradient(others: bool, of: tuple[float, float] = (1.0, 1.0)) -> list[float]:
    cosines = torch.tensor([[0.6, 0.3, 0.2, 0.1]], dtype=torch.float64, requires_grad=True)
    positives = torch.tensor([[*of, 0.0, 0.0]], dtype=torch.float64)
    negatives = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    multi_positive_contrastive(cosines, positives, negatives, TAU, others).sum().backward()
    assert cosines.grad is not None
    return [float(value) for value in cosines.grad[0]]


def test_a_positive_has_no_gradient_towards_another_positive() -> None:
    """With the others in the denominator the loss of one positive pushes the other away."""
    first_alone = gradient(others=False, of=(1.0, 0.0))
    assert first_alone[1] == 0.0
    assert gradient(others=False) == pytest.approx([-0.122, -1.674, 1.313, 0.483], abs=1e-3)
    with_others = gradient(others=True)
    assert with_others == pytest.approx([4.304, -4.537, 0.170, 0.063], abs=1e-3)
    assert with_others[0] > 0, "the better positive is pushed away"
    assert sum(with_others) == pytest.approx(0, abs=1e-9) == sum(gradient(others=False))


def test_one_positive_makes_both_forms_one() -> None:
    assert gradient(others=False, of=(1.0, 0.0)) == pytest.approx(gradient(others=True, of=(1.0, 0.0)), abs=1e-12)


@pytest.mark.parametrize("others", [False, True])
def test_an_anchor_without_positives_or_negatives_is_no_nan(others: bool) -> None:
    cosines = torch.tensor([[0.9, -0.2], [0.9, 0.1], [0.4, 0.3]], requires_grad=True)
    positives = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    negatives = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    losses = multi_positive_contrastive(cosines, positives, negatives, TAU, others)
    losses.sum().backward()
    assert losses.tolist() == [0.0, 0.0, 0.0]
    assert cosines.grad is not None
    assert torch.isfinite(cosines.grad).all()


def test_cosines_at_a_low_temperature_do_not_overflow() -> None:
    cosines = torch.tensor([[1.0, -1.0]])
    wrong = multi_positive_contrastive(cosines, torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]), 0.001)
    assert wrong.item() == pytest.approx(2000, rel=1e-4)
