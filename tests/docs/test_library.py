"""The examples of docs/library.md run in their order, against a store that the small recipe has filled."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raylevance.artifacts import Store
from raylevance.data import JudgedTables
from raylevance.index.item_table import ItemTable, ItemTableSettings, nearest_items
from tests.serve.conftest import publish_classifier

LIBRARY = (Path(__file__).parents[2] / "docs" / "library.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^## (\d+)\. .*?```python\n(.*?)```", LIBRARY, re.MULTILINE | re.DOTALL)


def publish_item_table(store: Store, products: pa.Table) -> None:
    """Publish `table/items` of the products, with vectors that mean nothing."""
    ids = np.sort(products["product_id"].to_numpy(zero_copy_only=False))
    vectors = np.random.default_rng(0).normal(size=(len(ids), 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    settings, categories = ItemTableSettings(k=20), [None] * len(ids)
    items = pa.table({"product_id": ids, "category": pa.array(categories, pa.string())})
    with store.publish("table/items") as draft:
        ItemTable(items, *nearest_items(vectors, categories, settings), 0.1).save(draft.path, settings)


@pytest.mark.ray
def test_the_examples_of_the_library_run(
    small_store: Path,
    minilm: Path,
    ray_cluster: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert [int(number) for number, _ in EXAMPLES] == list(range(1, 13))
    shutil.copytree(small_store, tmp_path / "store")
    store = Store(tmp_path / "store")
    products = JudgedTables.open(store.path("tables/demo")).products
    publish_classifier(store, products, minilm)
    publish_item_table(store, products)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for number, code in EXAMPLES:
        exec(compile(code, f"docs/library.md, example {number}", "exec"), names)
    assert names["result"].steps == 2 and (tmp_path / "trained" / "encoder.json").is_file()
    assert len(names["classifier"].labels("category")) > 1 and names["label"].probability > 0
    assert names["found"].items.shape == (1, 5) and not set(names["clicked"]) & set(names["found"].items[0])
    assert names["scores"].grad is not None and names["loss"].item() > 0
    assert capsys.readouterr().out.splitlines()[-1] == "True", "walks over shards are those over the whole graph"
