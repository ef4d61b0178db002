"""Tests of the weighted binary cross-entropy against a naive float64 loop, and of its gradient."""

import math

import pytest
import torch

from raylevance.losses.binary_cross_entropy import weighted_binary_cross_entropy

LOGITS = torch.tensor([-3.0, -0.5, 0.0, 2.0, 7.5], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 1, 0, 1], dtype=torch.int8)
WEIGHTS = torch.tensor([1.0, 0.25, 1.0, 0.5, 0.25])


def test_it_equals_the_naive_loop() -> None:
    naive = 0.0
    for logit, label, weight in zip(LOGITS.tolist(), LABELS.tolist(), WEIGHTS.tolist(), strict=True):
        chance = 1 / (1 + math.exp(-logit))
        naive -= weight * (label * math.log(chance) + (1 - label) * math.log(1 - chance))
    assert weighted_binary_cross_entropy(LOGITS, LABELS, WEIGHTS).item() == pytest.approx(naive, rel=1e-12)


def test_its_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    torch.autograd.gradcheck(lambda z: weighted_binary_cross_entropy(z, LABELS, WEIGHTS), logits)
    extreme = torch.tensor([-1e4, 1e4], requires_grad=True)
    weighted_binary_cross_entropy(extreme, torch.tensor([1, 0]), torch.tensor([1.0, 0.5])).backward()
    assert extreme.grad is not None and extreme.grad.tolist() == [-1, 0.5]
