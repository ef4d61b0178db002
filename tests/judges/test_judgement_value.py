"""The value of a judgement against loops, and what a choice by value says of two rankings."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.judges.judgement_value import (
    UNKNOWN_VARIANCE,
    discount_differences,
    estimate_error,
    found_pairs,
    grade_variances,
    most_valuable,
)

PRODUCTS = [f"p{number}" for number in (7, 0, 3, 9, 1, 4, 8, 2, 6, 5)]
Rows = list[list[int]]


def rankings(seed: int, queries: int, depths: tuple[int, int]) -> tuple[Rows, Rows]:
    """Return two rankings of some of the products, some of which have no more products."""
    random = np.random.default_rng(seed)
    found: list[Rows] = []
    for depth in depths:
        lengths = random.integers(0, depth + 1, queries)
        orders = [random.permutation(len(PRODUCTS))[:depth].tolist() for _ in range(queries)]
        found.append([order[:length] for order, length in zip(orders, lengths, strict=True)])
    return found[0], found[1]


def ranking(rows: Rows, depth: int) -> tuple[np.ndarray, np.ndarray]:
    padded = np.array([row + [-1] * (depth - len(row)) for row in rows], np.int64).reshape(len(rows), depth)
    return np.zeros(padded.shape, np.float32), padded


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), queries=st.integers(1, 5))
def test_differences_equal_a_loop_over_ranks(seed: int, queries: int) -> None:
    first, second = rankings(seed, queries, (4, 6))
    names = [f"q{queries - number}" for number in range(queries)]
    pairs = found_pairs(ranking(first, 4), ranking(second, 6), pa.array(names), pa.array(PRODUCTS))
    expected = {}
    for name, one, other in zip(names, first, second, strict=True):
        for row in {*one, *other}:
            ranks = [order.index(row) + 1 if row in order else None for order in (one, other)]
            weights = [1 / math.log2(1 + rank) if rank else 0.0 for rank in ranks]
            expected[name, PRODUCTS[row]] = (*ranks, weights[0] - weights[1])
    found = {
        (row["query_id"], row["product_id"]): (row["rank_1"], row["rank_2"], pytest.approx(difference))
        for row, difference in zip(pairs.to_pylist(), discount_differences(pairs), strict=True)
    }
    assert found == expected and pairs.num_rows == len(expected)


def test_variances_equal_their_definition() -> None:
    shares = np.array([[0.2, 0.3, 0.5], [0, 1, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0, 0.5]])
    with np.errstate(divide="ignore"):
        logs = np.log(shares)
    expected = [sum(share * (grade - row @ [0, 1, 2]) ** 2 for grade, share in enumerate(row)) for row in shares]
    np.testing.assert_allclose(grade_variances(logs + 3.0), expected, atol=1e-12)
    assert grade_variances(np.full((1, 3), np.nan)).tolist() == [UNKNOWN_VARIANCE]
    assert expected[2] == pytest.approx(UNKNOWN_VARIANCE)
    hotter = grade_variances(logs[:1], temperature=2.0)
    odds = np.sqrt(shares[0])
    odds /= odds.sum()
    assert hotter[0] == pytest.approx(odds @ [0, 1, 4] - (odds @ [0, 1, 2]) ** 2)


def test_the_most_valuable_come_first_in_any_order_of_rows() -> None:
    pairs = pa.table({"query_id": ["a", "b", "c", "d", "e"], "product_id": ["p"] * 5})
    values = np.array([0.5, 0.0, 2.0, 0.5, 0.5])
    order = most_valuable(pairs, values)
    assert order[0] == 2 and set(order.tolist()) == {0, 2, 3, 4}
    backwards = most_valuable(pairs.take(pa.array(range(4, -1, -1))), values[::-1])
    assert (4 - backwards).tolist() == order.tolist()
    orders = {tuple(most_valuable(pairs, values, seed).tolist()) for seed in range(20)}
    assert len(orders) > 1, "equal pairs are in the order of a hash"


def test_the_error_is_that_of_the_pairs_that_are_not_judged() -> None:
    differences, grades = np.array([1.0, -0.5, 0.25]), np.array([2, 0, 1])
    judged = np.array([0, 1])
    estimate = differences[0] * 2 + differences[1] * 0 + differences[2] * 1.0
    assert estimate_error(differences, grades, judged) == pytest.approx(abs(estimate - differences @ grades))
    assert estimate_error(differences, grades, np.arange(3)) == 0
    assert estimate_error(differences, grades, np.array([], np.int64)) == pytest.approx(abs(differences @ grades))


def test_a_choice_by_value_tells_two_rankings_apart_with_fewer_judgements() -> None:
    """With grades at random, half of the pairs leave less error than half at random, on average."""
    random = np.random.default_rng(0)
    by_value, at_random = [], []
    for _ in range(200):
        differences = random.normal(size=60) ** 3
        grades = random.integers(0, 3, 60)
        pairs = pa.table({"query_id": [f"q{n}" for n in range(60)], "product_id": ["p"] * 60})
        order = most_valuable(pairs, differences**2)
        by_value.append(estimate_error(differences, grades, order[:30]))
        at_random.append(estimate_error(differences, grades, random.permutation(60)[:30]))
    assert np.mean(by_value) < 0.5 * np.mean(at_random)
