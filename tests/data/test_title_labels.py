"""Spans of titles have the labels of all products that they name, whatever the order and the blocks of products."""

import random
from itertools import permutations

import numpy as np
import pyarrow as pa
import pytest
import ray.data

from raylevance.data.label_space import LabelSpace
from raylevance.data.product_labels import category_labels, column_labels, labels_of_products
from raylevance.data.pseudo_queries import cut_spans
from raylevance.data.query_labels import QUERY_LABELS
from raylevance.data.schema import PRODUCTS
from raylevance.data.title_labels import labels_of_titles

pytestmark = pytest.mark.ray
WORDS = ["red", "Blue", "steel", "mug", "pot"]


def catalogue(count: int = 60) -> pa.Table:
    draw = random.Random(1)
    paths = [["Home", "Mugs"], ["Home", "Pots"], ["Tea"], None]
    rows = [
        {
            "product_id": f"p{n}",
            "title": " ".join(draw.choices(WORDS, k=draw.randint(1, 7))),
            "category": draw.choice(paths),
            "brand": draw.choice(["Acme", "Zeta", None]),
        }
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows, PRODUCTS)


def space(products: pa.Table) -> LabelSpace:
    return LabelSpace(pa.concat_tables([category_labels(products), column_labels(products, "brand")]))


def names(title: str, query: str) -> bool:
    """Whether the words of `query` are side by side in `title`, in any order."""
    words = title.lower().split()
    asked = list(permutations(query.split()))
    return any(tuple(words[start : start + len(asked[0])]) in asked for start in range(len(words)))


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_the_labels_of_all_products_that_a_span_names(ray_cluster: None, share: float) -> None:
    products = catalogue()
    of = space(products)
    labels = labels_of_products(products, of)
    expected: dict[tuple[str, str], set[int]] = {}
    for query in set(cut_spans(products, per_product=2, seed=3)[0]):
        named = [row for row, title in enumerate(products["title"].to_pylist()) if names(title, query)]
        for task, name in enumerate(of.tasks):
            mine = [int(labels[row, task]) for row in named if labels[row, task] >= 0]
            kept = {label for label in mine if mine.count(label) / len(mine) >= share}
            if kept:
                expected[query, name] = kept
    rows = labels_of_titles(ray.data.from_arrow(products), of, per_product=2, seed=3, share=share)
    assert rows.schema == QUERY_LABELS
    assert {(row["query"], row["task"]): set(row["labels"]) for row in rows.to_pylist()} == expected
    assert max(map(len, expected.values())) > 1
    assert set(rows["source"].to_pylist()) == {"titles"}
    assert set(rows["weight"].to_numpy()) == {np.float32(0.3)}
    order = random.Random(5).sample(range(products.num_rows), products.num_rows)
    blocks = ray.data.from_arrow(products.take(pa.array(order))).repartition(5)
    assert labels_of_titles(blocks, of, per_product=2, seed=3, share=share).equals(rows)


def test_titles_without_a_span_or_a_label(ray_cluster: None) -> None:
    rows = [
        {"product_id": "a", "title": "Mug", "category": ["Home"]},
        {"product_id": "b", "title": "Steel Pot", "category": None},
    ]
    products = pa.Table.from_pylist(rows, PRODUCTS)
    of = LabelSpace(category_labels(products))
    assert labels_of_titles(ray.data.from_arrow(products), of).num_rows == 0
