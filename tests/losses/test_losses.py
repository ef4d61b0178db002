"""Tests of losses against naive float64 loops, of their gradients, of values by hand, and of hard cases."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.losses.infonce import in_batch_infonce
from raylevance.losses.supcon import label_weighted_supcon
from raylevance.losses.temperature import MAX_SCALE, Temperature
from raylevance.losses.triplet import graded_triplet

ONE = torch.tensor(1.0, dtype=torch.float64)

graded_instances = st.lists(
    st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 2)), min_size=1, max_size=7), min_size=1, max_size=6
)


def flat(instances: list[list[tuple[float, int]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    scores = torch.tensor([score for items in instances for score, _ in items], dtype=torch.float64)
    labels = torch.tensor([label for items in instances for _, label in items])
    owner = torch.tensor([index for index, items in enumerate(instances) for _ in items])
    return scores, labels, owner


def naive_supcon(instances: list[list[tuple[float, float]]] | list[list[tuple[float, int]]], scale: float) -> float:
    total = 0.0
    for items in instances:
        lowest = min(label for _, label in items)
        denominator = sum(math.exp(scale * score) for score, _ in items)
        positives = [(score, label) for score, label in items if label > lowest]
        weight = sum(label for _, label in positives)
        for score, label in positives:
            total -= label / weight * math.log(math.exp(scale * score) / denominator)
    return total


def naive_triplet(instances: list[list[tuple[float, int]]], margin: float) -> float:
    total = 0.0
    for items in instances:
        losses = [max(0.0, margin - high + low) for high, upper in items for low, lower in items if upper > lower]
        total += sum(losses) / len(losses) if losses else 0.0
    return total


@given(graded_instances, st.floats(0.1, 100))
@settings(max_examples=200, deadline=None)
def test_supcon_equals_the_naive_loop(instances: list[list[tuple[float, int]]], scale: float) -> None:
    loss = label_weighted_supcon(*flat(instances), torch.tensor(scale, dtype=torch.float64))
    assert loss.item() == pytest.approx(naive_supcon(instances, scale), rel=1e-9, abs=1e-9)


def test_supcon_weighs_fractions_as_the_formula_does() -> None:
    """Weights that add up to less than 1, and an instance without any."""
    instances = [[(0.9, 0.5), (0.2, 0.0)], [(0.1, 0.25), (0.3, 0.0), (0.7, 0.25)], [(0.4, 0.5)]]
    scores, _, owner = flat([[(score, 0) for score, _ in items] for items in instances])
    labels = torch.tensor([label for items in instances for _, label in items], dtype=torch.float64)
    assert label_weighted_supcon(scores, labels, owner, ONE).item() == pytest.approx(naive_supcon(instances, 1.0))


def test_supcon_does_not_jump_where_labels_become_equal() -> None:
    """Of two negatives, one that is hardly above the other hardly counts as relatively positive."""
    scores, owner = torch.tensor([0.6, 0.3, 0.3], dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    losses = [
        float(label_weighted_supcon(scores, torch.tensor([1.9, 0.1, 0.1 + step], dtype=torch.float64), owner, ONE))
        for step in (0.0, 1e-6)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_triplets_are_of_labels_more_than_half_a_grade_apart() -> None:
    labels, scores = torch.tensor([1.9, 0.1, 0.3, 1.0]), torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    pairs = [(0, 1), (0, 2), (0, 3), (3, 1), (3, 2)]
    expected = np.mean([max(0.0, 0.1 - float(scores[i]) + float(scores[j])) for i, j in pairs])
    loss = graded_triplet(scores, labels, torch.zeros(4, dtype=torch.int64), 0.1)
    assert loss.item() == pytest.approx(expected)


@given(graded_instances, st.floats(0.01, 1))
@settings(max_examples=200, deadline=None)
def test_triplet_equals_the_naive_loop(instances: list[list[tuple[float, int]]], margin: float) -> None:
    loss = graded_triplet(*flat(instances), margin)
    assert loss.item() == pytest.approx(naive_triplet(instances, margin), rel=1e-9, abs=1e-12)


def test_supcon_by_hand() -> None:
    """Labels (2, 1, 0), scores (ln 3, ln 2, 0), tau 1: -(2 log(3/6) + log(2/6)) / 3."""
    scores = torch.tensor([math.log(3), math.log(2), 0.0], dtype=torch.float64)
    loss = label_weighted_supcon(scores, torch.tensor([2, 1, 0]), torch.zeros(3, dtype=torch.int64), ONE)
    assert loss.item() == pytest.approx((2 * math.log(2) + math.log(3)) / 3, rel=1e-12)


@pytest.mark.parametrize(("labels", "positives"), [([2, 0], {0}), ([1, 0], {0}), ([2, 1], {0}), ([2, 1, 0], {0, 1})])
def test_which_items_are_relatively_positive(labels: list[int], positives: set[int]) -> None:
    """An item is pulled up, a negative gradient at equal scores, only where it is relatively positive."""
    scores = torch.zeros(len(labels), dtype=torch.float64, requires_grad=True)
    owner = torch.zeros(len(labels), dtype=torch.int64)
    (gradient,) = torch.autograd.grad(label_weighted_supcon(scores, torch.tensor(labels), owner, ONE), scores)
    pulled = {index for index, value in enumerate(gradient.tolist()) if value < 0}
    assert pulled <= positives and 0 in pulled


def test_an_instance_with_one_label_contributes_nothing() -> None:
    scores = torch.randn(5, requires_grad=True)
    owner = torch.tensor([0, 0, 1, 2, 2])
    labels = torch.tensor([2, 2, 1, 0, 0])
    for loss in (
        label_weighted_supcon(scores, labels, owner, torch.tensor(20.0)),
        graded_triplet(scores, labels, owner, 0.1),
    ):
        assert loss.item() == 0
        (gradient,) = torch.autograd.grad(loss, scores)
        assert torch.equal(gradient, torch.zeros(5))


def test_no_items_give_zero() -> None:
    scores, labels = torch.zeros(0, requires_grad=True), torch.zeros(0, dtype=torch.int64)
    for loss in (
        label_weighted_supcon(scores, labels, labels, torch.tensor(20.0)),
        graded_triplet(scores, labels, labels, 0.1),
    ):
        assert loss.item() == 0
        loss.backward()


def test_gradients() -> None:
    torch.manual_seed(0)
    scores = torch.randn(9, dtype=torch.float64).tanh().requires_grad_()
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    labels, owner = torch.tensor([2, 1, 0, 0, 2, 1, 1, 2, 2]), torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2])
    assert torch.autograd.gradcheck(lambda s, t: label_weighted_supcon(s, labels, owner, t), (scores, scale))
    assert torch.autograd.gradcheck(lambda s: graded_triplet(s, labels, owner, 0.3), (scores,))
    queries = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    items = torch.randn(7, 6, dtype=torch.float64, requires_grad=True)
    positive, same = torch.tensor([1, 0, 6, 3]), torch.zeros(4, 7, dtype=torch.bool)
    same[0, 4] = same[0, 1] = True
    assert torch.autograd.gradcheck(lambda q, d, t: in_batch_infonce(q, d, positive, t, same), (queries, items, scale))


def test_infonce_equals_the_naive_loop() -> None:
    rng = np.random.default_rng(0)
    queries, items = rng.normal(size=(5, 8)), rng.normal(size=(9, 8))
    positive, same = rng.integers(0, 9, 5), rng.random((5, 9)) < 0.3
    expected = 0.0
    for row in range(5):
        allowed = [j for j in range(9) if j == positive[row] or not same[row, j]]
        exponentials = {j: math.exp(3 * float(queries[row] @ items[j])) for j in allowed}
        expected -= math.log(exponentials[positive[row]] / sum(exponentials.values()))
    loss = in_batch_infonce(*map(torch.tensor, (queries, items, positive)), torch.tensor(3.0), torch.tensor(same))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_a_scale_of_100_stays_finite_in_float32() -> None:
    scores = torch.tensor([1.0, -1.0, -1.0, 1.0], requires_grad=True)
    owner, labels = torch.tensor([0, 0, 1, 1]), torch.tensor([2, 0, 2, 0])
    loss = label_weighted_supcon(scores, labels, owner, torch.tensor(100.0))
    loss.backward()
    assert loss.item() == pytest.approx(200)
    assert scores.grad is not None and torch.isfinite(scores.grad).all()


def test_order_of_items_does_not_matter_to_supcon() -> None:
    scores, labels, owner = (
        torch.randn(8),
        torch.tensor([2, 1, 0, 0, 2, 1, 1, 0]),
        torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]),
    )
    shuffled = torch.randperm(8)
    one = label_weighted_supcon(scores, labels, owner, torch.tensor(10.0))
    other = label_weighted_supcon(scores[shuffled], labels[shuffled], owner[shuffled], torch.tensor(10.0))
    torch.testing.assert_close(one, other)


def test_the_temperature_starts_at_its_start_and_comes_back_from_the_clamp() -> None:
    temperature = Temperature(0.05)
    assert temperature().item() == pytest.approx(20)
    with torch.no_grad():
        temperature.log_scale.fill_(10.0)
    scale = temperature()
    assert scale.item() == pytest.approx(MAX_SCALE, rel=1e-5)
    scale.backward()
    assert temperature.log_scale.grad is not None and temperature.log_scale.grad.item() > 0


def test_a_temperature_that_the_clamp_would_raise_is_refused() -> None:
    assert Temperature(0.01)().item() == pytest.approx(MAX_SCALE, rel=1e-5)
    with pytest.raises(ValueError, match=r"a temperature of 0.005: expected at least 0.01"):
        Temperature(0.005)
