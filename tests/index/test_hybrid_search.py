"""Tests of the hybrid search: standardised fusion and feedback as loops in float64, filters, and few rows."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.index.fusion import FusionSettings, fuse, fuse_standardised
from raylevance.index.hybrid_search import move_queries, search_hybrid
from raylevance.index.lexical import LexicalIndex
from raylevance.index.vectors import IndexSettings, VectorIndex, Vectors

ROWS, DIMENSION = 60, 8
WORDS = ["lamp", "kettle", "red", "oak", "zinc", "moss"]
QUERIES = ["red lamp", "oak", "nothing"]
PATHS = pa.list_(pa.string())


def named(titles: Sequence[str | None], categories: Sequence[list[str] | None] | None = None) -> pa.Table:
    paths = pa.array(categories or [None] * len(titles), PATHS)
    return pa.table({"title": pa.array(titles, pa.string()), "category": paths})


search = partial(search_hybrid, products=named(["lamp"] * ROWS))


def unit(rng: np.random.Generator, rows: int) -> Vectors:
    vectors = rng.standard_normal((rows, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return unit(np.random.default_rng(0), ROWS)


@pytest.fixture(scope="module")
def parts(vectors: Vectors) -> tuple[VectorIndex, LexicalIndex]:
    rng = np.random.default_rng(1)
    lexical = LexicalIndex.build([" ".join(rng.choice(WORDS, 3)) for _ in range(ROWS)])
    return VectorIndex.build(vectors, IndexSettings(kind="exact")), lexical


def by_loop(rankings: list[dict[int, float]], full: list[bool], weights: list[float], depth: int) -> dict[int, float]:
    """Sum the z-scores of each row; a row that a ranking lacks counts as its last one, or 0 where it is not full."""
    rows = set().union(*rankings)
    most = min(depth, max(map(len, rankings)))
    total = dict.fromkeys(rows, 0.0)
    for ranking, is_full, weight in zip(rankings, full, weights, strict=True):
        last = min(ranking.values()) if is_full else 0.0
        best = sorted([*ranking.values(), *[0.0] * most], reverse=True)[:most]
        mean = sum(best) / most
        deviation = math.sqrt(sum((score - mean) ** 2 for score in best) / most)
        for row in rows if deviation > 1e-9 else ():
            total[row] += weight * (ranking.get(row, last) - mean) / deviation
    return total


@settings(max_examples=80, deadline=None)
@given(
    dense=st.lists(st.integers(1, 40), min_size=6, max_size=6, unique=True),
    lexical=st.lists(st.integers(1, 40), max_size=6, unique=True),
    seed=st.integers(0, 1000),
    depth=st.integers(1, 8),
    weight=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_standardised_ranks_as_z_scores(
    dense: list[int], lexical: list[int], seed: int, depth: int, weight: float
) -> None:
    rng = np.random.default_rng(seed)
    width, sides = 6, []
    for scores in (dense, lexical):
        scores = sorted(scores, reverse=True)
        rows = rng.permutation(12)[: len(scores)]
        padded = np.full((1, width), -np.inf, np.float32), np.full((1, width), -1, np.int64)
        padded[0][0, : len(scores)], padded[1][0, : len(scores)] = scores, rows
        sides.append((padded, dict(zip(rows.tolist(), map(float, scores), strict=True))))
    [scores], [rows] = fuse_standardised([side[0] for side in sides], [weight, 1 - weight], 12, depth)
    given_rankings = [side[1] for side in sides]
    expected = by_loop(given_rankings, [len(each) == width for each in given_rankings], [weight, 1 - weight], depth)
    found = dict(zip(rows[rows >= 0].tolist(), scores[rows >= 0].tolist(), strict=True))
    assert found.keys() == expected.keys()
    # The mean is the same for all rows of a query: scores differ from z-scores by a constant.
    differences = [found[row] - expected[row] for row in expected]
    assert differences == pytest.approx([differences[0]] * len(differences), abs=1e-4)
    assert min(found.values()) >= 0


def test_the_scale_of_a_side_does_not_matter(parts: tuple[VectorIndex, LexicalIndex], vectors: Vectors) -> None:
    dense, lexical = parts[0].search(vectors[:2], 20), parts[1].search(QUERIES[:2], 20)
    one = fuse(dense, lexical, 20, FusionSettings())
    scaled = fuse((dense[0] * 7, dense[1]), (lexical[0] / 3, lexical[1]), 20, FusionSettings())
    np.testing.assert_array_equal(one[1], scaled[1])
    np.testing.assert_allclose(one[0], scaled[0], atol=1e-4)


def test_a_side_that_finds_nothing_leaves_the_other_as_it_is(
    parts: tuple[VectorIndex, LexicalIndex], vectors: Vectors
) -> None:
    dense, lexical = parts[0].search(vectors[:1], 20), parts[1].search(["nothing"], 20)
    assert fuse(dense, lexical, 20, FusionSettings())[1].tolist() == dense[1].tolist()
    equal = np.full((1, 3), 0.5, np.float32), np.array([[4, 2, 9]])
    scores, rows = fuse_standardised([equal], [1.0], 3)
    assert (scores[0].tolist(), rows[0].tolist()) == ([0, 0, 0], [2, 4, 9])


def test_the_only_product_with_the_word_comes_first() -> None:
    vectors = unit(np.random.default_rng(3), ROWS)
    texts = ["oak table"] * (ROWS - 1) + ["oak table XR-40"]
    index = VectorIndex.build(vectors, IndexSettings(kind="exact")), LexicalIndex.build(texts)
    found = search(*index, ["xr40"], vectors[:1], 5, FusionSettings(feedback=0))
    assert found.fused[1][0, 0] == ROWS - 1


def test_feedback_is_rocchio_by_a_loop(parts: tuple[VectorIndex, LexicalIndex], vectors: Vectors) -> None:
    queries = unit(np.random.default_rng(2), len(QUERIES))
    chosen = FusionSettings(feedback=4, feedback_weight=0.7, depth=20)
    found = search(*parts, QUERIES, queries, 20, chosen).fused
    for place, query in enumerate(QUERIES):
        lexical = parts[1].search([query], 20)
        [first] = fuse(parts[0].search(queries[place : place + 1], 20), lexical, 4, chosen)[1]
        moved = queries[place].astype(np.float64)
        for row in first:
            moved = moved + 0.7 * vectors[row].astype(np.float64) / 4
        moved /= math.sqrt(sum(value * value for value in moved))
        expected = fuse(parts[0].search(moved[None].astype(np.float32), 20), lexical, 20, chosen)
        np.testing.assert_array_equal(found[1][place], expected[1][0])
        np.testing.assert_allclose(found[0][place], expected[0][0], atol=1e-4)


def test_without_feedback_there_is_one_search(parts: tuple[VectorIndex, LexicalIndex], vectors: Vectors) -> None:
    dense, lexical = parts[0].search(vectors[:3], 20), parts[1].search(QUERIES, 20)
    for chosen in (FusionSettings(feedback=0, depth=20), FusionSettings(method="weighted", depth=20)):
        np.testing.assert_array_equal(
            search(*parts, QUERIES, vectors[:3], 20, chosen).fused[1], fuse(dense, lexical, 20, chosen)[1]
        )


def test_queries_in_a_batch_are_answered_as_alone(parts: tuple[VectorIndex, LexicalIndex], vectors: Vectors) -> None:
    together = search(*parts, QUERIES, vectors[:3], 10, FusionSettings()).fused
    for place, query in enumerate(QUERIES):
        alone = search(*parts, [query], vectors[place : place + 1], 10, FusionSettings()).fused
        np.testing.assert_array_equal(alone[1][0], together[1][place])


def test_a_filter_holds_in_the_second_search_too(parts: tuple[VectorIndex, LexicalIndex], vectors: Vectors) -> None:
    allowed = np.zeros(ROWS, np.bool_)
    allowed[[3, 8, 40]] = True
    rows = search(*parts, QUERIES, vectors[:3], 10, FusionSettings(), allowed=allowed).fused[1]
    assert {row for row in rows.ravel().tolist() if row >= 0} == {3, 8, 40}
    nothing = search(*parts, QUERIES, vectors[:3], 10, FusionSettings(), allowed=np.zeros(ROWS, np.bool_))
    assert (nothing.fused[1] == -1).all()


def test_a_query_without_feedback_rows_keeps_its_vector(
    parts: tuple[VectorIndex, LexicalIndex], vectors: Vectors
) -> None:
    moved = move_queries(vectors[:2], parts[0], np.array([[-1, -1], [7, -1]]), 1.0)
    np.testing.assert_allclose(moved[0], vectors[0], atol=1e-6)
    expected = (vectors[1] + vectors[7]) / np.linalg.norm(vectors[1] + vectors[7])
    np.testing.assert_allclose(moved[1], expected, atol=1e-6)


def test_a_product_with_an_excluded_word_is_below_its_twin(vectors: Vectors) -> None:
    """Nothing but titles tells products apart: without the weight, the lower row is first."""
    products = named(["Lamp with cord", "Lamp", "Cordless lamp", None] * 5)
    same = np.repeat(vectors[:1], 20, axis=0)
    index = VectorIndex.build(same, IndexSettings(kind="exact")), LexicalIndex.build(["lamp"] * 20)

    def first(query: str, **changes: object) -> list[int]:
        chosen = FusionSettings.model_validate(changes)
        rows = search_hybrid(*index, [query], vectors[:1], 20, chosen, products=products).fused[1][0]
        return [int(row) % 4 for row in rows[rows >= 0]]

    assert first("lamp without cord") == [2] * 5 + [1, 3] * 5 + [0] * 5
    for unread in ({"excluded_weight": 0}, {"method": "weighted"}, {"method": "reciprocal_rank"}):
        assert first("lamp without cord", **unread) == [0, 1, 2, 3] * 5
    assert first("lamp with cord") == [0, 1, 2, 3] * 5


def test_an_excluded_product_gives_no_feedback(vectors: Vectors) -> None:
    """The product that is first by far would draw the query to itself, were it not excluded."""
    query = np.zeros((1, DIMENSION), np.float32)
    query[0, 0] = 1
    lamps = LexicalIndex.build(["lamp"] * DIMENSION)
    products = named(["lamp with cord", *["lamp"] * (DIMENSION - 1)])
    index = VectorIndex.build(np.eye(DIMENSION, dtype=np.float32), IndexSettings(kind="exact")), lamps
    chosen = FusionSettings(feedback=1, excluded_weight=50)
    scores, rows = search_hybrid(*index, ["lamp without cord"], query, DIMENSION, chosen, products=products).fused
    assert rows[0, 0] == 1 and rows[0, -1] == 0
    assert scores[0, 0] > scores[0, 1] + 0.1, "the query moved towards the product that leads without the first"


def test_a_product_of_the_category_of_the_best_comes_before_its_twin(vectors: Vectors) -> None:
    """Of twins that nothing but a category tells apart, those of the category that most of the best have are first."""
    shoes, books = ["Shoes", "Boots"], ["Books"]
    products = named(["boot"] * 20, [books, shoes, shoes, books, None] + [shoes, books] * 7 + [shoes])
    same = np.repeat(vectors[:1], 20, axis=0)
    index = VectorIndex.build(same, IndexSettings(kind="exact")), LexicalIndex.build(["boot"] * 20)

    def ranked(**changes: object) -> list[list[str] | None]:
        chosen = FusionSettings.model_validate(changes)
        rows = search_hybrid(*index, ["boot"], vectors[:1], 20, chosen, products=products).fused[1][0]
        return [products["category"][int(row)].as_py() for row in rows]

    assert ranked() == [shoes] * 10 + [None] + [books] * 9
    for unread in ({"category_weight": 0}, {"method": "weighted"}, {"method": "reciprocal_rank"}):
        assert ranked(**unread) == products["category"].to_pylist()
