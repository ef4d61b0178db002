"""The regression judge: its features and cuts against plain loops, its folder, and that it learns."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from raylevance.errors import RaylevanceError
from raylevance.judges.match_features import (
    CATALOGUE as VECTORS_FILE,
)
from raylevance.judges.match_features import (
    FREQUENCIES,
    CatalogueFacts,
    MatchFeatures,
    stem_list,
    stems,
)
from raylevance.judges.match_regression import FEATURES, REGRESSION, MatchRegression, Regression, best_cuts, out_of_fold
from raylevance.models.encoder import Encoder, EncoderSettings

CATALOGUE = ["red lamps for desks", "blue lamp", "green garden hose", "garden chairs", "a lamp, in red"]


@pytest.fixture(scope="module")
def encoder(tiny_backbone: Path) -> Encoder:
    return Encoder.from_backbone(EncoderSettings(backbone=str(tiny_backbone), max_item_tokens=32))


@pytest.fixture(scope="module")
def fitted(encoder: Encoder) -> MatchRegression:
    queries = ["red lamp"] * 5 + ["garden hose"] * 5
    grades = np.array([2, 1, 0, 0, 2, 0, 0, 2, 1, 0])
    return MatchRegression.fit(encoder, CATALOGUE, queries, CATALOGUE * 2, grades)


def naive_idf(texts: list[str], stem: str) -> float:
    with_it = sum(stem in stem_list(text) for text in texts)
    return math.log(1 + (len(texts) - with_it + 0.5) / (with_it + 0.5))


def naive_share(texts: list[str], asked: set[str], text: str) -> float:
    total = sum(naive_idf(texts, stem) for stem in asked)
    return sum(naive_idf(texts, stem) for stem in asked if stem in stem_list(text)) / total if total else 0.0


def test_the_features_of_words_and_cosines(encoder: Encoder) -> None:
    queries, texts = ["red lamp", "garden hose", "...", "red lamp"], ["blue lamp", "garden chairs", "blue lamp", "x"]
    found = MatchFeatures(encoder, CatalogueFacts.read(CATALOGUE, encoder))(queries, texts, ("cosine", "coverage"))
    u, v = encoder.encode_queries(queries), encoder.encode_items(texts)
    assert np.allclose(found[:, 0], (u.astype(float) * v).sum(axis=1), atol=1e-6)
    expected = [naive_share(CATALOGUE, set(stem_list(query)), text) for query, text in zip(queries, texts, strict=True)]
    assert np.allclose(found[:, 1], expected) and expected[0] > 0 == expected[3]


SHOP = [
    "Desk lamp with cord. Brand: Lumo. Color: red. Category: Home > Lamps",
    "Lamp, no cord. Brand: Kestrel Light. Category: Home > Lamps",
    "Garden hose. Brand: Brigg. Category: Garden > Hoses",
    "Garden chair, cord. Brand: Brigg. Color: blue. Category: Garden > Chairs",
    "Lamp oil. Category: Home > Oils",
    "Hose reel. Brand: Brigg. Category: Garden > Hoses",
]


def test_the_features_of_the_nearest_products(encoder: Encoder) -> None:
    """Feedback and category, by float64 loops over the catalogue; a pair has the same features alone."""
    facts = CatalogueFacts.read(SHOP, encoder)
    read = MatchFeatures(encoder, facts)
    queries, texts = ["garden hose", "lamp"] * 3, SHOP
    found = read(queries, texts, FEATURES)
    order = [SHOP.index(text) for text in SHOP]
    vectors = encoder.encode_items(SHOP)[order].astype(np.float64)
    categories = [text.rpartition("Category: ")[2] for text in SHOP]
    for row, (query, text) in enumerate(zip(queries, texts, strict=True)):
        cosines = vectors @ encoder.encode_queries([query])[0].astype(np.float64)
        nearest = sorted(range(len(SHOP)), key=lambda i: -cosines[i])
        mean = sum(vectors[i] for i in nearest[:5])
        own = SHOP.index(text)
        assert found[row, 1] == pytest.approx(float(mean @ vectors[own] / np.linalg.norm(mean)), abs=1e-5)
        weights = [max(cosines[i], 0.0) for i in range(len(SHOP))]
        share = sum(w for w, c in zip(weights, categories, strict=True) if c == categories[own]) / sum(weights)
        assert found[row, 2] == pytest.approx(share, abs=1e-5)
        assert np.allclose(read([query], [text], FEATURES), found[row], atol=1e-5)
    known = MatchFeatures(encoder, facts, SHOP)
    assert np.allclose(known([*queries, "lamp"], [*texts, "x"], FEATURES)[:-1], found, atol=1e-5)


def test_a_brand_that_the_query_names_and_the_text_lacks(encoder: Encoder) -> None:
    read = MatchFeatures(encoder, CatalogueFacts.read(SHOP, encoder))
    queries = [
        "brigg hose",
        "brigg hose",
        "kestrel light lamp",
        "kestrel light lamp",
        "light lamp",
        "BRIGG or lumo lamp",
    ]
    texts = [SHOP[2], SHOP[1], SHOP[1], SHOP[0], SHOP[0], SHOP[0]]
    assert read(queries, texts, ("other_brand",))[:, 0].tolist() == [0, 1, 0, 1, 0, 0]


def test_an_ordinary_word_is_no_brand(encoder: Encoder) -> None:
    """One text calls it a brand, more than twenty times as many have the word."""
    shop = ["Cup. Brand: Home", *["home lamp"] * 20]
    facts = CatalogueFacts.read(shop, encoder)
    assert not facts.brands and CatalogueFacts.read(shop[:-1], encoder).brands == {("home",)}


def test_the_share_of_what_is_not_wanted(encoder: Encoder) -> None:
    read = MatchFeatures(encoder, CatalogueFacts.read(SHOP, encoder))
    found = read(["lamp without cord", "lamp without cord", "lamp"], [SHOP[0], SHOP[4], SHOP[0]], ("excluded",))
    assert found[:, 0].tolist() == [1, 0, 0]


def test_a_text_that_negates_what_is_not_wanted_is_told_apart(encoder: Encoder) -> None:
    read = MatchFeatures(encoder, CatalogueFacts.read(SHOP, encoder))
    texts = ["Lamp with cord. Brand: Lumo", "Cordless lamp. Brand: Lumo", "Lamp. Color: Red", "Lamp with cord"]
    queries = ["lamp without cord", "lamp without cord", "lamp without cord", "lamp"]
    assert read(queries, texts, ("exclusion",))[:, 0].tolist() == [1, -1, 0, 0]
    assert read(queries, texts, ("excluded",))[:, 0].tolist() == [1, 0, 0, 0]


def test_a_folder_of_a_version_with_two_features(encoder: Encoder, fitted: MatchRegression, tmp_path: Path) -> None:
    """It names no features and has no vectors of the catalogue; it grades as it did."""
    fitted.save(tmp_path / "model")
    (tmp_path / "model" / VECTORS_FILE).unlink()
    counts = json.loads((tmp_path / "model" / FREQUENCIES).read_text())
    (tmp_path / "model" / FREQUENCIES).write_text(json.dumps({name: counts[name] for name in ("texts", "stems")}))
    two = {"weights": [1.0, 2.0], "moderately": 0.5, "relevant": 1.5}
    (tmp_path / "model" / REGRESSION).write_text(json.dumps(two))
    old = MatchRegression.load(tmp_path / "model")
    queries, texts = ["red lamp", "garden hose"], ["blue lamp", "garden chairs"]
    cosine = (encoder.encode_queries(queries).astype(float) * encoder.encode_items(texts)).sum(axis=1)
    shares = [naive_share(CATALOGUE, set(stem_list(q)), t) for q, t in zip(queries, texts, strict=True)]
    score = cosine + 2 * np.array(shares)
    logits = np.stack([0 * score, score - 0.5, 2 * score - 2], axis=1)
    expected = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    assert np.allclose(old.log_probabilities(queries, texts), expected, atol=1e-5)


def test_weights_of_other_features_are_refused() -> None:
    with pytest.raises(ValueError, match="2 features, 1 weights"):
        Regression(weights=(1.0,), moderately=0, relevant=1)


def test_out_of_fold_no_pair_is_graded_by_a_fit_that_saw_its_fold() -> None:
    rng = np.random.default_rng(0)
    features, grades, folds = rng.random((60, 5)), rng.integers(0, 3, 60), rng.integers(0, 4, 60)
    found = out_of_fold(features, grades, folds)
    for fold in range(4):
        inside = folds == fold
        logits = Regression.fit(features[~inside], grades[~inside])(features[inside])
        expected = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        assert np.allclose(found[inside], expected, atol=1e-5)
        graded = np.arange(60) % 3 > 0
        partly = out_of_fold(features, np.where(graded, grades, 0), folds, fitted_to=graded)
        alone = Regression.fit(features[~inside & graded], grades[~inside & graded])(features[inside])
        assert np.allclose(partly[inside], alone - np.logaddexp.reduce(alone, axis=1, keepdims=True), atol=1e-5)
        changed = np.where(inside, 2 - grades, grades)
        assert (out_of_fold(features, changed, folds)[inside] == found[inside]).all()


def test_words_are_compared_by_their_stems() -> None:
    assert stems("Red LAMPS, lamp") == {"red", "lamp"}


@pytest.mark.parametrize("seed", range(3))
def test_no_cuts_agree_better(seed: int) -> None:
    """Every pair of thresholds on 60 scores, by scikit-learn's kappa."""
    rng = np.random.default_rng(seed)
    grades = rng.integers(0, 3, 60)
    scores = grades + rng.normal(0, 1, 60)

    def kappa(low: float, high: float) -> float:
        graded = (scores > low).astype(int) + (scores > high)
        return float(cohen_kappa_score(grades, graded, weights="quadratic"))

    best = max(kappa(low, high) for low in scores for high in scores if low <= high)
    assert kappa(*best_cuts(scores, grades)) == pytest.approx(best, abs=1e-9)


def test_grades_are_what_lies_between_the_cuts() -> None:
    regression = Regression(weights=(1.0, 2.0), moderately=0.5, relevant=1.5)
    features = np.array([[0.1, 0.1], [0.6, 0.0], [0.4, 0.4], [1.0, 0.3]])
    assert regression(features).argmax(axis=1).tolist() == [0, 1, 1, 2]


def test_it_learns_its_pairs_and_comes_back_from_its_folder(fitted: MatchRegression, tmp_path: Path) -> None:
    queries = ["red lamp"] * 5
    answers = fitted.log_probabilities(queries, CATALOGUE)
    assert answers.shape == (5, 3) and np.allclose(np.exp(answers).sum(axis=1), 1, atol=1e-5)
    assert answers.argmax(axis=1)[[0, 2]].tolist() == [2, 0]
    fitted.save(tmp_path / "model")
    again = MatchRegression.load(tmp_path / "model")
    assert np.array_equal(again.log_probabilities(queries, CATALOGUE), answers)


def test_a_damaged_folder(fitted: MatchRegression, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    (tmp_path / "model" / REGRESSION).write_text("{")
    with pytest.raises(RaylevanceError, match="not a readable match regression folder"):
        MatchRegression.load(tmp_path / "model")
