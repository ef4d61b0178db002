"""Baselines of query classification: each against loops or scikit-learn, on two tasks in one label space."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from raylevance.data.label_space import LabelSpace
from raylevance.data.product_labels import category_labels, column_labels, labels_of_products
from raylevance.data.query_labels import QUERY_LABELS
from raylevance.data.schema import PRODUCTS
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError
from raylevance.evaluation import correct_at, label_matrix, predictions_of
from raylevance.inference.encoder import NamedEncoder
from workloads.steps import classification_baselines
from workloads.steps.classification_baselines import (
    Baseline,
    LinearTfIdf,
    Majority,
    NearestLabel,
    NearestProducts,
    predicted_rows,
)

TITLES = {
    ("Home", "Kitchen", "Kettles"): ["red kettle", "steel kettle", "whistling kettle"],
    ("Home", "Kitchen", "Pans"): ["frying pan", "iron pan"],
    ("Home", "Lamps"): ["desk lamp", "floor lamp", "bedside lamp"],
    ("Garden", "Hoses"): ["garden hose", "hose reel"],
}
QUERIES = ["kettle", "Tea KETTLE", "pan", "pan with lid", "lamp", "lamp for a desk", "hose", "green hose", "kettle pan"]
LABELS = ["Kettles", "Kettles", "Pans", "Pans", "Lamps", "Lamps", "Hoses", "Hoses", "Kettles Pans"]


@pytest.fixture
def products() -> pa.Table:
    rows: list[dict[str, Any]] = [
        {"product_id": title, "title": title, "brand": ["Brigg", "Kestrel"][len(title) % 2], "category": list(path)}
        for path, titles in TITLES.items()
        for title in titles
    ]
    rows.append({"product_id": "none", "title": "kettle of no category", "brand": "Brigg"})
    return pa.Table.from_pylist(rows, PRODUCTS)


@pytest.fixture
def space(products: pa.Table) -> LabelSpace:
    """The brands come first, so that rows of the space and columns of category differ; parents are not predicted."""
    return LabelSpace(pa.concat_tables([column_labels(products, "brand"), category_labels(products)]))


@pytest.fixture
def train(space: LabelSpace) -> pa.Table:
    row_of = {space.path(row)[-1]: row for row in range(len(space))}
    rows = [
        {"query": query, "task": "category", "labels": labels, "targets": [1.0] * len(labels), "weight": 1.0}
        for query, names in zip(QUERIES, LABELS, strict=True)
        for labels in [[row_of[name] for name in names.split()]]
    ]
    rows.append({"query": "brigg", "task": "brand", "labels": [0], "targets": [1.0], "weight": 1.0})
    return pa.Table.from_pylist(rows, QUERY_LABELS)


@pytest.fixture
def encoder(minilm: Path) -> NamedEncoder:
    return NamedEncoder(minilm, None, None)


def category_truth(train: pa.Table, space: LabelSpace) -> np.ndarray:
    rows = predicted_rows(space, "category").tolist()
    listed = train.filter(pa.compute.equal(train["task"], "category"))["labels"].to_pylist()
    return np.array([[row in labels for row in rows] for labels in listed])


def test_majority_is_the_weighted_share(train: pa.Table, space: LabelSpace) -> None:
    weights = np.arange(1.0, train.num_rows + 1).astype(np.float32)
    weighted = train.set_column(train.column_names.index("weight"), "weight", pa.array(weights))
    scores = Majority().scores(weighted, space, "category", ["anything", "else"])
    truth, own = category_truth(train, space), weights[:-1]
    expected = [sum(own[truth[:, label]]) / sum(own) for label in range(truth.shape[1])]
    assert scores.tolist() == [pytest.approx(expected)] * 2
    assert scores.dtype == np.float32


@pytest.mark.parametrize("task", ["category", "brand"])
def test_nearest_products_vote(products: pa.Table, space: LabelSpace, encoder: NamedEncoder, task: str) -> None:
    """By a loop over all products. The product without a category is a neighbour that has no vote."""
    queries, k = ["kettle", "lamp for reading", "hose"], 4
    scores = NearestProducts(encoder, products, k).scores(QUERY_LABELS.empty_table(), space, task, queries)
    cosines = encoder.encode_queries(queries) @ encoder.encode_products(products).T
    own = labels_of_products(products, space)[:, space.tasks.index(task)]
    for query, row in enumerate(cosines):
        nearest = sorted(range(len(row)), key=lambda product: -row[product])[:k]
        votes = Counter(int(own[product]) for product in nearest)
        for column, label in enumerate(predicted_rows(space, task)):
            assert scores[query, column] == pytest.approx(votes[int(label)] / k, abs=2e-3)
    assert scores.shape == (3, len(predicted_rows(space, task)))
    if task == "category":
        assert 0 < scores[0].sum() < 0.9, "one of the four nearest kettles has no vote"


def test_products_without_a_label_of_a_task_can_not_vote(
    products: pa.Table, space: LabelSpace, encoder: NamedEncoder
) -> None:
    assert NearestProducts(encoder, products).can_vote(space, "category")
    bare = products.set_column(products.column_names.index("brand"), "brand", pa.nulls(products.num_rows, pa.string()))
    assert not NearestProducts(encoder, bare).can_vote(space, "brand")


def test_equal_votes_rank_by_cosine(products: pa.Table, space: LabelSpace, encoder: NamedEncoder) -> None:
    two = products.take([8, 0])  # a hose and a kettle: one vote each
    for query, name in (("kettle", "Kettles"), ("garden hose", "Hoses")):
        scores = NearestProducts(encoder, two).scores(QUERY_LABELS.empty_table(), space, "category", [query])
        assert space.path(predicted_rows(space, "category")[scores[0].argmax()])[-1] == name


def test_nearest_label_is_the_cosine_of_its_text(train: pa.Table, space: LabelSpace, encoder: NamedEncoder) -> None:
    scores = NearestLabel(encoder).scores(train, space, "category", QUERIES)
    texts = [space.labels["text"][int(row)].as_py() for row in predicted_rows(space, "category")]
    together = pa.table({"title": texts, "brand": [None] * len(texts), "color": [None] * len(texts)})
    assert scores == pytest.approx(encoder.encode_queries(QUERIES) @ encoder.encode_products(together).T, abs=1e-5)


def test_the_linear_model_is_one_against_rest(
    train: pa.Table, space: LabelSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["kettle", "iron pan with lid", "unknown words"]
    pruned = LinearTfIdf().scores(train, space, "category", asked)
    monkeypatch.setattr(classification_baselines, "PRUNED_BELOW", 0)
    scores = LinearTfIdf().scores(train, space, "category", asked)
    words = TfidfVectorizer(token_pattern=r"\b\w+\b", ngram_range=(1, 2), sublinear_tf=True)
    features = words.fit_transform(QUERIES)
    model = OneVsRestClassifier(LogisticRegression(C=10.0, solver="liblinear", random_state=0))
    model.fit(features, category_truth(train, space).astype(int))
    expected = model.predict_proba(words.transform(asked))
    assert scores == pytest.approx(expected, abs=1e-5)
    assert pruned == pytest.approx(expected, abs=0.01)


def test_the_linear_model_corrects_for_the_negatives_that_it_leaves_out(
    train: pa.Table, space: LabelSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one word, half of the queries of Kettles: the probability is that of all queries, with a tenth of them."""
    row_of = {space.path(row)[-1]: row for row in range(len(space))}
    names = ["Kettles"] * 40 + ["Pans"] * 2000
    columns = {
        "query": ["pot"] * len(names),
        "task": ["category"] * len(names),
        "labels": [[row_of[name]] for name in names],
        "targets": [[1.0]] * len(names),
        "source": ["clicks"] * len(names),
        "weight": [1.0] * len(names),
    }
    rows = pa.table(columns, schema=QUERY_LABELS)
    kettles = [space.path(int(row))[-1] for row in predicted_rows(space, "category")].index("Kettles")
    whole = LinearTfIdf().scores(rows, space, "category", ["pot"])[0, kettles]
    monkeypatch.setattr(classification_baselines, "FEWEST_NEGATIVES", 100)
    monkeypatch.setattr(classification_baselines, "NEGATIVES_PER_POSITIVE", 5)
    sampled = LinearTfIdf().scores(rows, space, "category", ["pot"])[0, kettles]
    assert whole == pytest.approx(40 / 2040, rel=0.1)
    assert sampled == pytest.approx(40 / 2040, rel=0.2)


def test_labels_without_a_query_and_with_every_query(train: pa.Table, space: LabelSpace) -> None:
    only = train.slice(0, 2)  # kettles alone
    scores = LinearTfIdf().scores(only, space, "category", ["kettle", "other"])
    names = [space.path(int(row))[-1] for row in predicted_rows(space, "category")]
    assert scores.tolist() == [[float(name == "Kettles") for name in names]] * 2


@pytest.mark.parametrize("baseline", [Majority(), LinearTfIdf()])
def test_a_task_that_no_query_has_labels_of(baseline: Baseline, train: pa.Table, space: LabelSpace) -> None:
    category = train.filter(pa.compute.equal(train["task"], "category"))
    with pytest.raises(RaylevanceError, match="task 'brand': no training query has a label; add a source"):
        baseline.scores(category, space, "brand", ["kettle"])
    with pytest.raises(RaylevanceError, match="no task 'colour'"):
        baseline.scores(train, space, "colour", ["kettle"])


@pytest.mark.long
def test_the_vote_and_the_nearest_label_on_the_public_sample(public_data: Path, minilm: Path) -> None:
    """40 test queries, two levels, titles alone, by a script apart. Ties by label order would make it 0.875."""
    encoder = NamedEncoder(minilm, ProductText(attributes=(), taxonomy_levels=0), None)
    table = pq.read_table(public_data / "esci" / "shopping_queries_dataset_products.parquet")
    renamed = {name: table[f"product_{name}"] for name in ("id", "title", "brand", "color", "category")}
    products = pa.table({**renamed, "product_id": renamed.pop("id")})
    space = LabelSpace(category_labels(products, levels=2))
    examples = pq.read_table(public_data / "esci" / "shopping_queries_dataset_examples.parquet").to_pylist()
    row_of = dict(zip(products["product_id"].to_pylist(), labels_of_products(products, space)[:, 0], strict=True))
    own: dict[str, set[int]] = {}
    for row in examples:
        if row["split"] == "test" and row["esci_label"] == "E" and row_of[row["product_id"]] >= 0:
            own.setdefault(row["query"], set()).add(int(row_of[row["product_id"]]))
    column_of = {int(row): column for column, row in enumerate(predicted_rows(space, "category"))}
    truth = label_matrix([[column_of[row] for row in rows] for rows in own.values()], len(column_of))
    none, queries = QUERY_LABELS.empty_table(), list(own)
    accuracy = {
        type(baseline): correct_at(predictions_of(baseline.scores(none, space, "category", queries)), truth, 1).mean()
        for baseline in (NearestProducts(encoder, products), NearestLabel(encoder))
    }
    assert len(queries) == 40
    assert accuracy[NearestProducts] == pytest.approx(0.9, abs=0.001)
    assert accuracy[NearestLabel] == pytest.approx(0.45, abs=0.001)
