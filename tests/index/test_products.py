"""Tests of the catalogue's index: modes, filters, grades and files; and the figures of BM25 on real data."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from raylevance.data.schema import PRODUCTS
from raylevance.errors import RaylevanceError, UsageError
from raylevance.index.filters import Filters
from raylevance.index.fusion import FusionSettings, fuse_graded, fuse_weighted
from raylevance.index.grades import GradeBands, fit_grade_bands
from raylevance.index.hybrid_search import search_hybrid
from raylevance.index.lexical import LexicalIndex
from raylevance.index.products import ProductIndex, ProductIndexSettings
from raylevance.index.ranking import MODES
from raylevance.index.vectors import Vectors

ROWS, DIMENSION, K = 400, 16, 8
BRANDS = ["Alder", "Birch", None, "Cedar"]
PATHS = [["Home", "Kitchen", "Kettles"], ["Home", "Kitchen"], ["Home", "Bath"], None, ["Garden"]]
QUERIES = ["steel kettle", "birch lamp 17", "nothing of this"]
BANDS = GradeBands(moderately=0.1, relevant=0.3)


def unit(rng: np.random.Generator, rows: int) -> Vectors:
    vectors = rng.standard_normal((rows, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def products() -> pa.Table:
    kinds = ["steel kettle", "lamp", "glass kettle", "towel"]
    rows = [
        {
            "product_id": f"p{row}",
            "title": f"{kinds[row % 4]} {row}",
            "brand": BRANDS[row % 4],
            "category": PATHS[row % 5],
            "locale": "us" if row % 3 else "es",
        }
        for row in range(ROWS)
    ]
    return pa.Table.from_pylist(rows, PRODUCTS)


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return unit(np.random.default_rng(0), ROWS)


@pytest.fixture(scope="module")
def query_vectors() -> Vectors:
    return unit(np.random.default_rng(1), len(QUERIES))


@pytest.fixture(scope="module")
def index(products: pa.Table, vectors: Vectors) -> ProductIndex:
    return ProductIndex.build(products, vectors, ProductIndexSettings(), BANDS)


def test_a_dense_search_ranks_by_cosine(index: ProductIndex, vectors: Vectors, query_vectors: Vectors) -> None:
    cosines = query_vectors @ vectors.T
    for hits, expected in zip(index.search(QUERIES, query_vectors, K, "dense"), cosines, strict=True):
        assert [hit.row for hit in hits] == np.argsort(-expected)[:K].tolist()
        assert [hit.score for hit in hits] == [hit.dense_score for hit in hits]
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(expected)[::-1][:K], atol=1e-6)
        assert [hit.product_id for hit in hits] == [f"p{hit.row}" for hit in hits]
        assert {hit.lexical_score for hit in hits} == {None}


def test_a_lexical_search_ranks_by_bm25(index: ProductIndex, vectors: Vectors, query_vectors: Vectors) -> None:
    scores, rows = index.lexical.search(QUERIES, K)
    found = index.search(QUERIES, query_vectors, K, "lexical")
    assert [[hit.row for hit in hits] for hits in found] == [row[row >= 0].tolist() for row in rows]
    assert [hit.lexical_score for hit in found[0]] == scores[0].tolist()
    cosines = [vectors[hit.row] @ query_vectors[0] for hit in found[0]]
    np.testing.assert_allclose([hit.dense_score for hit in found[0]], cosines, atol=1e-6)
    assert found[2] == []


def test_a_lexical_search_needs_no_vectors(index: ProductIndex, query_vectors: Vectors) -> None:
    bare = index.search(QUERIES, None, K, "lexical")
    full = index.search(QUERIES, query_vectors, K, "lexical")
    assert bare == [[replace(hit, dense_score=None, grade=None) for hit in hits] for hits in full]


def test_a_hybrid_search_fuses_both(index: ProductIndex, query_vectors: Vectors) -> None:
    dense, lexical = index.vectors.search(query_vectors, 100), index.lexical.search(QUERIES, 100)
    _, rows = fuse_weighted([dense, lexical], [0.5, 0.5], K)
    found = index.search(QUERIES, query_vectors, K, fusion=FusionSettings(method="weighted"))
    assert [[hit.row for hit in hits] for hits in found] == rows.tolist()
    _, rows = search_hybrid(
        index.vectors, index.lexical, QUERIES, query_vectors, K, FusionSettings(), products=index.products
    ).fused
    assert [[hit.row for hit in hits] for hits in index.search(QUERIES, query_vectors, K)] == rows.tolist()
    only_words = index.search(QUERIES, query_vectors, K, fusion=FusionSettings(method="weighted", dense_weight=0))
    assert [hit.row for hit in only_words[0]] == [hit.row for hit in index.search(QUERIES, None, K, "lexical")[0]]


def test_an_index_stores_its_fusion_settings(
    products: pa.Table, vectors: Vectors, query_vectors: Vectors, tmp_path: Path
) -> None:
    settings = ProductIndexSettings(fusion=FusionSettings(method="graded", dense_weight=0.7))
    built = ProductIndex.build(products, vectors, settings, BANDS)
    built.save(tmp_path)
    found = ProductIndex.load(tmp_path).search(QUERIES, query_vectors, K)
    dense, lexical = built.vectors.search(query_vectors, 100), built.lexical.search(QUERIES, 100)
    _, rows = fuse_graded(dense, lexical, (0.7, 0.3), BANDS, K)
    assert [[hit.row for hit in hits] for hits in found] == [row[row >= 0].tolist() for row in rows]
    bare = ProductIndex.build(products, vectors, settings)
    with pytest.raises(UsageError, match="graded fusion needs grade bands"):
        bare.search(QUERIES, query_vectors, K)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"k": 0}, "k=0: ask for 1 product or more"),
        ({"k": K, "minimum_grade": 3}, "minimum_grade=3: grades are 0, 1 and 2"),
        ({"k": K, "mode": "words"}, "unknown mode 'words'"),
    ],
)
def test_a_wrong_search_is_refused(
    index: ProductIndex, query_vectors: Vectors, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        index.search(QUERIES, query_vectors, **asked)


def test_a_weight_that_is_no_number_is_refused(products: pa.Table, vectors: Vectors, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="finite"):
        FusionSettings(category_weight=float("inf"))
    ProductIndex.build(products, vectors, ProductIndexSettings()).save(tmp_path)
    header = tmp_path / "index.json"
    header.write_text(header.read_text().replace('"category_weight": 2.0', '"category_weight": null'))
    with pytest.raises(RaylevanceError, match=r"index\.json: fusion\.category_weight: Input should be a valid number"):
        ProductIndex.load(tmp_path)


def test_an_index_from_before_rescoring_ranks_as_it_did(
    products: pa.Table, vectors: Vectors, query_vectors: Vectors, tmp_path: Path
) -> None:
    built = ProductIndex.build(products, vectors, ProductIndexSettings())
    built.save(tmp_path)
    unchanged = FusionSettings(excluded_weight=0, category_weight=0)
    asked = ["lamp without steel", "lamp no 17", "towel not glass"]
    header = json.loads((tmp_path / "index.json").read_text())
    assert ProductIndex.load(tmp_path).search(asked, query_vectors, K) == built.search(asked, query_vectors, K)
    del header["fusion"]["excluded_weight"], header["fusion"]["category_weight"]
    (tmp_path / "index.json").write_text(json.dumps(header))
    found = ProductIndex.load(tmp_path).search(asked, query_vectors, K)
    assert found == built.search(asked, query_vectors, K, fusion=unchanged)
    assert found != built.search(asked, query_vectors, K)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "filters",
    [
        Filters(brand=["Alder", "Cedar"]),
        Filters(category=["Home", "Kitchen"]),
        Filters(category=["Home > Kitchen"]),
        Filters(category=["Home", "Kitchen", "Kettles"], locale="us"),
        Filters(brand=["Birch"], category=["Home"], locale="es"),
    ],
)
def test_filters_equal_brute_force(
    index: ProductIndex, products: pa.Table, query_vectors: Vectors, mode: str, filters: Filters
) -> None:
    def matches(product: dict[str, object]) -> bool:
        path, levels = product["category"] or [], " > ".join(filters.category or []).split(" > ")
        return (
            (filters.brand is None or product["brand"] in filters.brand)
            and (filters.locale is None or product["locale"] == filters.locale)
            and (not filters.category or path[: len(levels)] == levels)
        )

    allowed = {row for row, product in enumerate(products.to_pylist()) if matches(product)}
    everything = index.search(QUERIES, query_vectors, ROWS, mode)
    found = index.search(QUERIES, query_vectors, ROWS, mode, filters)
    for hits, unfiltered in zip(found, everything, strict=True):
        assert {hit.row for hit in hits} == {hit.row for hit in unfiltered} & allowed
        assert allowed or not hits
    if mode != "hybrid":
        expected = [[hit.row for hit in hits if hit.row in allowed] for hits in everything]
        assert [[hit.row for hit in hits] for hits in found] == expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("filters", [Filters(brand=["Nobody"]), Filters(locale=""), Filters(category=["Hom"])])
def test_a_value_that_no_product_has(index: ProductIndex, query_vectors: Vectors, mode: str, filters: Filters) -> None:
    assert index.search(QUERIES, query_vectors, K, mode, filters) == [[], [], []]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("filters", [None, Filters(), Filters(brand=[]), Filters(category=[], brand=[])])
def test_an_empty_filter_places_no_condition(
    index: ProductIndex, query_vectors: Vectors, mode: str, filters: Filters | None
) -> None:
    assert index.search(QUERIES, query_vectors, K, mode, filters) == index.search(QUERIES, query_vectors, K, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("minimum", "floor"), [(1, 0.1), (2, 0.3)])
def test_a_minimum_grade_drops_lower_bands(
    index: ProductIndex, query_vectors: Vectors, mode: str, minimum: int, floor: float
) -> None:
    everything = index.search(QUERIES, query_vectors, ROWS, mode)
    found = index.search(QUERIES, query_vectors, ROWS, mode, minimum_grade=minimum)
    expected = [[hit for hit in hits if hit.dense_score >= floor] for hits in everything]
    assert found == expected
    assert {hit.grade for hits in found for hit in hits} <= {minimum, 2}


def test_invalid_requests_are_refused(index: ProductIndex, products: pa.Table, vectors: Vectors) -> None:
    with pytest.raises(UsageError, match="unknown mode 'densed'; did you mean 'dense'"):
        index.search(QUERIES, None, K, "densed")
    with pytest.raises(UsageError, match="a hybrid search needs query vectors"):
        index.search(QUERIES, None, K)
    with pytest.raises(UsageError, match="minimum_grade needs query vectors"):
        index.search(QUERIES, None, K, "lexical", minimum_grade=1)
    bare = ProductIndex.build(products, vectors, ProductIndexSettings())
    assert bare.search(QUERIES, vectors[:3], K)[0][0].grade is None
    with pytest.raises(UsageError, match=r"minimum_grade needs grade bands.* no usable training judgements of two"):
        bare.search(QUERIES, vectors[:3], K, minimum_grade=1)
    with pytest.raises(RaylevanceError, match="got 400 products, 399 vectors"):
        ProductIndex.build(products, vectors[1:], ProductIndexSettings())


def test_saved_and_loaded_is_the_same(index: ProductIndex, query_vectors: Vectors, tmp_path: Path) -> None:
    index.save(tmp_path / "index")
    loaded = ProductIndex.load(tmp_path / "index")
    assert loaded.products.equals(index.products)
    assert loaded.describe() == index.describe()
    for mode in MODES:
        request = (QUERIES, query_vectors, K, mode, Filters(locale="us"), 1)
        assert loaded.search(*request) == index.search(*request)


def test_damaged_folders(index: ProductIndex, tmp_path: Path) -> None:
    with pytest.raises(RaylevanceError, match="not an index"):
        ProductIndex.load(tmp_path / "nowhere")
    index.save(tmp_path)
    pq.write_table(index.products.slice(0, 9), tmp_path / "products.parquet")
    with pytest.raises(RaylevanceError, match="damaged index; build it again: expected 400 products, got 9 products"):
        ProductIndex.load(tmp_path)
    (tmp_path / "products.parquet").write_bytes(b"PAR1")
    with pytest.raises(RaylevanceError, match="damaged index"):
        ProductIndex.load(tmp_path)


def macro_f1(bands: GradeBands, scores: np.ndarray, grades: np.ndarray) -> float:
    predicted = [2 if score >= bands.relevant else 1 if score >= bands.moderately else 0 for score in scores]
    figures = []
    for grade in sorted(set(grades.tolist())):
        true = sum(p == grade == g for p, g in zip(predicted, grades, strict=True))
        figures.append(2 * true / (predicted.count(grade) + (grades == grade).sum()))
    return float(np.mean(figures))


@pytest.mark.parametrize("present", [(0, 1, 2), (0, 2), (0, 1)])
def test_bands_have_the_highest_macro_f1(present: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    grades = rng.choice(present, 60)
    scores = np.round(0.3 * grades + 0.2 * rng.standard_normal(60), 2)
    fitted = macro_f1(fit_grade_bands(scores, grades), scores, grades)
    distinct = np.append(np.unique(scores), 2)
    best = max(
        macro_f1(GradeBands(moderately=low, relevant=high), scores, grades)
        for low in distinct
        for high in distinct[distinct >= low]
        # A grade that is not present has no band.
        if (0 in present or low == distinct[0]) and (1 in present or low == high) and (2 in present or high == 2)
    )
    assert fitted == pytest.approx(best)


def test_a_grade_that_no_pair_has_is_given_to_none() -> None:
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    bands = fit_grade_bands(scores, np.array([0, 0, 1, 1]))
    assert bands.grade(np.array([*scores, 1.0])).tolist() == [0, 0, 1, 1, 1]
    # Here a band of grade 2 for the last pair, which has grade 0, would give a higher macro F1 of grades 0 and 1.
    mixed = fit_grade_bands(np.array([0.1, 0.5, 0.6, 0.9]), np.array([0, 1, 1, 0]))
    assert mixed.grade(np.array([0.1, 0.5, 0.6, 0.9, 1.0])).max() == 1
    without_one = fit_grade_bands(np.array([0.1, 0.5, 0.6, 0.9]), np.array([0, 2, 0, 2]))
    assert 1 not in without_one.grade(np.linspace(0.1, 0.9, 9))


def test_bands_of_separate_grades_are_found() -> None:
    scores = np.array([0.1, 0.2, 0.5, 0.6, 0.8, 0.9])
    grades = np.array([0, 0, 1, 1, 2, 2])
    bands = fit_grade_bands(scores, grades)
    assert bands.grade(scores).tolist() == grades.tolist()
    with pytest.raises(RaylevanceError, match=r"two grades or more, got \[1\]"):
        fit_grade_bands(scores, np.ones(6, int))


def test_bm25_on_the_public_sample(public_data: Path) -> None:
    """The project's baseline: title, brand and colour; gains 3/2/1/0; recall over E and S."""
    products = pq.read_table(public_data / "esci" / "shopping_queries_dataset_products.parquet")
    fields = [pc.cast(products[f"product_{name}"], pa.string()) for name in ("title", "brand", "color")]
    texts = pc.binary_join_element_wise(*fields, " ", null_handling="skip").to_pylist()
    judged = pq.read_table(public_data / "esci" / "shopping_queries_dataset_examples.parquet").to_pylist()
    test = [row for row in judged if row["split"] == "test"]
    queries = {str(row["query_id"]): row["query"] for row in test}
    scores, rows = LexicalIndex.build(texts).search(list(queries.values()), 100)
    ids = products["product_id"].to_pylist()
    run = {
        query: {ids[row]: float(score) for row, score in zip(found, points, strict=True) if row >= 0}
        for query, found, points in zip(queries, rows, scores, strict=True)
    }
    gains: dict[str, dict[str, int]] = {query: {} for query in queries}
    for row in test:
        gains[str(row["query_id"])][row["product_id"]] = {"E": 3, "S": 2, "C": 1, "I": 0}[row["esci_label"]]
    figures = ir_measures.calc_aggregate([ir_measures.nDCG @ 10, ir_measures.R(rel=2) @ 100], gains, run)
    assert len(queries) == 40
    assert figures[ir_measures.nDCG @ 10] == pytest.approx(0.730, abs=0.005)
    assert figures[ir_measures.R(rel=2) @ 100] == pytest.approx(0.818, abs=0.005)


def test_the_band_of_a_rare_grade_is_found_among_many_scores() -> None:
    """There are more distinct scores than are compared at once, and fewer pairs of a grade than a coarse step spans."""
    random = np.random.default_rng(5)
    spans = {0: (0.0, 0.25, 18_000), 1: (0.4, 0.6, 1_960), 2: (0.75, 1.0, 40)}
    scores = np.concatenate([random.uniform(low, high, count) for low, high, count in spans.values()])
    grades = np.repeat(list(spans), [count for _, _, count in spans.values()])
    assert (fit_grade_bands(scores, grades).grade(scores) == grades).all()
