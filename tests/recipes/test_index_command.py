"""`raylevance index build`: under which name an index is published, and an index of a pretrained encoder."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylevance.artifacts import Store
from raylevance.data.schema import PRODUCTS
from raylevance.inference import bundle as bundles
from raylevance.models.encoder import Encoder
from tests.conftest import Ended

Command = Callable[..., Ended]
TITLES = {"shoes": ["red running shoe", "blue running shoe", "sock"], "lamps": ["desk lamp", "green desk", "laptop"]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with two catalogues whose products have the same ids."""
    store = Store(tmp_path / "store")
    for name, titles in TITLES.items():
        rows = [{"product_id": f"P{number}", "title": title} for number, title in enumerate(titles)]
        with store.publish(f"tables/{name}") as draft:
            (draft.path / "products").mkdir()
            pq.write_table(pa.Table.from_pylist(rows, schema=PRODUCTS), draft.path / "products" / "0.parquet")
    return store


@pytest.mark.ray
def test_catalogues_under_one_encoder_have_names_of_their_own(
    ray_cluster: None, raylevance: Command, store: Store, tiny_backbone: Path
) -> None:
    refs = {}
    for catalogue, name in (("shoes", "shoes"), ("lamps", "index/lamps"), ("shoes", None)):
        command = ["index", "build", "--encoder", tiny_backbone, "--products", f"tables/{catalogue}", "--store", store]
        ended = raylevance(*command, *(["--name", name] if name else []), "--json")
        assert ended.code == 0, ended.err
        refs[name] = store.get(json.loads(ended.out)["ref"])
    assert [ref.name for ref in refs.values()] == ["index/shoes", "index/lamps", f"index/{tiny_backbone.name}"]
    assert store.get("index/shoes").parents[0] == store.get("tables/shoes").ref
    assert store.get("index/lamps").parents[0] == store.get("tables/lamps").ref


@pytest.mark.ray
def test_a_pretrained_encoder_is_published_once_as_it_is(
    ray_cluster: None, raylevance: Command, store: Store, tiny_backbone: Path, tmp_path: Path
) -> None:
    """A server loads the encoder of an index from the store."""
    odd = tmp_path / "Tëst_Model V2"
    Encoder.load(tiny_backbone).save(odd)
    command = ["index", "build", "--encoder", odd, "--products", "tables/shoes", "--store", store]
    for _ in range(2):
        assert raylevance(*command).code == 0
    published = store.get("encoder/t-st_model-v2")
    assert len(store.versions(published.name)[0]) == 1
    vectors = [Encoder.load(folder).encode_queries(["red shoe"]) for folder in (odd, store.path(published.ref))]
    np.testing.assert_array_equal(*vectors)
    assert bundles.pin(store, "index/t-st_model-v2").encoder == published.ref
