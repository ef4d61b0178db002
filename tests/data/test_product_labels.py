"""Labels from the catalogue do not depend on the order of products, and join what only case and spacing tell apart."""

import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.data import product_labels
from raylevance.data.label_space import LABELS, LabelSpace
from raylevance.data.product_labels import (
    category_labels,
    column_labels,
    frequent_words,
    labels_of_products,
    titles_of_labels,
)
from raylevance.data.schema import PRODUCTS
from raylevance.errors import RaylevanceError


def catalogue(*rows: dict[str, Any]) -> pa.Table:
    filled = [{"product_id": f"p{n}", "title": "x", **row} for n, row in enumerate(rows)]
    return pa.Table.from_pylist(filled, PRODUCTS)


def of_paths(*paths: list[str] | None) -> pa.Table:
    return catalogue(*({"category": path} for path in paths))


def test_nodes_of_paths() -> None:
    products = of_paths(["Home", "Kitchen", "Kettles"], ["home", "Kitchen "], ["Home", "Kitchen", "Pans"], None, [])
    whole = LabelSpace(category_labels(products))
    assert whole.labels.schema == LABELS
    assert whole.label_ids == ["Home", "Home > Kitchen", "Home > Kitchen > Kettles", "Home > Kitchen > Pans"]
    assert whole.predicted.tolist() == [False, True, True, True]
    assert whole.labels["text"][3].as_py() == "Home Kitchen Pans"
    cut = LabelSpace(category_labels(products, levels=2))
    assert cut.label_ids == ["Home", "Home > Kitchen"]
    assert cut.predicted.tolist() == [False, True]
    assert labels_of_products(products, cut)[:, 0].tolist() == [1, 1, 1, -1, -1]


def test_a_level_with_the_separator_is_several_levels() -> None:
    products = of_paths(["Home > Kitchen", "Pans"], ["Home", "Kitchen", "Pans"], ["Home > Kitchen > Pans"], ["Home"])
    space = LabelSpace(category_labels(products))
    assert space.label_ids == ["Home", "Home > Kitchen", "Home > Kitchen > Pans"]
    assert labels_of_products(products, space)[:, 0].tolist() == [2, 2, 2, 0]


NAMES = st.sampled_from(["Home", "home", "HOME ", "Garden", "Pots & Pans", "pots  &amp; pans", " "])


@settings(deadline=None)
@given(st.lists(st.none() | st.lists(NAMES, max_size=4), min_size=1), st.integers(1, 4), st.randoms())
def test_each_product_ends_in_its_own_cut_path(paths: list[list[str] | None], levels: int, random: Any) -> None:
    def key(path: list[str] | None) -> tuple[str, ...]:
        names = [" ".join(name.lower().replace("&amp;", "&").split()) for name in path or []]
        return tuple([name for name in names if name][:levels])

    products = of_paths(*paths)
    expected = [key(path) for path in paths]
    if not any(expected):
        with pytest.raises(RaylevanceError, match="no product has a category"):
            category_labels(products, levels)
        return
    space = LabelSpace(category_labels(products, levels))
    found = [key(space.path(row)) if row >= 0 else () for row in labels_of_products(products, space)[:, 0].tolist()]
    assert found == expected
    nodes = {path[:depth] for path in expected for depth in range(1, len(path) + 1)}
    assert sorted(key(space.path(row)) for row in range(len(space))) == sorted(nodes)
    assert {key(space.path(row)) for row in np.flatnonzero(space.predicted)} == {path for path in expected if path}
    shuffled = list(paths)
    random.shuffle(shuffled)
    assert category_labels(of_paths(*shuffled), levels).equals(space.labels)


def test_values_of_a_column_in_their_commonest_spelling() -> None:
    brands = ["ACME", "Acme", " acme", "Acme", None, "", "Zeta &amp; Co", "zeta & co"]
    products = catalogue(*({"brand": brand} for brand in brands))
    space = LabelSpace(column_labels(products, "brand"))
    assert space.tasks == ["brand"]
    assert space.label_ids == ["Acme", "Zeta &amp; Co"]
    assert space.labels["text"].to_pylist() == ["Acme", "Zeta & Co"]
    assert labels_of_products(products, space)[:, 0].tolist() == [0, 0, 0, 0, -1, -1, 1, 1]
    with pytest.raises(RaylevanceError, match=r"no column 'colour'; did you mean 'color'\?"):
        column_labels(products, "colour")
    with pytest.raises(RaylevanceError, match="no product has a color"):
        column_labels(products, "color")


def test_products_of_another_catalogue_and_tasks_without_a_column() -> None:
    intents = pa.Table.from_pylist(
        [{"task": "intent", "label_id": "b", "name": "buy", "text": "buy", "predicted": True}], LABELS
    )
    known = catalogue({"category": ["Home", "Kettles"], "brand": "Acme"}, {"category": ["Toys"]})
    space = LabelSpace(pa.concat_tables([column_labels(known, "brand"), intents, category_labels(known)]))
    other = catalogue(
        {"category": ["TOYS", "Cars"], "brand": "acme"}, {"category": ["Home", "Pans"]}, {"category": ["Books"]}
    )
    toys = space.rows("category").start + 2
    found = labels_of_products(other, space)
    assert found.dtype == np.int32
    # Home is a node that no product ends in, so it is not the label of a pan.
    assert found.tolist() == [[0, -1, toys], [-1, -1, -1], [-1, -1, -1]]


def oracle_words(products: pa.Table, space: LabelSpace, k: int) -> list[list[str]]:
    """Plain counting, label by label."""
    with_word: dict[int, Counter[str]] = defaultdict(Counter)
    of_label: Counter[int] = Counter()
    seen: Counter[str] = Counter()
    for title, rows in zip(products["title"].to_pylist(), labels_of_products(products, space).tolist(), strict=True):
        words = set(title.lower().split())
        seen.update(words)
        for row in rows:
            while row >= 0:
                of_label[row] += 1
                with_word[row].update(words)
                row = int(space.parents[row])
    best = []
    for row in range(len(space)):
        rows = next(space.rows(task) for task in space.tasks if space.rows(task).start <= row < space.rows(task).stop)
        weights = {}
        for word, count in with_word[row].items():
            if seen[word] >= 2 and any(letter.isalpha() for letter in word):
                labels = sum(word in with_word[other] for other in range(rows.start, rows.stop))
                weights[word] = count / of_label[row] * math.log(1 + (rows.stop - rows.start) / labels)
        best.append(sorted(weights, key=lambda word: (-round(weights[word], 9), word))[:k])
    return best


@pytest.mark.parametrize("rows_at_once", [7, 10_000])
def test_words_that_tell_a_label_best(monkeypatch: pytest.MonkeyPatch, rows_at_once: int) -> None:
    monkeypatch.setattr(product_labels, "ROWS_AT_ONCE", rows_at_once)
    random = np.random.default_rng(0)
    vocabulary = [f"w{n}" for n in range(30)] + ["42", "7"]
    paths = [["Home", "Kettles"], ["Home", "Pans"], ["Toys"], None]
    products = catalogue(
        *(
            {
                "title": " ".join([*random.choice(vocabulary[n % 4 * 5 :], 4), f"only{n}"]),
                "category": paths[n % 4],
                "brand": random.choice(["Acme", "Zeta"]) if n % 3 else None,
            }
            for n in range(60)
        )
    )
    space = LabelSpace(pa.concat_tables([category_labels(products), column_labels(products, "brand")]))
    found = frequent_words(products, space, k=6)
    assert found == oracle_words(products, space, k=6)
    assert all(found)
    assert frequent_words(products.take(pa.array(random.permutation(60))), space, k=6) == found


def test_a_label_without_products_has_no_words() -> None:
    products = of_paths(["Home"], ["Toys"])
    space = LabelSpace(category_labels(products))
    assert frequent_words(products.slice(0, 0), space) == [[], []]


def test_titles_of_a_label_are_also_those_below_it_and_need_no_order() -> None:
    paths = [["Home", "Kettles"], ["Home", "Pans"], ["Toys"], None]
    products = catalogue(*({"title": f"t{n}", "category": paths[n % 4]} for n in range(40)))
    space = LabelSpace(category_labels(products))
    found = dict(zip(space.label_ids, titles_of_labels(products, space, 4), strict=True))
    assert {label: len(titles) for label, titles in found.items()} == dict.fromkeys(space.label_ids, 4)
    below = {"Home": {0, 1}, "Home > Kettles": {0}, "Home > Pans": {1}, "Toys": {2}}
    assert all({int(title[1:]) % 4 for title in titles} <= below[label] for label, titles in found.items())
    shuffled = products.take(pa.array(np.random.default_rng(0).permutation(40)))
    assert titles_of_labels(shuffled, space, 4) == list(found.values())
    every = dict(zip(space.label_ids, titles_of_labels(products, space, 100), strict=True))
    assert sorted(every["Home"]) == sorted(every["Home > Kettles"] + every["Home > Pans"]) and len(every["Home"]) == 20
