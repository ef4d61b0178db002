"""A store with a small shop and all that a server can answer from, and a service over it without Ray."""

import asyncio
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import serve  # isort: skip  sets the environment of Ray's proxy, which is read when Ray Serve is imported

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from raylevance.artifacts import Artifact, Store
from raylevance.data.label_space import LabelSpace
from raylevance.data.product_labels import category_labels, column_labels
from raylevance.data.schema import PRODUCTS
from raylevance.data.text import ProductText
from raylevance.index.grades import GradeBands
from raylevance.index.item_table import ItemTable, ItemTableSettings, nearest_items
from raylevance.index.products import ProductIndex, ProductIndexSettings
from raylevance.inference import bundle as bundles
from raylevance.inference.product_queries import ProductQueries
from raylevance.inference.query_classifier import save_classifier
from raylevance.inference.scorer import gather_evidence, save_scorer
from raylevance.models.encoder import Encoder
from raylevance.models.hybrid import Hybrid
from raylevance.models.query_classifier import QueryClassifier, QueryClassifierSettings
from raylevance.models.relevance import RelevanceModel, RelevanceModelSettings
from serve.api import build_api
from serve.bundle import versions_of
from serve.metrics import Metrics
from serve.models import LocalModels, Models
from serve.service import Service
from serve.settings import LimitSettings, ServeSettings

with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
    import ray.serve  # noqa: F401  Ray 2.60 declares its settings in a way that pydantic deprecates

assert serve.__name__ == "serve"

KINDS = {
    "running shoe": ["Clothing", "Shoes"],
    "wool sock": ["Clothing", "Socks"],
    "garden hose": ["Home", "Garden"],
    "electric kettle": ["Home", "Kitchen"],
    "desk lamp": ["Home", "Lighting"],
}
BRANDS = ["Nøva", "Kestrel", "Brigg & Sons", None]
COLOURS = ["red", "blue", "green", "black", "白い"]
FEATURES = ["for women", "large"]
TEXT = ProductText(attributes=("brand",), taxonomy_levels=0)
THRESHOLD, TEMPERATURE = 0.4, 0.2


@dataclass(frozen=True)
class Shop:
    """The folder of a store with the artifacts of a shop, and the index and encoder, loaded."""

    root: Path
    index: ProductIndex
    encoder: Encoder


def products() -> pa.Table:
    rows = [
        {
            "product_id": f"P{number:03}",
            "title": f"{colour} {kind} {feature}".capitalize(),
            "brand": brand,
            "color": colour,
            "category": KINDS[kind],
            "locale": "jp" if colour == "白い" else "us",
        }
        for number, (kind, brand, colour, feature) in enumerate(product(KINDS, BRANDS, COLOURS, FEATURES))
    ]
    return pa.Table.from_pylist(rows, schema=PRODUCTS)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> Shop:
    """The index, encoder and tables of the shop."""
    store = Store(tmp_path_factory.mktemp("store"))
    encoder = Encoder.load(minilm)
    with store.publish("encoder/shop") as encoder_draft:
        encoder.save(encoder_draft.path)
    table = products()
    with store.publish("tables/shop") as tables_draft:
        (tables_draft.path / "products").mkdir()
        pq.write_table(table, tables_draft.path / "products" / "0.parquet")
    publish_index(store, encoder, table, "index/shop", [encoder_draft.ref, tables_draft.ref])
    return Shop(Path(str(store)), ProductIndex.load(store.path("index/shop")), encoder)


def publish_index(store: Store, encoder: Encoder, table: pa.Table, name: str, parents: list[str]) -> str:
    texts = [f"{row['brand'] or ''} {row['title']}" for row in table.to_pylist()]
    with store.publish(name, parents=parents) as draft:
        bands = GradeBands(moderately=0.35, relevant=0.6)
        ProductIndex.build(table, encoder.encode_items(texts), ProductIndexSettings(), bands).save(draft.path)
    return draft.ref


@pytest.fixture(scope="session")
def full_shop(shop: Shop, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The shop with a classifier, a scorer and a table of items as well."""
    store, table, work = Store(shop.root), products(), tmp_path_factory.mktemp("work")
    publish_classifier(store, table, minilm)
    publish_scorer(store, table, minilm, work)
    order = np.argsort(table["product_id"].to_numpy(zero_copy_only=False))
    vectors = shop.encoder.encode_items([f"item {title}" for title in table["title"].to_pylist()])[order]
    listed = table.take(pa.array(order))
    paths = [" > ".join(path) for path in listed["category"].to_pylist()]
    rows, scores = nearest_items(vectors, paths, ItemTableSettings(k=30))
    items = pa.table({"product_id": listed["product_id"], "category": paths})
    with store.publish("table/items") as draft:
        ItemTable(items, rows, scores, TEMPERATURE).save(draft.path, ItemTableSettings(k=30))
    return shop


def publish_classifier(store: Store, table: pa.Table, minilm: Path) -> None:
    """Publish a classifier that is not trained: a label is probable where its text is near the query's."""
    space = LabelSpace(pa.concat_tables([category_labels(table), column_labels(table, "brand")]))
    classifier = QueryClassifier.from_encoder(minilm, space, {}, QueryClassifierSettings(structure_enhanced=False))
    counts = {task: np.arange(int(space.predicted[space.rows(task)].sum())) + 1 for task in space.tasks}
    limits = {name: np.full(len(found), 0.3, np.float32) for name, found in counts.items()}
    with store.publish("classifier/query") as draft:
        save_classifier(draft.path, classifier, counts, limits)


def publish_scorer(store: Store, table: pa.Table, minilm: Path, work: Path) -> None:
    model = RelevanceModel.from_encoder(minilm, RelevanceModelSettings(hidden=4))
    model.save(work / "model")
    ids, texts = table["product_id"].to_pylist(), TEXT.compose(table)
    known = [["red lamp"] if "lamp" in text else [] for text in texts]
    rows = {"product_id": ids, "product_text": texts, "queries": known, "weights": [[1.0] * len(one) for one in known]}
    neighbours = ProductQueries.of(pa.table(rows), work / "model" / "encoder")
    queries = ["lamp", "red shoe", "kettle", "hose"] * 10
    evidence = gather_evidence(model, neighbours, queries, texts[:: len(texts) // 40][:40], ids[:: len(ids) // 40][:40])
    with store.publish("scorer/relevance") as draft:
        hybrid = Hybrid.fit(evidence, np.arange(40) % 3 == 0)
        save_scorer(draft.path, work / "model", neighbours, hybrid, TEXT, THRESHOLD)


@pytest.fixture(scope="session")
def everything(full_shop: Shop) -> ServeSettings:
    """Settings that serve all artifacts of the shop."""
    return ServeSettings(
        store=str(full_shop.root),
        index="index/shop",
        classifier="classifier/query",
        scorer="scorer/relevance",
        items="table/items",
        max_k=200,
    )


@pytest.fixture(scope="session")
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(scope="session")
def make_service(shop: Shop, metrics: Metrics) -> Callable[..., Service]:
    """Return a function that makes a service over the shop, with models of this process unless others are given."""

    def make(models: Models | None = None, settings: ServeSettings | None = None, **changes: Any) -> Service:
        settings = settings or ServeSettings(store=str(shop.root), index="index/shop")
        settings = settings.model_copy(update=changes)
        pinned = bundles.pin(
            Store(settings.store), settings.index, settings.classifier, settings.scorer, settings.items
        )
        return Service(settings, versions_of(pinned), models or LocalModels(settings.store), metrics)

    return make


@pytest.fixture(scope="session")
def service(make_service: Callable[..., Service]) -> Service:
    return make_service()


@pytest.fixture(scope="session")
def full_service(everything: ServeSettings, make_service: Callable[..., Service]) -> Service:
    """A service of every kind of request, warmed as a replica is: what numba compiles first takes seconds."""
    service = make_service(settings=everything)
    asyncio.run(service.warm())
    return service


@pytest.fixture(scope="module")
def client(full_service: Service, metrics: Metrics) -> Iterator[TestClient]:
    with TestClient(build_api(full_service, metrics, LimitSettings()), base_url="http://localhost") as client:
        yield client


def post(client: TestClient, path: str, **request: Any) -> dict[str, Any]:
    response = client.post(path, json=request)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.fixture
def store(shop: Shop, tmp_path: Path) -> Store:
    """A copy of the shop's store with `bundle/shop`."""
    for kind in ("encoder", "index", "tables"):
        shutil.copytree(shop.root / kind / "shop", tmp_path / kind / "shop")
    store = Store(tmp_path)
    bundles.publish(store, "shop", bundles.pin(store, "index/shop"))
    return store


def smaller_index(store: Store, rows: int, encoder: str | None = None) -> Artifact:
    """Publish an index of the first rows of the products; return its artifact."""
    tables = store.get("tables/shop").ref
    table = pq.read_table(store.path(tables) / "products").slice(0, rows)
    made_with = store.get(encoder or "encoder/shop")
    publish_index(store, Encoder.load(store.path(made_with.ref)), table, "index/shop", [made_with.ref, tables])
    return store.get("index/shop")


def publish_bundle(store: Store, rows: int) -> Artifact:
    smaller_index(store, rows)
    return bundles.publish(store, "shop", bundles.pin(store, "index/shop"))
