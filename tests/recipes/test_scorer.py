"""A scorer artifact, and `evaluate pairs --scorer`: it prints what its parts give."""

import json
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
        save_scorer(draft.path, esci / "model", products, Hybrid.fit(evidence, LABELS), TEXT)
    return store


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
    assert list(printed) == ["pairs", "scorer", "auc", "f1", "f1_threshold", "ks"]
    assert (printed["pairs"], printed["scorer"]) == (6, "scorer/relevance")
    assert printed["auc"] == pytest.approx(roc_auc_score(LABELS, scores)) and 0 < scores.min() < scores.max() < 1


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
