"""Metrics of recommended lists against loops, with lists that are short and requests without targets."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.evaluation.item_metrics import (
    Targets,
    coverage,
    ndcg,
    popularity_groups,
    recall,
    recall_by_group,
    share_of_list,
    tail_items,
)


@given(seed=st.integers(0, 10_000), k=st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_recall_and_ndcg_equal_a_loop(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    lists = np.stack([rng.permutation(9)[:6] for _ in range(5)])
    for row, length in zip(lists, rng.integers(0, 7, 5), strict=True):
        row[length:] = -1
    targets = [rng.permutation(9)[: rng.integers(0, 5)].tolist() for _ in range(5)]
    found = recall(lists, Targets.of(targets), k), ndcg(lists, Targets.of(targets), k)
    for row, (items, wanted) in enumerate(zip(lists.tolist(), targets, strict=True)):
        if not wanted:
            assert math.isnan(found[0][row])
            assert math.isnan(found[1][row])
            continue
        hits = [rank for rank, item in enumerate(items[:k], 1) if item in wanted and item >= 0]
        assert found[0][row] == pytest.approx(len(hits) / len(wanted))
        ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1))
        assert found[1][row] == pytest.approx(sum(1 / math.log2(rank + 1) for rank in hits) / ideal)


def test_shares_and_coverage_count_listed_items_only() -> None:
    lists = np.array([[0, 1, 2, -1], [3, -1, -1, -1], [-1, -1, -1, -1]])
    marked = np.array([True, False, True, True, False])
    assert share_of_list(lists, marked, 2).tolist() == [0.5, 1.0, 0.0]
    assert share_of_list(lists, marked, 4).tolist() == pytest.approx([2 / 3, 1.0, 0.0])
    assert coverage(lists, 5, 4) == pytest.approx(4 / 5)
    assert coverage(lists, 5, 1) == pytest.approx(2 / 5)


def test_recall_by_popularity_equals_a_loop() -> None:
    rng = np.random.default_rng(3)
    events = rng.integers(0, 6, 40) * rng.integers(0, 3, 40)
    groups = popularity_groups(events, 4)
    assert (groups[events == 0] == 0).all()
    assert set(groups[events > 0]) <= {1, 2, 3, 4}
    assert popularity_groups(np.arange(1, 41), 4).tolist() == [1 + place // 10 for place in range(40)]
    for low, high in ((a, b) for a in range(40) for b in range(40)):
        assert events[low] >= events[high] or groups[low] <= groups[high]
    lists = np.stack([rng.permutation(40)[:10] for _ in range(30)])
    targets = [rng.permutation(40)[: rng.integers(0, 4)].tolist() for _ in range(30)]
    found = recall_by_group(lists, Targets.of(targets), 6, groups)
    for group in sorted(set(groups.tolist())):
        own = [
            item in row[:6]
            for row, wanted in zip(lists, targets, strict=True)
            for item in wanted
            if groups[item] == group
        ]
        assert found[group] == pytest.approx(np.mean(own))
    assert np.isnan(recall_by_group(lists, Targets.of([[]] * 30), 6, groups)).all()


def test_the_head_is_the_fewest_items_that_cover_its_share() -> None:
    events = np.array([1, 50, 0, 30, 15, 4])
    assert tail_items(events, 0.8).tolist() == [True, False, True, False, True, True]
    assert tail_items(events, 0.81).tolist() == [True, False, True, False, False, True]
    assert tail_items(np.zeros(3, np.int64)).all()
