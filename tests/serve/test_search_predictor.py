"""The search predictor of `raylevance.inference.search`, loaded from a store and used from a script."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raylevance.artifacts import Store
from raylevance.errors import UsageError
from raylevance.index.filters import Filters
from raylevance.inference.search import load, load_index, pin

ROOT = Path(__file__).parents[2]


def test_a_loaded_search_answers_like_the_index(shop: Any) -> None:
    search = load(Store(shop.root), "index/shop")
    filters = Filters(category=["Home"], locale="us")
    hits = search("blue desk lamp", k=5, filters=filters, minimum_grade=1)
    vectors = shop.encoder.encode_queries(["blue desk lamp"])
    [expected] = shop.index.search(["blue desk lamp"], vectors, 5, filters=filters, minimum_grade=1)
    assert [(hit.product_id, hit.score, hit.grade) for hit in hits] == [
        (hit.product_id, hit.score, hit.grade) for hit in expected
    ]
    assert hits[0].title.lower().startswith("blue desk lamp")
    assert hits[0].category == ["Home", "Lighting"]
    assert search.products.versions == pin(Store(shop.root), "index/shop")


def test_a_pinned_version_is_loaded_when_a_newer_one_exists(shop: Any, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.publish("encoder/shop") as encoder:
        (encoder.path / "weights").write_text("weights")
    with store.publish("tables/shop") as tables:
        (tables.path / "rows").write_text("rows")
    parents = [encoder.ref, tables.ref]
    with store.publish("index/shop", parents=parents) as first:
        shop.index.save(first.path)
    versions = pin(store, "index/shop")
    with store.publish("index/shop", parents=parents) as second:
        (second.path / "index.json").write_text("not an index")
    assert pin(store, "index/shop").index == second.ref
    assert versions.index == first.ref
    assert len(load_index(store, versions).index) == len(shop.index)


def test_only_an_index_can_be_searched(shop: Any) -> None:
    with pytest.raises(UsageError, match="encoder/shop: not an index; expected index/NAME"):
        load(Store(shop.root), "encoder/shop")


def test_a_process_that_only_holds_an_index_does_not_import_torch(shop: Any) -> None:
    code = f"""
import sys
from raylevance.artifacts import Store
from raylevance.inference.search import load_index, pin
store = Store({str(shop.root)!r})
load_index(store, pin(store, "index/shop"))
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
