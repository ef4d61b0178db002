"""Mining of a recipe over a million products: the memory of its driver and workers, and what it finds."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from raylevance.artifacts import Store
from raylevance.data.judged_tables import TRAIN, JudgedTables
from raylevance.inference.embeddings import embed_products
from raylevance.inference.encoder import load as load_encoder
from raylevance.inference.encoding import encode_texts
from tests.peak_memory import peak_bytes
from workloads.steps.mining import MINED, MineSettings

LIMIT = 8 << 30
PRODUCTS, QUERIES, K, LOOKED_AT = 1_000_000, 10_000, 100, 50
WORK = f"""
from raylevance.artifacts import Store
from raylevance.demo import DemoSettings, generate
from raylevance.data.text import ProductText
from raylevance.models.encoder import Encoder, EncoderSettings
from raylevance.data.judged_tables import JudgedTables
from raylevance.training.settings import MachineSettings
from workloads.steps.encoder_training import Trainer
from workloads.steps.mining import MineSettings, mining_step
from workloads.steps.retrieval_data import RetrievalData
from workloads.run import Run
store, text = Store(Path(sys.argv[1])), ProductText()
with store.publish("tables/demo") as draft:
    generate(DemoSettings(products={PRODUCTS}, queries={QUERIES * 5 // 3 + 1_000}, events=0), draft.path)
with store.publish("encoder/tiny") as draft:
    Encoder.from_backbone(EncoderSettings(backbone=sys.argv[2], max_item_tokens=32)).save(draft.path)
with Run(store) as run:
    tables, encoder = store.get("tables/demo"), store.get("encoder/tiny")
    train = JudgedTables.open(store.path(tables.ref)).split("train")
    trainer = Trainer(MachineSettings(), seed=0)
    data = RetrievalData(run, tables, train, train, train, train, (), text, trainer)
    mining_step(data, "pairs/mined", encoder, MineSettings(unjudged="skip", k={K}))
"""


@pytest.mark.long
def test_ten_thousand_queries_over_a_million_products_in_eight_gibibytes(tmp_path: Path, tiny_backbone: Path) -> None:
    assert peak_bytes(WORK, tmp_path, tiny_backbone, object_store=500_000_000) < LIMIT
    store = Store(tmp_path)
    train = JudgedTables.open(store.path("tables/demo")).split(TRAIN)
    assert train.queries.num_rows >= QUERIES
    assert store.get("pairs/mined").metrics["candidates"] == train.queries.num_rows * K
    mined = pq.read_table(store.path("pairs/mined") / MINED)
    found = set(zip(mined["query_id"].to_pylist(), mined["product_id"].to_pylist(), strict=True))
    nearest = exactly(store, train)
    judged = zip(train.judgements["query_id"].to_pylist(), train.judgements["product_id"].to_pylist(), strict=True)
    expected = nearest & set(judged)
    assert expected and len(expected & found) >= 0.95 * len(expected)


def exactly(store: Store, train: JudgedTables) -> set[tuple[str, str]]:
    """The nearest products of some queries, by one product of matrices."""
    encoder = load_encoder(store, "encoder/tiny")
    queries = train.queries.slice(0, LOOKED_AT)
    files = embed_products(store, encoder, store.path("tables/demo") / "products", MineSettings().rows_per_shard)
    products = np.concatenate([np.load(file) for file in files])
    scores = encode_texts(encoder.path, queries["query"].to_pylist(), "query") @ products.T
    nearest = np.argpartition(-scores, K, axis=1)[:, :K]
    ids = train.products["product_id"].to_numpy(zero_copy_only=False)
    names = queries["query_id"].to_pylist()
    return {(name, product) for name, row in zip(names, nearest, strict=True) for product in ids[row].tolist()}
