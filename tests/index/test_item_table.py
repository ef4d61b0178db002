"""The table of items against exact search, its files, and the merge of several triggers against a loop."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.errors import RaylevanceError
from raylevance.index.item_scores import AVERAGE_ITEMS, DAMPING, popularity_of_new_items, popularity_terms
from raylevance.index.item_table import ItemTable, ItemTableSettings, nearest_items
from raylevance.inference.item_table import Recommender, TriggerLists, recommender
from raylevance.losses.trigger_mixture import trigger_mixture_loss

ITEMS, TAU = 40, 0.2
CATEGORIES = [None if row % 7 == 0 else f"c{row % 3}" for row in range(ITEMS)]


def unit_vectors(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    vectors[5] = vectors[3]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def table(k: int = 12) -> ItemTable:
    rows, scores = nearest_items(unit_vectors(ITEMS), CATEGORIES, ItemTableSettings(k=k))
    listed = pa.table({"product_id": [f"p{row:02}" for row in range(ITEMS)], "category": CATEGORIES})
    return ItemTable(listed, rows, scores, TAU)


@pytest.mark.parametrize("same_category", [False, True])
@pytest.mark.parametrize("k", [5, 60])
def test_the_table_is_the_exact_order_by_cosine(same_category: bool, k: int) -> None:
    vectors = unit_vectors(ITEMS)
    rows, scores = nearest_items(vectors, CATEGORIES, ItemTableSettings(k=k, same_category=same_category))
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    for item in range(ITEMS):
        others = [j for j in range(ITEMS) if j != item and not (same_category and CATEGORIES[j] != CATEGORIES[item])]
        best = sorted(others, key=lambda j: (-round(cosines[item, j], 6), j))[:k]
        found = rows[item][rows[item] >= 0].tolist()
        assert found == best
        np.testing.assert_allclose(scores[item][: len(best)], cosines[item, best], atol=1e-5)
        assert (rows[item][len(best) :] == -1).all()


def test_scores_are_cosines_with_a_term_of_popularity() -> None:
    events = np.random.default_rng(1).integers(0, 30, ITEMS) * (np.arange(ITEMS) % 4 > 0)
    terms = popularity_terms(events, TAU, 0.5)
    mean = sum(events.tolist()) / sum(count > 0 for count in events.tolist())
    for item, count in enumerate(events.tolist()):
        expected = TAU * 0.5 * math.log((1 + count) / (1 + mean)) if count else 0.0
        assert terms[item] == pytest.approx(expected, abs=1e-6), "an item without events counts as an average one"
    vectors = unit_vectors(ITEMS)
    rows, scores = nearest_items(vectors, CATEGORIES, ItemTableSettings(k=10), terms)
    expected_scores = vectors @ vectors.T + terms - 9 * np.eye(ITEMS)
    for item in range(ITEMS):
        best = np.sort(expected_scores[item])[::-1][:10]
        np.testing.assert_allclose(scores[item], best, atol=1e-5)
        np.testing.assert_allclose(expected_scores[item, rows[item]], best, atol=1e-5)
    assert (popularity_terms(np.zeros(3, np.int64), TAU, 1.0) == 0).all()


def test_an_item_without_events_is_as_popular_as_those_that_are_chosen_as_often() -> None:
    random = np.random.default_rng(3)
    before = random.permutation(np.repeat([0, 1, 2, 3, 9, 20], [30, 50, 20, 20, 10, 5]))
    mean = before[before > 0].mean()
    for wanted in (0.0, 0.5, 1.0, 7.0, 20.0):
        after = np.where(before > 0, 3 * before, 0)
        after[before == 0] = random.permutation(np.repeat([int(6 * wanted), 0], 15))
        found = popularity_of_new_items(before, after)
        assert found == pytest.approx((30 * wanted / mean + AVERAGE_ITEMS) / (30 + AVERAGE_ITEMS))
        terms = popularity_terms(before, TAU, 0.5, found)
        assert terms[before == 0] == pytest.approx(TAU * 0.5 * math.log((1 + found * mean) / (1 + mean)), abs=1e-6)
    most = (30 * 20 / mean + AVERAGE_ITEMS) / (30 + AVERAGE_ITEMS)
    assert popularity_of_new_items(before, np.where(before > 0, before, 99)) == pytest.approx(most)
    nothing = np.zeros_like(before)
    assert popularity_of_new_items(before, nothing) == popularity_of_new_items(nothing, before) == 1.0
    assert popularity_of_new_items(before + 1, before) == 1.0
    assert popularity_of_new_items(before, np.where(before > 0, 0, 3)) == 1.0, "none that was there is chosen"


def test_a_group_of_few_items_that_is_chosen_less_by_chance_changes_no_order() -> None:
    before = np.repeat([0, 1, 2, 4], [9000, 2, 2, 1])
    rates = [0, 1, 2, 5, 6, 9]
    more = [popularity_of_new_items(before, np.repeat([rate, 2, 6, 1], [9000, 2, 2, 1])) for rate in rates]
    # Two requests have the most popular group that is not chosen less than one below it; the mean is also 2.
    assert more == pytest.approx([0, 0.25, 0.5, 0.875, 1, 1], abs=0.002)


def test_new_items_that_nobody_chose_are_not_popular() -> None:
    before = np.repeat([0, 1, 9, 20], [3000, 50, 1, 1])
    after = np.where(before == 20, 5, 0)
    assert popularity_of_new_items(before, after) < 0.01
    assert popularity_of_new_items(before[2999:], after[2999:]) == pytest.approx(10 / 11), "one item says little"


def merged_by_hand(table: ItemTable, triggers: list[int], weights: list[float]) -> dict[int, tuple[float, int]]:
    mass: dict[int, dict[int, float]] = {}
    for trigger, weight in zip(triggers, weights, strict=True):
        for item, cosine in zip(table.neighbours[trigger], table.scores[trigger], strict=True):
            if item >= 0 and weight > 0 and item not in triggers:
                share = weight**0.25 / sum(w**0.25 for w in weights) * math.exp(float(cosine) / TAU)
                mass.setdefault(int(item), {})
                mass[int(item)][trigger] = mass[int(item)].get(trigger, 0) + share
    return {
        item: (TAU * math.log(sum(by.values())), max(by, key=lambda trigger: by[trigger])) for item, by in mass.items()
    }


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_lists_of_triggers_are_merged_as_the_formula_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = recommender(table())
    asked = []
    for _ in range(4):
        triggers = rng.choice(ITEMS, rng.integers(0, 6), replace=False).tolist()
        asked.append((triggers, rng.choice([0.0, 0.5, 1.0, 3.0], len(triggers)).tolist()))
    found = whole.recommend(TriggerLists.of(asked), 10)
    for row, (triggers, weights) in enumerate(asked):
        expected = merged_by_hand(whole.table, triggers, weights) if sum(weights) else {}
        items = found.items[row][found.items[row] >= 0].tolist()
        assert len(items) == min(10, len(expected))
        assert not set(items) & set(triggers)
        for item, score, trigger in zip(items, found.scores[row], found.triggers[row], strict=False):
            assert score == pytest.approx(expected[item][0], abs=1e-5)
            assert trigger == expected[item][1]
        assert sorted(found.scores[row][: len(items)], reverse=True) == found.scores[row][: len(items)].tolist()
        left = [score for item, (score, _) in expected.items() if item not in items]
        assert not left or max(left) <= found.scores[row][len(items) - 1] + 1e-5


def test_one_trigger_gives_its_row_of_the_table() -> None:
    whole = recommender(table())
    found = whole.recommend(TriggerLists.of([([17], [2.5])]), 12)
    assert found.items[0].tolist() == whole.table.neighbours[17].tolist()
    np.testing.assert_allclose(found.scores[0], whole.table.scores[17], atol=1e-6)


def test_a_cap_and_a_filter_leave_items_out_and_go_on() -> None:
    whole = recommender(table())
    asked = TriggerLists.of([([1, 2], [1.0, 1.0]), ([9], [1.0])])
    everything = whole.recommend(asked, 40).items
    capped = whole.recommend(asked, 40, most_per_category=2).items
    for row in range(2):
        kept, counts = [], {}
        for item in everything[row][everything[row] >= 0].tolist():
            counts[CATEGORIES[item]] = counts.get(CATEGORIES[item], 0) + 1
            kept += [item] if counts[CATEGORIES[item]] <= 2 or CATEGORIES[item] is None else []
        assert capped[row][capped[row] >= 0].tolist() == kept
    allowed = np.arange(ITEMS) % 2 == 0
    filtered = whole.recommend(asked, 40, allowed=allowed).items
    for row in range(2):
        own = everything[row]
        assert filtered[row][filtered[row] >= 0].tolist() == [i for i in own.tolist() if i >= 0 and i % 2 == 0]


def test_a_category_limits_the_items_and_the_triggers() -> None:
    made = table(k=39)
    paths = pa.array([f"home > c{row % 3}" if row % 7 else None for row in range(ITEMS)])
    whole = recommender(ItemTable(made.items.set_column(1, "category", paths), made.neighbours, made.scores, TAU))
    asked = [([1, 2, 5], [1.0, 2.0, 0.5]), ([1, 2], [1.0, 2.0]), ([3], [1.0]), ([4], [1.0])]
    categories = ["home > c2", None, "home", "nothing"]
    found = whole.recommend(TriggerLists.of(asked), 40, categories)
    first = found.items[0][found.items[0] >= 0].tolist()
    assert sorted(first) == [row for row in range(ITEMS) if row % 3 == 2 and row % 7 and row not in (2, 5)]
    assert set(found.triggers[0][: len(first)].tolist()) <= {2, 5}, "trigger 1 is of another category"
    assert found.items[1].tolist() == whole.recommend(TriggerLists.of(asked[1:2]), 40).items[0].tolist()
    assert sorted(found.items[2][found.items[2] >= 0].tolist()) == [r for r in range(ITEMS) if r % 7 and r != 3]
    assert (found.items[3] == -1).all()
    outside = whole.recommend(TriggerLists.of([([1], [1.0])]), 5, ["home > c2"])
    assert (outside.items[0] >= 0).all(), "where no trigger fits, all count"


def test_a_table_survives_its_folder(tmp_path: Path) -> None:
    made = table()
    made.save(tmp_path, ItemTableSettings(k=12))
    loaded = ItemTable.load(tmp_path)
    assert loaded.items.equals(made.items)
    assert loaded.temperature == TAU
    np.testing.assert_array_equal(loaded.neighbours, made.neighbours)
    asked = TriggerLists.of([([4, 8], [1.0, 2.0])])
    assert isinstance(recommender(loaded), Recommender)
    assert (
        recommender(loaded).recommend(asked, 5).items.tolist() == recommender(made).recommend(asked, 5).items.tolist()
    )
    np.save(tmp_path / "scores.npy", made.scores[:, :3])
    with pytest.raises(RaylevanceError, match="not of one table"):
        ItemTable.load(tmp_path)
    (tmp_path / "scores.npy").unlink()
    with pytest.raises(RaylevanceError, match=r"scores\.npy is missing"):
        ItemTable.load(tmp_path)


def test_the_loss_of_histories_is_that_of_the_merged_lists() -> None:
    events = np.random.default_rng(2).integers(0, 30, ITEMS) * (np.arange(ITEMS) % 5 > 0)
    vectors, share = unit_vectors(ITEMS, seed=3), 0.75
    rows, scores = nearest_items(vectors, CATEGORIES, ItemTableSettings(k=ITEMS), popularity_terms(events, TAU, share))
    listed = pa.table({"product_id": [f"p{row:02}" for row in range(ITEMS)], "category": CATEGORIES})
    own, weights = [4, 17, 30], [3.0, 1.0, 0.2]
    served = recommender(ItemTable(listed, rows, scores, TAU)).recommend(TriggerLists.of([(own, weights)]), ITEMS)
    found = served.items[0][served.items[0] >= 0]
    assert sorted([*found.tolist(), *own]) == list(range(ITEMS))
    logits = torch.from_numpy(vectors[own] @ vectors.T / TAU + popularity_terms(events, 1.0, share))
    damped = np.array(weights) ** DAMPING
    excluded = torch.zeros(1, ITEMS, dtype=torch.bool)
    excluded[0, own] = True
    shares = torch.softmax(torch.from_numpy(served.scores[0][: len(found)] / TAU), 0)
    for item, expected in zip(found.tolist(), shares.tolist(), strict=True):
        target = torch.zeros(1, ITEMS)
        target[0, item] = 1
        v = torch.from_numpy((damped / damped.sum()).astype(np.float32))[None]
        loss = trigger_mixture_loss(logits, v, target, excluded)
        assert float(loss) == pytest.approx(-math.log(expected), abs=1e-4)
