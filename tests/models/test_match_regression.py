"""The judge of two numbers: its features and cuts against plain loops, its folder, and that it learns."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from raylevance.errors import RaylevanceError
from raylevance.judges.match_regression import (
    REGRESSION,
    MatchRegression,
    Regression,
    best_cuts,
    out_of_fold,
    stems,
)
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


def test_the_features_are_cosine_and_weighted_coverage(encoder: Encoder, fitted: MatchRegression) -> None:
    queries, texts = ["red lamp", "garden hose", "...", "red lamp"], ["blue lamp", "garden chairs", "blue lamp", "x"]
    found = fitted.features(queries, texts)
    u, v = encoder.encode_queries(queries), encoder.encode_items(texts)
    assert np.allclose(found[:, 0], (u.astype(float) * v).sum(axis=1), atol=1e-6)

    def idf(texts_with_it: int) -> float:
        return float(np.log(1 + (5 - texts_with_it + 0.5) / (texts_with_it + 0.5)))

    lamp, red, garden, hose = idf(3), idf(2), idf(2), idf(1)
    assert np.allclose(found[:, 1], [lamp / (lamp + red), garden / (garden + hose), 0, 0])


def test_out_of_fold_no_pair_is_graded_by_a_fit_that_saw_its_fold() -> None:
    rng = np.random.default_rng(0)
    features, grades, folds = rng.random((60, 2)), rng.integers(0, 3, 60), rng.integers(0, 4, 60)
    found = out_of_fold(features, grades, folds)
    for fold in range(4):
        inside = folds == fold
        logits = Regression.fit(features[~inside], grades[~inside])(features[inside])
        expected = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        assert np.allclose(found[inside], expected, atol=1e-5)
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
