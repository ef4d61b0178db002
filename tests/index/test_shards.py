"""An index in shards finds what the whole index finds, with the same scores, in all modes and with filters."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.data.schema import PRODUCTS
from raylevance.errors import RaylevanceError
from raylevance.index.filters import Filters
from raylevance.index.fusion import FusionSettings
from raylevance.index.grades import GradeBands
from raylevance.index.lexical import LexicalIndex
from raylevance.index.products import Hit, ProductIndex, ProductIndexSettings
from raylevance.index.ranking import MODES, Mode, Rows, Scores
from raylevance.index.shards import Shards, merge_shards, shard_bounds
from raylevance.index.vectors import Vectors

ROWS, DIMENSION = 301, 16
QUERIES = ["steel kettle", "lámp HX-720B", "白い ランプ", "the of", "nothing here", "kettle 17"]
BANDS = GradeBands(moderately=0.1, relevant=0.3)


def unit(rng: np.random.Generator, rows: int) -> Vectors:
    vectors = rng.standard_normal((rows, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def products() -> pa.Table:
    """Products in no order, some with the same words, words of their own, accents, or none at all."""
    rng = np.random.default_rng(2)
    kinds = ["steel kettle", "Lámp HX-720B", "lamp", "白いランプ", "glass kettle the", "of", "towel towel"]
    rows = [
        {
            "product_id": f"p{number}",
            "title": f"{kinds[rng.integers(len(kinds))]} {number % 40 if number % 3 else ''}",
            "brand": [None, "Alder", "Birch"][rng.integers(3)],
            "category": [["Home", "Kitchen"], ["Home"], None][rng.integers(3)],
            "locale": ["us", "es"][rng.integers(2)],
        }
        for number in rng.permutation(ROWS)
    ]
    return pa.Table.from_pylist(rows, PRODUCTS)


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    """Vectors of which a third are there twice, in rows of different shards."""
    vectors = unit(np.random.default_rng(0), ROWS)
    vectors[200:300] = vectors[:100]
    return vectors


def build(products: pa.Table, vectors: Vectors, shards: int, kind: str = "exact") -> ProductIndex:
    settings = ProductIndexSettings.model_validate({"shards": shards, "kind": kind, "fusion": {"feedback": 3}})
    return ProductIndex.build(products, vectors, settings, BANDS)


def search(index: ProductIndex, mode: Mode, k: int, filters: Filters | None = None, grade: int = 0) -> list[list[Hit]]:
    vectors = unit(np.random.default_rng(1), len(QUERIES))
    return index.search(QUERIES, vectors, k, mode, filters, grade, FusionSettings(depth=20))


@pytest.mark.parametrize("shards", [2, 3, 7, ROWS])
@pytest.mark.parametrize("mode", MODES)
def test_shards_find_what_the_whole_finds(products: pa.Table, vectors: Vectors, mode: Mode, shards: int) -> None:
    whole, parts = build(products, vectors, 1), build(products, vectors, shards)
    filters = [None, Filters(locale="es"), Filters(brand=["Birch"], category=["Home", "Kitchen"]), Filters(brand=["x"])]
    for k, condition, grade in [(5, f, g) for f in filters for g in (0, 1)] + [(ROWS + 9, None, 0)]:
        expected, found = search(whole, mode, k, condition, grade), search(parts, mode, k, condition, grade)
        for one, other in zip(expected, found, strict=True):
            assert [hit.row for hit in one] == [hit.row for hit in other]
            assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-5)
            assert [hit.lexical_score for hit in one] == [hit.lexical_score for hit in other]
            assert [hit.grade for hit in one] == [hit.grade for hit in other]
    assert any(search(whole, mode, 5))


def test_saved_shards_are_loaded_and_can_take_other_words(products: pa.Table, vectors: Vectors, tmp_path: Path) -> None:
    index = build(products, vectors, 3)
    index.save(tmp_path)
    assert sorted(folder.name for folder in (tmp_path / "shards").iterdir()) == ["0", "1", "2"]
    assert json.loads((tmp_path / "index.json").read_text())["shards"] == [100, 100, 101]
    loaded = ProductIndex.load(tmp_path)
    assert [part["rows"] for part in loaded.describe()["vectors"]] == [100, 100, 101]
    for mode in MODES:
        assert search(loaded, mode, 9) == search(index, mode, 9)
    other = LexicalIndex.build([f"word{row}" for row in range(ROWS)])
    renamed = loaded.with_lexical(other, FusionSettings())
    assert [hit.row for hit in renamed.search(["word250"], None, 2, "lexical")[0]] == [250]
    assert search(renamed, "dense", 9) == search(index, "dense", 9)


class CountedShards:
    """Shards that count the vectors of each call."""

    def __init__(self, shards: Shards) -> None:
        self._shards, self.fetched = shards, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shards, name)

    def vectors(self, rows: Sequence[Rows]) -> list[Vectors]:
        self.fetched.append(sum(map(len, rows)))
        return self._shards.vectors(rows)


@pytest.mark.parametrize(("grade", "most"), [(0, 3), (1, 40)])
def test_vectors_are_fetched_for_all_queries_at_once(
    products: pa.Table, vectors: Vectors, grade: int, most: int
) -> None:
    """Shards may be in other processes. Where no grade filters them, only hits that are returned need their cosine."""
    index = build(products, vectors, 3)
    counted = CountedShards(index.shards)
    found = search(ProductIndex(index.products, counted, index.bands, index.fusion), "hybrid", 3, grade=grade)
    assert found == search(index, "hybrid", 3, grade=grade)
    feedback, hits = counted.fetched
    assert 0 < feedback <= len(QUERIES) * FusionSettings().feedback
    assert 0 < hits <= len(QUERIES) * most


def test_approximate_shards_keep_their_recall(products: pa.Table, vectors: Vectors) -> None:
    exact, hnsw = build(products, vectors, 1), build(products, vectors, 3, "hnsw")
    found = [{hit.row for hit in hits} for hits in search(hnsw, "dense", 10)]
    expected = [{hit.row for hit in hits} for hits in search(exact, "dense", 10)]
    overlap = [len(one & other) / len(other) for one, other in zip(found, expected, strict=True)]
    assert np.mean(overlap) >= 0.9


def test_faults_of_shards(products: pa.Table, vectors: Vectors, tmp_path: Path) -> None:
    with pytest.raises(RaylevanceError, match="shards=302 is more than the 301 products; set fewer"):
        build(products, vectors, 302)
    with pytest.raises(RaylevanceError, match="ivfpq needs at least 256 rows"):
        build(products, vectors, 2, "ivfpq")
    build(products, vectors, 3).save(tmp_path)
    (tmp_path / "shards" / "1").rename(tmp_path / "shards" / "3")
    with pytest.raises(RaylevanceError, match="shards/1/vectors: not an index of vectors"):
        ProductIndex.load(tmp_path)
    (tmp_path / "shards" / "3").rename(tmp_path / "shards" / "1")
    header = tmp_path / "index.json"
    header.write_text(header.read_text().replace("101", "102"))
    with pytest.raises(RaylevanceError, match=r"301 products, and \[100, 100, 101\] in the shards"):
        ProductIndex.load(tmp_path)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(1, 6), st.integers(1, 12))
def test_merged_rankings_are_that_of_all_rows(points: list[int], shards: int, k: int) -> None:
    """Scores that are often equal: the lower row comes first, as in one ranking of all rows."""
    bounds = shard_bounds(len(points), min(shards, len(points)))
    starts = np.array([first for first, _ in bounds] + [len(points)])

    def ranking(first: int, stop: int) -> tuple[Scores, Rows]:
        best = sorted(range(first, stop), key=lambda row: (-points[row], row))[:k]
        missing = [-1] * (k - len(best))
        scores = [float(points[row]) for row in best] + [-np.inf] * len(missing)
        return np.array([scores], np.float32), np.array([[row - first for row in best] + missing])

    scores, rows = merge_shards([ranking(*bound) for bound in bounds], starts, k)
    expected_scores, expected_rows = ranking(0, len(points))
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)
