"""Baselines of item retrieval against a loop: which items and triggers the category of a query lets through."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.index.item_scores import DAMPING
from raylevance.index.item_table import ItemTable
from raylevance.inference.item_table import TriggerLists
from raylevance.models.item_features import categories_below, numbered_categories
from workloads.steps.item_baselines import Rule, TableSystem

PATHS = ["a", "a > b", "a > b > c", "a b", "a!", "a > é", "é", "a > b!", "A > b", "a >"]
"""Of categories whose names begin with that of another, but which are not below it."""


def is_inside(path: str | None, wanted: str) -> bool:
    return path is not None and path.split(" > ")[: len(wanted.split(" > "))] == wanted.split(" > ")


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_rule_ranks_what_is_in_or_below_the_category_as_the_table_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = 30
    paths = [None if rng.random() < 0.2 else str(rng.choice(PATHS)) for _ in range(size)]
    split = pa.array([path.split(" > ") if path else None for path in paths], pa.list_(pa.string()))
    numbers, names = numbered_categories(pa.table({"category": split}))
    similar = rng.uniform(0, 1, (size, size)) * (rng.random((size, size)) < 0.7)
    asked = [(rng.choice(size, 4, replace=False).tolist(), rng.choice([0.0, 1.0, 3.0], 4).tolist()) for _ in range(6)]
    categories = rng.integers(0, len(names) + 1, len(asked))
    rule = Rule(numbers, categories_below(names), lambda weights: weights @ similar)
    found = rule.rank(TriggerLists.of(asked), categories, size)

    rows = np.array([[other for other in range(size) if other != item] for item in range(size)], np.int32)
    listed = pa.table({"product_id": [f"{row:02}" for row in range(size)], "category": pa.array(paths, pa.string())})
    table = ItemTable(listed, rows, np.take_along_axis(similar, rows, 1).astype(np.float32), 0.1)
    reached = TableSystem(table, names).rank(TriggerLists.of(asked), categories, size)

    for row, ((triggers, weights), category) in enumerate(zip(asked, categories, strict=True)):
        inside = [not category or is_inside(path, names[category - 1]) for path in paths]
        weighed = [(t, w) for t, w in zip(triggers, weights, strict=True) if w]
        own = [(t, w) for t, w in weighed if inside[t]] or weighed
        scores = {i: sum(w**DAMPING * similar[t, i] for t, w in own) for i in range(size) if i not in triggers}
        expected = sorted(
            (i for i, s in scores.items() if s > 0 and inside[i]), key=lambda i: (-round(scores[i], 9), i)
        )
        assert found[row][found[row] >= 0].tolist() == expected
        every = [i for i in range(size) if inside[i] and i not in triggers]
        assert sorted(reached[row][reached[row] >= 0].tolist()) == (every if own else [])
