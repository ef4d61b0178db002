"""Tests of `VectorIndex`: every kind against brute force, filters, files, and errors."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from raylevance.errors import RaylevanceError
from raylevance.index import vectors as subject
from raylevance.index.recall import mean_overlap
from raylevance.index.vectors import IndexSettings, VectorIndex, Vectors

KINDS = ["exact", "hnsw", "ivfpq"]
ROWS, QUERIES, DIMENSION, K = 3000, 40, 32, 10


def unit(vectors: np.ndarray) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clustered(rows: int, seed: int) -> Vectors:
    """Return vectors around 50 centres, as those of a catalogue are."""
    centres = np.random.default_rng(0).standard_normal((50, DIMENSION))
    rng = np.random.default_rng(seed)
    return unit(centres[rng.integers(0, 50, rows)] + 0.7 * rng.standard_normal((rows, DIMENSION)))


@pytest.fixture(scope="module")
def items() -> Vectors:
    return clustered(ROWS, seed=1)


@pytest.fixture(scope="module")
def queries() -> Vectors:
    return clustered(QUERIES, seed=2)


@pytest.fixture(scope="module", params=KINDS)
def index(request: pytest.FixtureRequest, items: Vectors) -> VectorIndex:
    return VectorIndex.build(items, IndexSettings(kind=request.param, threads=1))


def brute_force(items: Vectors, queries: Vectors, allowed: np.ndarray) -> np.ndarray:
    scores = queries.astype(np.float64) @ items.T.astype(np.float64)
    scores[:, ~allowed] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :K]


def test_search_finds_what_brute_force_finds(index: VectorIndex, items: Vectors, queries: Vectors) -> None:
    truth = brute_force(items, queries, np.ones(ROWS, bool))
    scores, rows = index.search(queries, K)
    floor = 1.0 if index.describe()["kind"] == "exact" else 0.95
    assert mean_overlap(rows, truth) >= floor
    np.testing.assert_allclose(scores, np.einsum("mkd,md->mk", items[rows], queries), atol=2e-3)
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("filtered", [False, True])
def test_the_lower_rows_of_equals_at_the_end_are_found(filtered: bool) -> None:
    """Of twenty equal rows and five better ones, the best ten are the five and the five lowest of the equal rows."""
    query = np.eye(DIMENSION, dtype=np.float32)[:1]
    equal, better = unit(query + np.eye(DIMENSION)[1]), unit(2 * query + np.eye(DIMENSION)[1])
    index = VectorIndex.build(np.concatenate([equal] * 20 + [better] * 5), IndexSettings(kind="exact"))
    allowed = np.arange(25) != 1 if filtered else None
    low = [0, *range(2, 6)] if filtered else [*range(5)]
    assert index.search(query, 10, allowed)[1].tolist() == [[*range(20, 25), *low]]
    count = 24 if filtered else 25
    assert (index.search(query, 40, allowed)[1][0] >= 0).sum() == count


def test_an_approximate_index_says_how_well_it_finds(index: VectorIndex) -> None:
    description = index.describe()
    if description["kind"] == "exact":
        assert description["tuning"] is None
        return
    tuning = description["tuning"]
    assert tuning["recall"] >= tuning["recall_target"] == 0.95
    assert (tuning["depth"], tuning["queries"], tuning["warning"]) == (100, 200, None)


@pytest.mark.parametrize("share", [0.5, 0.02, 0.001, 0.0])
def test_a_filter_equals_brute_force(index: VectorIndex, items: Vectors, queries: Vectors, share: float) -> None:
    allowed = np.random.default_rng(3).random(ROWS) < share
    scores, rows = index.search(queries, K, allowed)
    count = min(K, int(allowed.sum()))
    truth = brute_force(items, queries, allowed)[:, :count]
    assert mean_overlap(rows, truth) >= 0.99 if count else True
    assert allowed[rows[:, :count]].all()
    assert (rows[:, count:] == -1).all() and np.isneginf(scores[:, count:]).all()


def test_a_wide_filter_of_an_approximate_index(
    index: VectorIndex, items: Vectors, queries: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter that leaves too many rows for exact search is searched approximately, with more effort."""
    monkeypatch.setattr(subject, "EXACT_ROWS", 100)
    allowed = np.random.default_rng(4).random(ROWS) < 0.3
    _, rows = index.search(queries, K, allowed)
    assert allowed[rows].all()
    assert mean_overlap(rows, brute_force(items, queries, allowed)) >= 0.95


def test_a_filter_that_leaves_only_rows_far_from_the_query(
    index: VectorIndex, items: Vectors, queries: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a filter for another language. A search that starts near the query reaches these rows last."""
    monkeypatch.setattr(subject, "EXACT_ROWS", 100)
    towards = items @ queries[0]
    allowed = towards < np.quantile(towards, 0.4)
    scores, rows = index.search(queries[:1], K, allowed)
    assert allowed[rows].all() and np.isfinite(scores).all()
    assert mean_overlap(rows, brute_force(items, queries[:1], allowed)) >= 0.95


def test_k_may_exceed_the_number_of_rows(queries: Vectors) -> None:
    index = VectorIndex.build(clustered(3, seed=5), IndexSettings())
    scores, rows = index.search(queries, K)
    assert sorted(rows[0, :3].tolist()) == [0, 1, 2]
    assert (rows[:, 3:] == -1).all() and np.isneginf(scores[:, 3:]).all()


def test_equal_vectors_come_in_the_order_of_their_rows() -> None:
    same = np.repeat(clustered(1, seed=6), 5, axis=0)
    index = VectorIndex.build(same, IndexSettings())
    assert index.search(same[:1], 5)[1].tolist() == [[0, 1, 2, 3, 4]]


def test_saved_and_loaded_is_the_same(index: VectorIndex, queries: Vectors, tmp_path: Path) -> None:
    index.save(tmp_path / "vectors")
    loaded = VectorIndex.load(tmp_path / "vectors")
    assert loaded.describe() == index.describe()
    for found, expected in zip(loaded.search(queries, K), index.search(queries, K), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_stored_vectors_come_back(index: VectorIndex, items: Vectors) -> None:
    rows = np.array([7, 0, 7, ROWS - 1])
    tolerance = 1e-3 if index.describe()["kind"] == "ivfpq" else 0
    np.testing.assert_allclose(index.vectors(rows), items[rows], atol=tolerance)


def test_one_seed_and_one_thread_give_one_index(index: VectorIndex, items: Vectors, tmp_path: Path) -> None:
    again = VectorIndex.build(items, IndexSettings(kind=index.describe()["kind"], threads=1))
    index.save(tmp_path / "a")
    again.save(tmp_path / "b")
    assert (tmp_path / "a" / "vectors.faiss").read_bytes() == (tmp_path / "b" / "vectors.faiss").read_bytes()


@pytest.mark.parametrize(("rows", "kind"), [(100, "exact"), (101, "hnsw"), (300, "hnsw"), (301, "ivfpq")])
def test_size_chooses_the_kind(rows: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "EXACT_ROWS", 100)
    monkeypatch.setattr(subject, "HNSW_ROWS", 300)
    assert VectorIndex.build(clustered(rows, seed=7), IndexSettings()).describe()["kind"] == kind


def test_a_missed_recall_target_gives_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The vectors differ by less than float16 and the codes can express."""
    almost_equal = unit(np.ones((600, DIMENSION)) + 1e-4 * np.random.default_rng(8).standard_normal((600, DIMENSION)))
    tuning = VectorIndex.build(almost_equal, IndexSettings(kind="ivfpq", recall_target=1.0)).describe()["tuning"]
    assert tuning["recall"] < 1
    assert "misses the target of 1" in tuning["warning"]
    assert tuning["warning"] in caplog.text


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.empty((0, 4), np.float32), r"needs vectors of shape \[n, d\], got \(0, 4\)"),
        (np.ones((3, 4), np.float32), r"vector 0 has norm 2, expected 1 \(3 such vectors\)"),
        (np.full((3, 4), np.nan, np.float32), "vector 0 has norm nan"),
    ],
)
def test_invalid_vectors_are_refused(vectors: Vectors, message: str) -> None:
    with pytest.raises(RaylevanceError, match=message):
        VectorIndex.build(vectors, IndexSettings())


def test_too_few_rows_for_a_product_quantiser() -> None:
    with pytest.raises(RaylevanceError, match="ivfpq needs at least 256 rows to train on, got 50; use exact"):
        VectorIndex.build(clustered(50, seed=9), IndexSettings(kind="ivfpq"))


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faiss.get_num_gpus", lambda: 0)
    with pytest.raises(RaylevanceError, match="FAISS sees no GPU"):
        VectorIndex.build(clustered(50, seed=9), IndexSettings(use_gpu=True))
    with pytest.raises(RaylevanceError, match=r"searches exactly, but index\.kind is hnsw"):
        VectorIndex.build(clustered(50, seed=9), IndexSettings(kind="hnsw", use_gpu=True))


@pytest.mark.parametrize(
    ("kind", "message"), [("exact", "FAISS sees no GPU"), ("hnsw", "searches exact indexes, but this one is hnsw")]
)
def test_an_index_is_not_loaded_for_a_gpu_that_cannot_search_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    VectorIndex.build(clustered(50, seed=9), IndexSettings(kind=kind)).save(tmp_path)
    monkeypatch.setattr("faiss.get_num_gpus", lambda: 0)
    with pytest.raises(RaylevanceError, match=message):
        VectorIndex.load(tmp_path, use_gpu=True)


def test_queries_of_another_encoder(index: VectorIndex) -> None:
    with pytest.raises(RaylevanceError, match=r"queries have shape \(1, 8\), but the index has 32 dimensions"):
        index.search(np.ones((1, 8), np.float32), K)


def test_damaged_files(items: Vectors, tmp_path: Path) -> None:
    index = VectorIndex.build(items, IndexSettings())
    with pytest.raises(RaylevanceError, match="not an index of vectors"):
        VectorIndex.load(tmp_path / "nowhere")
    index.save(tmp_path)
    file = tmp_path / "vectors.faiss"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(RaylevanceError, match="damaged index of vectors"):
        VectorIndex.load(tmp_path)
    VectorIndex.build(items[:10], IndexSettings()).save(tmp_path / "other")
    file.write_bytes((tmp_path / "other" / "vectors.faiss").read_bytes())
    with pytest.raises(RaylevanceError, match="belong to different indexes"):
        VectorIndex.load(tmp_path)


def test_settings_are_checked() -> None:
    with pytest.raises(ValidationError):
        IndexSettings(recall_target=1.5)
