"""The hybrid: fitting recovers the coefficients that the data was drawn with, and each score can be used alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from raylevance.errors import RaylevanceError
from raylevance.models.hybrid import Evidence, Hybrid

TRUE = {"fine_tuned": 0.5, "transfer": 3.0, "highest": 1.5, "intercept": -1.0}
ALONE = (0.8, -0.7)


def drawn(count: int = 20_000) -> tuple[Evidence, np.ndarray]:
    """Draw pairs. Every third item has no neighbours and labels by `ALONE`; the others have labels by `TRUE`."""
    rng = np.random.default_rng(0)
    fine_tuned, transfer = rng.normal(0, 2, count), rng.uniform(-1, 1, count)
    highest = np.clip(transfer + rng.uniform(0, 1, count), -1, 1)
    related = TRUE["fine_tuned"] * fine_tuned + TRUE["transfer"] * transfer + TRUE["highest"] * highest
    without = np.arange(count) % 3 == 0
    chance = expit(np.where(without, ALONE[0] * fine_tuned + ALONE[1], related + TRUE["intercept"]))
    transfer[without] = highest[without] = np.nan
    return Evidence(fine_tuned, transfer, highest), (rng.random(count) < chance).astype(np.int64)


def test_the_coefficients_come_back() -> None:
    evidence, labels = drawn()
    fitted = Hybrid.fit(evidence, labels)
    assert fitted.with_neighbours is not None
    found = (*fitted.with_neighbours.weights, fitted.with_neighbours.intercept)
    np.testing.assert_allclose(found, list(TRUE.values()), atol=0.25)
    probabilities = fitted(evidence)
    without = ~evidence.has_neighbours
    (weight,) = fitted.without_neighbours.weights
    np.testing.assert_allclose(
        probabilities[without],
        expit(weight * evidence.fine_tuned[without] + fitted.without_neighbours.intercept),
        atol=1e-12,
    )
    assert probabilities[~without].mean() == pytest.approx(labels[~without].mean(), abs=1e-3), "it is calibrated"


def test_both_parts_together_are_better_than_either(tmp_path: Path) -> None:
    evidence, labels = drawn()
    hybrids = {parts: Hybrid.fit(evidence, labels, parts) for parts in ("hybrid", "fine_tuned", "transfer")}
    auc = {parts: roc_auc_score(labels, hybrid(evidence)) for parts, hybrid in hybrids.items()}
    assert auc["hybrid"] > max(auc["fine_tuned"], auc["transfer"]) + 0.02
    assert np.argsort(hybrids["fine_tuned"](evidence)).tolist() == np.argsort(evidence.fine_tuned).tolist()
    np.testing.assert_allclose(hybrids["transfer"](evidence)[~evidence.has_neighbours], labels.mean(), atol=1e-12)
    other = Evidence(evidence.fine_tuned[::-1], evidence.transfer, evidence.highest)
    np.testing.assert_array_equal(hybrids["transfer"](other), hybrids["transfer"](evidence))
    for parts, hybrid in hybrids.items():
        hybrid.save(tmp_path / f"{parts}.json")
        np.testing.assert_array_equal(Hybrid.load(tmp_path / f"{parts}.json")(evidence), hybrid(evidence))


def test_the_names_in_the_file_are_stable(tmp_path: Path) -> None:
    logistic = {"weights": [1.0], "intercept": -1.0}
    content = {"parts": "fine_tuned", "related": None, "alone": logistic}
    (tmp_path / "hybrid.json").write_text(json.dumps(content))
    hybrid = Hybrid.load(tmp_path / "hybrid.json")
    assert hybrid.with_neighbours is None and hybrid.without_neighbours.intercept == -1.0
    hybrid.save(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == content == json.loads(hybrid.model_dump_json())
    assert hybrid.model_dump().keys() == content.keys()


def test_one_class_and_a_torn_file_are_one_line(tmp_path: Path) -> None:
    evidence, labels = drawn(30)
    with pytest.raises(RaylevanceError, match="the 30 validation pairs are of one class"):
        Hybrid.fit(evidence, np.ones_like(labels))
    (tmp_path / "hybrid.json").write_text("{")
    with pytest.raises(RaylevanceError, match=r"hybrid\.json: not a readable hybrid"):
        Hybrid.load(tmp_path / "hybrid.json")


def test_neighbours_that_say_nothing_are_not_used() -> None:
    evidence, _ = drawn(30)
    labels = (~evidence.has_neighbours).astype(np.int64)
    labels[np.flatnonzero(labels)[0]] = 0
    hybrid = Hybrid.fit(evidence, labels)
    assert hybrid.with_neighbours is None
    np.testing.assert_array_equal(hybrid(evidence), Hybrid.fit(evidence, labels, "fine_tuned")(evidence))
