"""A scorer artifact, and `evaluate pairs --scorer`: it prints what its parts give."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from raylevance.artifacts import Store
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError
from raylevance.inference.product_queries import ProductQueries
from raylevance.inference.scorer import Scorer, gather_evidence, save_scorer
from raylevance.inference.scorer import load as load_scorer
from raylevance.models.encoder import Encoder
from raylevance.models.hybrid import Hybrid
from raylevance.models.relevance import RelevanceModel, RelevanceModelSettings
from tests.conftest import Ended
from workloads.commands.evaluate_files import _products

Command = Callable[..., Ended]
TEXT = ProductText(attributes=("brand",), taxonomy_levels=0)
NEIGHBOURS = {"a": {"red lamp": 0.75, "lamp": 0.25}, "b": {}, "c": {"usb cable": 0.5, "red lamp": 0.5}}
QUERIES = ["lamp", "usb charger", "lamp", "desk", "usb charger", "red lamp"]
IDS = ["a", "a", "b", "b", "c", "c"]
LABELS = np.array([1, 0, 0, 1, 1, 0])
THRESHOLD = 0.25


@pytest.fixture
def store(esci: Path, tiny_backbone: Path) -> Store:
    """One scorer on three products, of which "b" has no neighbour queries."""
    model = RelevanceModel.from_encoder(tiny_backbone, RelevanceModelSettings(hidden=4))
    model.save(esci / "model")
    rows = {
        "product_id": list(NEIGHBOURS),
        "product_text": texts(esci),
        "queries": [list(known) for known in NEIGHBOURS.values()],
        "weights": [list(known.values()) for known in NEIGHBOURS.values()],
    }
    products = ProductQueries.of(pa.table(rows), esci / "model" / "encoder")
    evidence = gather_evidence(model, products, QUERIES, [texts(esci)["abc".index(own)] for own in IDS], IDS)
    store = Store(esci / "store")
    with store.publish("scorer/relevance") as draft:
        save_scorer(draft.path, esci / "model", products, Hybrid.fit(evidence, LABELS), TEXT, THRESHOLD)
    return store


def without_threshold(store: Store) -> None:
    """Publish the scorer as a store has it that was made before scorers had a threshold."""
    made = store.path("scorer/relevance")
    with store.publish("scorer/older") as draft:
        shutil.copytree(made, draft.path, dirs_exist_ok=True)
        for file in ("threshold.json", "manifest.json"):
            (draft.path / file).unlink()


def texts(esci: Path) -> list[str]:
    file = esci / "shopping_queries_dataset_products.parquet"
    return TEXT.compose(_products(pq.read_table(file), file))


def pairs_evaluated(raylevance: Command, store: Store, esci: Path, pairs: dict[str, object], *options: object) -> Ended:
    pq.write_table(pa.table({"query": QUERIES, "label": LABELS, **pairs}), esci / "pairs.parquet")
    command = ("evaluate", "pairs", "--pairs", esci / "pairs.parquet", "--store", store, "--json")
    return raylevance(*command, *options)


def test_the_command_scores_as_the_parts_do(raylevance: Command, store: Store, esci: Path) -> None:
    scorer = load_scorer(store, "scorer/relevance")
    pair_texts = [texts(esci)["abc".index(own)] for own in IDS]
    scores = scorer.score(QUERIES, pair_texts, IDS)
    catalogue = ("--products", esci / "shopping_queries_dataset_products.parquet")
    by_id = pairs_evaluated(raylevance, store, esci, {"product_id": IDS}, "--scorer", "scorer/relevance", *catalogue)
    by_text = pairs_evaluated(raylevance, store, esci, {"product_text": pair_texts}, "--scorer", "scorer/relevance")
    printed = json.loads(by_id.out)
    assert printed == json.loads(by_text.out), "a product is found by its text too"
    assert list(printed) == ["pairs", "scorer", "auc", "f1", "f1_threshold", "ks", "f1_threshold_from"]
    assert (printed["pairs"], printed["scorer"]) == (6, "scorer/relevance")
    assert printed["auc"] == pytest.approx(roc_auc_score(LABELS, scores)) and 0 < scores.min() < scores.max() < 1


def f1(scores: np.ndarray, labels: np.ndarray, threshold: float) -> float:
    kept = scores >= threshold
    return float(2 * (kept & (labels == 1)).sum() / (kept.sum() + labels.sum()))


def test_the_threshold_of_f1_is_the_scorers_or_that_of_validation_pairs(
    raylevance: Command, store: Store, esci: Path
) -> None:
    """Only where there is neither is it the best on the measured pairs, and the answer says so."""
    without_threshold(store)
    scorer, older = load_scorer(store, "scorer/relevance"), load_scorer(store, "scorer/older")
    assert (scorer.threshold, older.threshold) == (THRESHOLD, None)
    pair_texts = [texts(esci)["abc".index(own)] for own in IDS]
    scores, flipped = scorer.score(QUERIES, pair_texts, IDS), 1 - LABELS
    columns: dict[str, object] = {"product_id": IDS, "product_text": pair_texts}
    own = json.loads(pairs_evaluated(raylevance, store, esci, columns, "--scorer", "scorer/relevance").out)
    assert (own["f1_threshold"], own["f1_threshold_from"]) == (THRESHOLD, "scorer")
    assert own["f1"] == pytest.approx(f1(scores, LABELS, THRESHOLD))

    validation = pa.table({"query": QUERIES, "label": flipped, **columns})
    pq.write_table(validation, esci / "validation.parquet")
    options = ("--scorer", "scorer/relevance", "--validation", esci / "validation.parquet")
    chosen = json.loads(pairs_evaluated(raylevance, store, esci, columns, *options).out)
    best = max(scores, key=lambda threshold: (f1(scores, flipped, threshold), -threshold))
    assert f1(scores, flipped, chosen["f1_threshold"]) == pytest.approx(f1(scores, flipped, float(best)))
    assert chosen["f1"] == pytest.approx(f1(scores, LABELS, chosen["f1_threshold"]))
    assert chosen["f1_threshold_from"] == "validation"

    ended = pairs_evaluated(raylevance, store, esci, columns, "--scorer", "scorer/older")
    printed = json.loads(ended.out)
    assert printed["f1_threshold_from"] == "these pairs" and "give --validation" in ended.err
    assert printed["f1"] == pytest.approx(max(f1(scores, LABELS, threshold) for threshold in scores))


def test_validation_pairs_of_one_class_are_named(raylevance: Command, store: Store, esci: Path) -> None:
    columns: dict[str, object] = {"product_text": ["lamp"] * 6}
    pq.write_table(pa.table({"query": QUERIES, "label": [1] * 6, **columns}), esci / "validation.parquet")
    options = ("--scorer", "scorer/relevance", "--validation", esci / "validation.parquet")
    ended = pairs_evaluated(raylevance, store, esci, columns, *options)
    assert ended.code == 1 and f"{esci / 'validation.parquet'}: the pairs are all of one class" in ended.err


def test_a_damaged_threshold_is_one_line(store: Store) -> None:
    (store.path("scorer/relevance") / "threshold.json").write_text("{}")
    with pytest.raises(RaylevanceError, match="threshold"):
        load_scorer(store, "scorer/relevance")


def test_neighbours_are_those_of_the_product(store: Store, esci: Path) -> None:
    scorer = load_scorer(store, "scorer/relevance")
    known = gather_evidence(scorer.model, scorer.products, QUERIES, ["no such text"] * 6, [*IDS[:5], "z"])
    encoder = Encoder.load(esci / "model" / "encoder")
    vector = dict(zip(QUERIES, encoder.encode_queries(QUERIES), strict=True))
    for row, (query, own) in enumerate(zip(QUERIES[:5], IDS, strict=False)):
        cosines = {other: float(vector[query] @ encoder.encode_queries([other])[0]) for other in NEIGHBOURS[own]}
        weighted = sum(NEIGHBOURS[own][other] * cosine for other, cosine in cosines.items())
        np.testing.assert_allclose(known.transfer[row], weighted if cosines else np.nan, atol=1e-5)
        np.testing.assert_allclose(known.highest[row], max(cosines.values()) if cosines else np.nan, atol=1e-5)
    assert np.isnan(known.transfer[5]), "an unknown id and an unknown text"


def test_each_part_alone_can_be_scored(store: Store, esci: Path) -> None:
    scorer = load_scorer(store, "scorer/relevance")
    pair_texts = [texts(esci)["abc".index(own)] for own in IDS]
    evidence = gather_evidence(scorer.model, scorer.products, QUERIES, pair_texts)
    alone: Scorer = replace(scorer, hybrid=Hybrid.fit(evidence, LABELS, "fine_tuned"))
    np.testing.assert_allclose(
        alone.score(QUERIES, pair_texts), alone.hybrid.without_neighbours(evidence.fine_tuned[:, None]), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--encoder minilm --scorer scorer/relevance", 2, "give either --encoder or --scorer"),
        ("", 2, "give either --encoder or --scorer"),
        ("--scorer encoder/x", 2, "expected scorer/NAME"),
        ("--scorer scorer/relevanz", 1, "scorer/relevanz: no such artifact"),
        ("--scorer scorer/relevance", 1, "product_id together with --products"),
    ],
)
def test_bad_requests_are_one_line(
    raylevance: Command, store: Store, esci: Path, options: str, code: int, message: str
) -> None:
    ended = pairs_evaluated(raylevance, store, esci, {"product_id": IDS}, *options.split())
    assert ended.code == code and message in ended.err and ended.err.count("\n") == 1
