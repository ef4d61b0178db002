"""Tests of the multi-class circle loss against the paper's formula, written out, and facts that follow from it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.losses.circle import GRADE_PAIRS, Boundaries, multi_class_circle

GAMMA = 32.0
PAPER = {"positive": {2: (0.75, 1.25), 1: (0.40, 0.60)}, "negative": {1: (0.60, 0.30), 0: (0.25, -0.25)}}
"""Boundary and optimum of each role: Mine and Refine (arXiv 2602.17654)."""

Instance = list[tuple[float, int]]
graded_instances = st.lists(
    st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 2)), min_size=1, max_size=7), min_size=1, max_size=6
)


def naive(instances: list[Instance], gamma: float) -> float:
    total = 0.0
    for items in instances:
        for a, b in GRADE_PAIRS:
            upper = [score for score, label in items if label == a]
            lower = [score for score, label in items if label == b]
            if upper and lower:
                (d_a, o_a), (d_b, o_b) = PAPER["positive"][a], PAPER["negative"][b]
                pull = sum(math.exp(-gamma * max(o_a - s, 0) * (s - d_a)) for s in upper)
                push = sum(math.exp(-gamma * min(o_b - s, 0) * (s - d_b)) for s in lower)
                total += math.log(1 + pull * push / len(lower))
    return total


def flat(instances: list[Instance]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    scores = torch.tensor([score for items in instances for score, _ in items], dtype=torch.float64)
    labels = torch.tensor([label for items in instances for _, label in items])
    return scores, labels, torch.tensor([index for index, items in enumerate(instances) for _ in items])


@given(graded_instances, st.floats(1, 80))
@settings(max_examples=200, deadline=None)
def test_it_equals_the_formula_in_its_plain_form(instances: list[Instance], gamma: float) -> None:
    for detach in (True, False):
        loss = multi_class_circle(*flat(instances), gamma, detach=detach)
        assert loss.item() == pytest.approx(naive(instances, gamma), rel=1e-9, abs=1e-9)


soft_instances = st.lists(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 2)), min_size=1, max_size=7), min_size=1, max_size=4
)


def naive_soft(instances: list[list[tuple[float, float]]], gamma: float) -> float:
    """Write out the formula for labels between grades, each an item of both with its share."""
    total = 0.0
    for items in instances:
        share = {grade: [(score, max(0.0, 1 - abs(label - grade))) for score, label in items] for grade in (0, 1, 2)}
        for a, b in GRADE_PAIRS:
            count = sum(weight for _, weight in share[b])
            if sum(weight for _, weight in share[a]) and count:
                (d_a, o_a), (d_b, o_b) = PAPER["positive"][a], PAPER["negative"][b]
                pull = sum(w * math.exp(-gamma * max(o_a - s, 0) * (s - d_a)) for s, w in share[a])
                push = sum(w * math.exp(-gamma * min(o_b - s, 0) * (s - d_b)) for s, w in share[b])
                total += math.log(1 + pull * push / max(1.0, count))
    return total


@given(soft_instances, st.floats(1, 80))
@settings(max_examples=200, deadline=None)
def test_expected_grades_equal_the_formula_in_its_plain_form(
    instances: list[list[tuple[float, float]]], gamma: float
) -> None:
    scores = torch.tensor([score for items in instances for score, _ in items], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([label for items in instances for _, label in items], dtype=torch.float64)
    owner = torch.tensor([index for index, items in enumerate(instances) for _ in items])
    loss = multi_class_circle(scores, labels, owner, gamma)
    assert loss.item() == pytest.approx(naive_soft(instances, gamma), rel=1e-9, abs=1e-9)
    loss.backward()
    assert scores.grad is not None and scores.grad.isfinite().all()


@pytest.mark.parametrize(("upper", "lower"), GRADE_PAIRS)
def test_one_pair_on_its_boundaries_costs_log_2(upper: int, lower: int) -> None:
    items = [(PAPER["positive"][upper][0], upper), (PAPER["negative"][lower][0], lower)]
    assert multi_class_circle(*flat([items]), GAMMA).item() == pytest.approx(math.log(2), rel=1e-12)


@pytest.mark.parametrize(("high", "low"), [(0.9, 0.1), (0.3, 0.6), (-0.5, 0.8)])
def test_grades_2_and_0_are_the_classic_circle_loss(high: float, low: float) -> None:
    """Sun et al. 2020 (arXiv 2002.10857), eq. 6, with m = 0.25."""
    m = 0.25
    negative = math.exp(GAMMA * max(low + m, 0) * (low - m))
    positive = math.exp(-GAMMA * max(1 + m - high, 0) * (high - (1 - m)))
    loss = multi_class_circle(*flat([[(high, 2), (low, 0)]]), GAMMA)
    assert loss.item() == pytest.approx(math.log(1 + negative * positive), rel=1e-9)


@pytest.mark.parametrize(
    ("moved", "other", "rest"), [(2, (0.1, 0), 1.0), (1, (0.1, 0), 0.5), (1, (0.9, 2), 0.45), (0, (0.9, 2), 0.0)]
)
def test_where_each_grade_comes_to_rest_without_detached_weights(
    moved: int, other: tuple[float, int], rest: float
) -> None:
    grid = np.linspace(-0.4, 1.2, 1601)
    losses = [multi_class_circle(*flat([[(s, moved), other]]), GAMMA, detach=False).item() for s in grid]
    assert grid[int(np.argmin(losses))] == pytest.approx(rest, abs=2e-3)


def test_detached_weights_push_grade_1_past_its_rest() -> None:
    """At 0.55, grade 1 is still pulled up if the weight has no gradient, and is pulled down if it has one."""
    signs = {}
    for detach in (True, False):
        scores, labels, owner = flat([[(0.55, 1), (0.1, 0)]])
        scores.requires_grad_()
        multi_class_circle(scores, labels, owner, GAMMA, detach=detach).backward()
        assert scores.grad is not None
        signs[detach] = scores.grad[0].sign().item()
    assert signs == {True: -1, False: 1}


def test_gradients() -> None:
    torch.manual_seed(0)
    scores = torch.randn(9, dtype=torch.float64).tanh().requires_grad_()
    labels, owner = torch.tensor([2, 1, 0, 0, 2, 1, 1, 2, 2]), torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2])
    assert torch.autograd.gradcheck(lambda s: multi_class_circle(s, labels, owner, 4.0, detach=False), (scores,))


def test_extreme_cosines_stay_finite_in_float32() -> None:
    scores = torch.tensor([-1.0, 1.0, 1.0, -1.0, 1.0], requires_grad=True)
    loss = multi_class_circle(scores, torch.tensor([2, 0, 1, 1, 2]), torch.tensor([0, 0, 0, 1, 1]), 256.0)
    loss.backward()
    assert loss.isfinite() and scores.grad is not None and scores.grad.isfinite().all()


def test_one_grade_and_no_items_cost_nothing() -> None:
    for labels in ([], [1, 1]):
        scores = torch.zeros(len(labels), requires_grad=True)
        loss = multi_class_circle(
            scores, torch.tensor(labels, dtype=torch.int64), torch.zeros(len(labels), dtype=torch.int64), GAMMA
        )
        loss.backward()
        assert loss.item() == 0
        assert scores.grad is not None and not scores.grad.any()


def test_the_boundaries_move_their_optima_about_the_same_axis() -> None:
    """With wider bands, grade 2 still comes to rest at 1, and grade 0 at 0."""
    grid = np.linspace(-0.4, 1.2, 1601)
    wide = Boundaries(positive_2=0.85, negative_0=0.15)
    for moved, other, rest in ((2, (0.0, 0), 1.0), (0, (1.0, 2), 0.0)):
        losses = [
            multi_class_circle(*flat([[(s, moved), other]]), GAMMA, boundaries=wide, detach=False).item() for s in grid
        ]
        assert grid[int(np.argmin(losses))] == pytest.approx(rest, abs=2e-3)


@pytest.mark.parametrize(("name", "boundary"), [("positive_1", 0.55), ("negative_1", 0.44)])
def test_grade_1_must_be_able_to_reach_its_own_boundary(name: str, boundary: float) -> None:
    """If a boundary lay beyond its axis, the pull would end before the boundary is reached."""
    with pytest.raises(ValueError, match=r"positive_1 <= 0\.5 and negative_1 >= 0\.45"):
        Boundaries.model_validate({"positive_1": 0.3, name: boundary})
