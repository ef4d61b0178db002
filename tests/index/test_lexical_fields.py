"""Tests of BM25F: its formula as a loop in float64, its weights as counts, and its files."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.errors import RaylevanceError
from raylevance.index.lexical import LexicalIndex
from raylevance.index.lexical_fields import FieldWeights, LexicalSettings

WORDS = ["lamp", "kettl", "red", "oak", "zinc"]
TEXT = st.lists(st.sampled_from(WORDS), max_size=6)
PRODUCT = st.tuples(TEXT, TEXT, TEXT)
FIELDS = ("title", "brand", "bullets")


def by_loop(products: list[tuple[list[str], ...]], query: list[str], chosen: LexicalSettings) -> list[float]:
    """The score of each product, word by word and field by field."""
    weights = chosen.fields.model_dump()
    read = [place for place, name in enumerate(FIELDS) if weights[name] > 0]
    mean = {place: sum(len(product[place]) for product in products) / len(products) for place in read}
    scores = []
    for product in products:
        score = 0.0
        for word in query:
            found = sum(any(word in other[place] for place in read) for other in products)
            tf = 0.0
            for place in read:
                count = Counter(product[place])[word]
                if count:
                    norm = 1 - chosen.b + chosen.b * len(product[place]) / mean[place]
                    tf += weights[FIELDS[place]] * count / norm
            score += math.log(1 + (len(products) - found + 0.5) / (found + 0.5)) * tf / (chosen.k1 + tf)
        scores.append(score)
    return scores


def as_fields(products: list[tuple[list[str], ...]]) -> dict[str, list[str]]:
    return {name: [" ".join(product[place]) for product in products] for place, name in enumerate(FIELDS)}


@settings(max_examples=60, deadline=None)
@given(
    products=st.lists(PRODUCT, min_size=1, max_size=7),
    query=st.lists(st.sampled_from([*WORDS, "moss"]), min_size=1, max_size=3, unique=True),
    weights=st.tuples(*[st.sampled_from([0.0, 0.5, 1.0, 5.0])] * 3),
    b=st.sampled_from([0.0, 0.5, 1.0]),
    k1=st.sampled_from([0.4, 1.0, 3.0]),
)
def test_scores_are_those_of_a_loop(
    products: list[tuple[list[str], ...]], query: list[str], weights: tuple[float, ...], b: float, k1: float
) -> None:
    chosen = LexicalSettings(fields=FieldWeights(**dict(zip(FIELDS, weights, strict=True))), b=b, k1=k1)
    read = [place for place, weight in enumerate(weights) if weight]
    if not any(product[place] for product in products for place in read):
        with pytest.raises(RaylevanceError, match="no word to index" if read else "weight above 0"):
            LexicalIndex.build_fields(as_fields(products), chosen)
        return
    index = LexicalIndex.build_fields(as_fields(products), chosen)
    [scores], [rows] = index.search([" ".join(query)], len(products))
    expected = by_loop(products, query, chosen)
    found = dict(zip(rows[rows >= 0].tolist(), scores[rows >= 0].tolist(), strict=True))
    assert found == pytest.approx({row: score for row, score in enumerate(expected) if score > 0}, rel=1e-5)


def test_a_word_of_weight_two_counts_as_the_word_twice() -> None:
    """Without lengths, a weight is a count."""
    chosen = LexicalSettings(fields=FieldWeights(title=2, bullets=1), b=0)
    twice = LexicalSettings(fields=FieldWeights(title=1, bullets=1), b=0)
    fields = {"title": ["red lamp", "oak"], "bullets": ["lamp", "zinc lamp"]}
    doubled = {"title": ["red lamp red lamp", "oak oak"], "bullets": fields["bullets"]}
    queries = ["red lamp", "oak", "zinc"]
    one, other = LexicalIndex.build_fields(fields, chosen), LexicalIndex.build_fields(doubled, twice)
    np.testing.assert_allclose(one.search(queries, 2)[0], other.search(queries, 2)[0], rtol=1e-6)


def test_the_title_counts_more_than_the_description_by_default() -> None:
    fields = {"title": ["oak table", "table"], "description": ["a table", "oak"]}
    assert LexicalIndex.build_fields(fields, LexicalSettings()).search(["oak"], 2)[1].tolist() == [[0, 1]]


def test_the_order_of_products_and_fields_does_not_matter(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    fields = {name: [" ".join(rng.choice(WORDS, 4)) for _ in range(30)] for name in FIELDS}
    order = rng.permutation(30)
    shuffled = {name: [fields[name][row] for row in order] for name in reversed(FIELDS)}
    queries = ["red lamp", "oak zinc kettle"]
    scores, rows = LexicalIndex.build_fields(fields, LexicalSettings()).search(queries, 30)
    other_scores, other_rows = LexicalIndex.build_fields(shuffled, LexicalSettings()).search(queries, 30)
    for one, found, other, places in zip(scores, rows, other_scores, other_rows, strict=True):
        assert dict(zip(found.tolist(), one.tolist(), strict=True)) == pytest.approx(
            {int(order[place]): score for place, score in zip(places, other.tolist(), strict=True)}, rel=1e-6
        )


def test_stop_words_and_model_numbers_of_every_field_that_is_read_are_found() -> None:
    fields = {"title": ["lamp", "kettle", "oak"], "brand": ["The Who", "", ""], "bullets": ["", "HX-720B", "in oak"]}
    index = LexicalIndex.build_fields(fields, LexicalSettings())
    assert [row[0] for row in index.search(["the who", "hx720b"], 1)[1].tolist()] == [0, 1]
    without = LexicalSettings(fields=FieldWeights(bullets=0))
    assert LexicalIndex.build_fields(fields, without).search(["hx720b"], 1)[1].tolist() == [[-1]]


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    fields = {"title": ["Red lamp", "oak desk", ""], "bullets": ["a lamp of oak", "", "café"]}
    index = LexicalIndex.build_fields(fields, LexicalSettings())
    index.save(tmp_path)
    queries = ["lamp", "oak lamp", "cafe"]
    for one, other in zip(index.search(queries, 3), LexicalIndex.load(tmp_path).search(queries, 3), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_field_without_weight_is_named() -> None:
    nothing = LexicalSettings(fields=FieldWeights(**dict.fromkeys(FieldWeights.model_fields, 0)))
    with pytest.raises(RaylevanceError, match="no field of title has a weight above 0"):
        LexicalIndex.build_fields({"title": ["lamp"]}, nothing)
