"""The query classifier: its graph convolution, its untrained form, and its folder."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
import torch

from raylevance.data.label_space import LABELS, LabelSpace
from raylevance.errors import RaylevanceError
from raylevance.models.encoder import Encoder, EncoderSettings
from raylevance.models.label_gcn import LabelGCN
from raylevance.models.query_classifier import (
    NEUTRAL_COSINE,
    QueryClassifier,
    QueryClassifierSettings,
    label_probabilities,
)
from tests.conftest import WORDS


def two_tasks() -> LabelSpace:
    """Categories below two parents, which are not predicted, and brands."""
    rows = [
        ("category", "b", "b", None, "beta", False),
        ("category", "b > y", "y", "b", "beta red", True),
        ("category", "a", "a", None, "alpha", False),
        ("category", "a > x", "x", "a", "alpha blue", True),
        ("category", "a > z", "z", "a", "alpha green", True),
        ("brand", "Acme", "Acme", None, "acme", True),
        ("brand", "a", "a", None, "a", True),
    ]
    return LabelSpace(pa.Table.from_pylist([dict(zip(LABELS.names, row, strict=True)) for row in rows], schema=LABELS))


@pytest.fixture(scope="module")
def encoder(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier") / "encoder"
    settings = EncoderSettings(backbone=str(tiny_backbone), max_query_tokens=12, max_item_tokens=20)
    Encoder.from_backbone(settings).save(folder)
    return folder


def graphs(seed: int = 0) -> dict[str, sp.csr_matrix]:
    rng = np.random.default_rng(seed)
    return {"category": sp.random(5, 5, 0.5, "csr", random_state=rng), "brand": sp.identity(2, format="csr")}


def test_a_graph_convolution_equals_the_formula() -> None:
    """Row i of the graph is the label that receives, also where edges go one way only."""
    graph = sp.random(7, 7, 0.4, "csr", random_state=np.random.default_rng(0))
    assert (graph != graph.T).nnz
    gcn = LabelGCN(graph, 5, layers=2)
    for layer in gcn.layers:
        torch.nn.init.normal_(layer.lin.weight)
    labels = torch.randn(7, 5)
    hidden = labels.double().numpy()
    for layer in gcn.layers:
        product = graph.toarray() @ hidden @ layer.lin.weight.detach().double().numpy().T
        hidden = np.where(product > 0, product, 0.2 * product)
    np.testing.assert_allclose(gcn(labels).detach().numpy(), labels.numpy() + hidden, atol=1e-4)


def test_an_untrained_classifier_compares_queries_with_label_texts(encoder: Path) -> None:
    """A new graph convolution changes nothing, so the logits are those of a plain bi-encoder."""
    model = QueryClassifier.from_encoder(encoder, two_tasks(), graphs(), QueryClassifierSettings(scale=7.0))
    queries = list(WORDS[:6])
    vectors = model.encoder.encode_queries(queries)
    for texts, found in zip(
        (["beta red", "alpha blue", "alpha green"], ["acme", "a"]), model.probabilities(queries), strict=True
    ):
        logits = 7.0 * (vectors @ model.encoder.encode_items(texts).T - NEUTRAL_COSINE)
        np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), atol=1e-5)


@pytest.mark.parametrize(("label_enhanced", "structure_enhanced"), [(True, True), (False, True), (False, False)])
def test_a_saved_classifier_answers_as_before(
    encoder: Path, tmp_path: Path, label_enhanced: bool, structure_enhanced: bool
) -> None:
    chosen = QueryClassifierSettings(label_enhanced=label_enhanced, structure_enhanced=structure_enhanced, layers=3)
    model = QueryClassifier.from_encoder(encoder, two_tasks(), graphs(), chosen, seed=5)
    for parameter in model.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save(tmp_path / "saved")
    again = QueryClassifier.load(tmp_path / "saved")
    assert again.settings == chosen
    for before, after in zip(model.probabilities(WORDS), again.probabilities(WORDS), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)
    for (rows, bias), probabilities in zip(again.label_matrices(), again.probabilities(WORDS), strict=True):
        by_product = label_probabilities(again.encoder.encode_queries(WORDS), rows, bias)
        np.testing.assert_allclose(by_product, probabilities, atol=1e-6)


def test_a_folder_that_is_no_classifier_is_named(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(RaylevanceError, match="not a readable query classifier folder"):
        QueryClassifier.load(encoder)
    model = QueryClassifier.from_encoder(encoder, two_tasks(), graphs(), QueryClassifierSettings())
    model.save(tmp_path / "torn")
    heads = tmp_path / "torn" / "heads.safetensors"
    heads.write_bytes(heads.read_bytes()[:200])
    with pytest.raises(RaylevanceError, match="not a readable query classifier folder"):
        QueryClassifier.load(tmp_path / "torn")
