"""A store with a small shop, and its index and encoder, for comparison with the server's answers."""

import warnings
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pyarrow as pa
import pytest

from raylevance.artifacts import Store
from raylevance.data.schema import PRODUCTS
from raylevance.index.grades import GradeBands
from raylevance.index.products import ProductIndex, ProductIndexSettings
from raylevance.models.encoder import Encoder

with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
    import ray.serve  # noqa: F401  Ray 2.60 declares its settings in a way that pydantic deprecates

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


@dataclass(frozen=True)
class Shop:
    """The folder of a store with `index/shop`, and the index and encoder, loaded."""

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
    store = Store(tmp_path_factory.mktemp("store"))
    encoder = Encoder.load(minilm)
    with store.publish("encoder/shop") as encoder_draft:
        encoder.save(encoder_draft.path)
    table = products()
    texts = [f"{row['brand'] or ''} {row['title']}" for row in table.to_pylist()]
    with store.publish("tables/shop") as tables_draft:
        (tables_draft.path / "made-by").write_text("tests/serve")
    parents = [encoder_draft.ref, tables_draft.ref]
    with store.publish("index/shop", parents=parents) as index_draft:
        vectors = encoder.encode_items(texts)
        bands = GradeBands(moderately=0.35, relevant=0.6)
        ProductIndex.build(table, vectors, ProductIndexSettings(), bands).save(index_draft.path)
    return Shop(Path(str(store)), ProductIndex.load(store.path("index/shop")), encoder)
