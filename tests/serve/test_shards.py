"""An index whose shards other processes hold answers like one that is whole."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from ray import serve

from raylevance.artifacts import Store
from raylevance.errors import RaylevanceError
from raylevance.index.filters import Filters
from raylevance.index.grades import GradeBands
from raylevance.index.products import ProductIndex, ProductIndexSettings
from raylevance.inference import bundle as bundles
from raylevance.inference import index_shards
from serve import shards as shards_module
from serve.app import application
from serve.arrays import pack, unpack
from serve.loaded import Loaded
from serve.server import deployed, free_port
from serve.settings import ServeSettings
from serve.shards import HeldShards
from tests.serve.conftest import products

QUERIES = ["red running shoes", "kettle", "白い lamp", "something for the garden"]
FILTERS: list[dict[str, Any]] = [{}, {"brand": ["Nøva", "Kestrel"]}, {"category": ["Home", "Kitchen"], "locale": "us"}]


def publish_shards(shop: Any, name: str, shards: int, rows: int) -> str:
    """Publish an index of some products of the shop, in shards; return its reference."""
    store, table = Store(shop.root), products().slice(0, rows)
    texts = [f"{row['brand'] or ''} {row['title']}" for row in table.to_pylist()]
    parents = [store.get("encoder/shop").ref, store.get("tables/shop").ref]
    settings = ProductIndexSettings(shards=shards)
    with store.publish(f"index/{name}", parents=parents) as draft:
        bands = GradeBands(moderately=0.35, relevant=0.6)
        ProductIndex.build(table, shop.encoder.encode_items(texts), settings, bands).save(draft.path)
    return draft.ref


@pytest.fixture(scope="module")
def server(ray_cluster: None, shop: Any) -> Iterator[tuple[str, ServeSettings]]:
    """A server with two processes for three shards, and a pool of encoders, over a bundle."""
    store = Store(shop.root)
    bundles.publish(store, "sharded", bundles.pin(store, publish_shards(shop, "sharded", 3, 200)))
    settings = ServeSettings(
        store=str(store),
        bundle="sharded",
        refresh_s=0.5,
        shard_processes=2,
        encoders=1,
        encoder_cpus=0.25,
        search_cpus=0.25,
        port=free_port("127.0.0.1", 0),
    )
    with deployed(application(settings), settings.host, settings.port) as url:
        httpx.get(f"{url}/readyz", timeout=60).raise_for_status()
        yield url, settings
    serve.shutdown()


def check_answers(server: str, shop: Any, index: ProductIndex) -> None:
    with httpx.Client(base_url=server, trust_env=False, timeout=60) as client:
        for mode in ("dense", "lexical", "hybrid"):
            for filters in FILTERS:
                request = {"k": 20, "mode": mode, "filters": filters, "minimum_grade": 0}
                for query in QUERIES:
                    response = client.post("/v1/search", json={"query": query, **request})
                    assert response.status_code == 200, response.text
                    hits = response.json()["hits"]
                    vectors = shop.encoder.encode_queries([query])
                    [expected] = index.search([query], vectors, 20, mode=mode, filters=Filters(**filters))
                    assert [hit["product_id"] for hit in hits] == [hit.product_id for hit in expected]
                    scores = [hit.score for hit in expected]
                    assert [hit["score"] for hit in hits] == pytest.approx(scores, abs=1e-4)


@pytest.mark.ray
def test_shards_of_other_processes_answer_like_the_whole_index(server: tuple[str, ServeSettings], shop: Any) -> None:
    whole = ProductIndex.load(Store(shop.root).path("index/sharded"))
    assert list(whole.shards.sizes) == [66, 67, 67]
    check_answers(server[0], shop, whole)


@pytest.mark.ray
def test_a_shard_that_died_answers_again(server: tuple[str, ServeSettings]) -> None:
    with httpx.Client(base_url=server[0], trust_env=False, timeout=60) as client:
        request = {"query": "kettle", "mode": "dense", "k": 100}
        before = client.post("/v1/search", json=request).json()["hits"]
        [process] = [
            process
            for process in psutil.process_iter(["cmdline"])
            if "IndexShards1" in " ".join(process.info["cmdline"] or [])
        ]
        process.kill()
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            response = client.post("/v1/search", json={**request, "query": f"kettle {time.monotonic()}"})
            assert response.status_code in (200, 503, 504), response.text
            if response.status_code == 200:
                break
            time.sleep(0.5)
        after = client.post("/v1/search", json={**request, "minimum_grade": 0, "explain": True}).json()["hits"]
    assert [hit["product_id"] for hit in after] == [hit["product_id"] for hit in before]


@pytest.mark.ray
def test_a_bundle_with_another_number_of_shards_takes_over(server: tuple[str, ServeSettings], shop: Any) -> None:
    store = Store(shop.root)
    index = publish_shards(shop, "resharded", 5, 120)
    published = bundles.publish(store, "sharded", bundles.pin(store, index)).ref
    ends = time.monotonic() + 60
    while httpx.get(f"{server[0]}/v1/versions").json()["bundle"] != published:
        assert time.monotonic() < ends, httpx.get(f"{server[0]}/v1/versions").json()
        time.sleep(0.3)
    check_answers(server[0], shop, ProductIndex.load(store.path(index)))


@pytest.mark.ray
def test_a_bundle_with_a_damaged_shard_is_refused(server: tuple[str, ServeSettings], shop: Any) -> None:
    store = Store(shop.root)
    index = publish_shards(shop, "torn", 3, 90)
    bad = bundles.pin(store, index)
    before = httpx.get(f"{server[0]}/v1/versions").json()["bundle"]
    published = bundles.publish(store, "sharded", bad).ref
    file = next((store.path(index) / "shards" / "1" / "vectors").iterdir())
    file.write_bytes(file.read_bytes()[:-5])
    ends = time.monotonic() + 60
    refused: list[Any] = []
    while published not in [found["bundle"] for found in refused]:
        assert time.monotonic() < ends
        time.sleep(0.3)
        refused = httpx.get(f"{server[0]}/v1/versions").json()["refused"]
    [reason] = {found["reason"] for found in refused if found["bundle"] == published}
    assert file.name in reason, "the reason is that of the process that holds the shard"
    assert httpx.get(f"{server[0]}/v1/versions").json()["bundle"] == before
    assert httpx.post(f"{server[0]}/v1/search", json={"query": "lamp 7"}).status_code == 200


@given(arrays.arrays(st.sampled_from([np.float32, np.int64, np.bool_]), arrays.array_shapes(min_side=0, max_dims=3)))
def test_arrays_survive_the_way(array: Any) -> None:
    found = unpack(pack(array))
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


def test_an_array_of_another_type_is_refused() -> None:
    with pytest.raises(KeyError, match="object"):
        unpack(("object", [1], b"12345678"))


def test_values_are_loaded_once_and_the_oldest_goes() -> None:
    loads: list[str] = []

    def load(key: str) -> str:
        loads.append(key)
        if key == "bad" and loads.count(key) == 1:
            raise RaylevanceError("damaged")
        return key.upper()

    async def check() -> None:
        loaded = Loaded(load, most=2)
        assert await asyncio.gather(loaded.get("a"), loaded.get("a"), loaded.get("b")) == ["A", "A", "B"]
        assert loads == ["a", "b"]
        assert await loaded.get("a") == "A"
        assert await loaded.get("c") == "C"  # b was not used for the longest time
        assert [await loaded.get("a"), await loaded.get("b")] == ["A", "B"]
        assert loads == ["a", "b", "c", "b"]
        with pytest.raises(RaylevanceError, match="damaged"):
            await loaded.get("bad")
        assert await loaded.get("bad") == "BAD"
        loaded.drop(["a", "b", "never loaded"])
        assert [await loaded.get("bad"), await loaded.get("b")] == ["BAD", "B"]
        assert loads[-2:] == ["bad", "b"]

    asyncio.run(check())


def test_values_that_nobody_uses_go_but_for_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    returned: list[int] = []
    monkeypatch.setattr("serve.loaded.return_memory", lambda: returned.append(1))

    async def check() -> None:
        loads: list[str] = []

        def load(key: str) -> str:
            loads.append(key)
            return key

        loaded = Loaded(load, most=2, idle_s=1.0)
        for _ in range(12):  # both are in use for longer than that
            assert [await loaded.get("old"), await loaded.get("new")] == ["old", "new"]
            await asyncio.sleep(0.1)
        assert (loads, returned) == (["old", "new"], [])
        for _ in range(24):  # one is not
            assert await loaded.get("new") == "new"
            await asyncio.sleep(0.1)
        assert returned == [1]
        assert [await loaded.get("new"), await loaded.get("old")] == ["new", "old"]
        assert loads == ["old", "new", "old"]

    asyncio.run(check())


def test_shards_of_another_size_than_the_header_says_are_damaged(shop: Any) -> None:
    """Else the rows that a process finds would be those of other products."""
    store = Store(shop.root)
    whole = publish_shards(shop, "sizes", 3, 50)
    with store.publish("index/swapped", parents=store.get(whole).parents) as draft:
        ignored = shutil.ignore_patterns("manifest.json")
        shutil.copytree(store.path(whole), draft.path, ignore=ignored, dirs_exist_ok=True)
        shards = draft.path / "shards"
        for old, new in (("0", "x"), ("1", "0"), ("x", "1")):
            (shards / old).rename(shards / new)
    assert [len(shard) for shard in index_shards.load(store, whole, 0, 2).values()] == [16, 17]
    with pytest.raises(RaylevanceError, match=r"shards/0: damaged index; .* expected 16 products, got 17"):
        index_shards.load(store, draft.ref, 0, 2)


def test_a_process_without_a_shard_says_so(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[Any, ...]] = []
    monkeypatch.setattr(shards_module.log, "warning", lambda *parts: said.append(parts))
    index = publish_shards(shop, "two", 2, 50)
    for number in range(3):
        assert asyncio.run(HeldShards(str(shop.root), number, 3).load(index)) == (None, None)
    [line] = [message % reason for message, reason in said]
    assert "has fewer shards than shard_processes=3, so process 2 is idle" in line
