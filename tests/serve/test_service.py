"""A bundle in service is replaced by a better one as a whole, and stays where the newer one can't answer."""

import asyncio
import gc
import logging
import re
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raylevance.artifacts import Store
from raylevance.client.messages import SearchRequest
from raylevance.errors import RaylevanceError
from raylevance.inference import bundle as bundles
from raylevance.models.encoder import Encoder
from serve import service as service_module
from serve.bundle import Bundle, newest_versions, read_versions
from serve.metrics import Metrics
from serve.models import LocalModels
from serve.service import Service
from serve.settings import ServeSettings
from tests.serve.conftest import publish_bundle, smaller_index

REQUEST = SearchRequest(query="red lamp", k=3, mode="dense")


@pytest.fixture
def service(store: Store, metrics: Metrics) -> Service:
    settings = ServeSettings(store=str(store), bundle="bundle/shop", refresh_s=0.1)
    return Service(settings, read_versions(store, "bundle/shop"), LocalModels(str(store)), metrics)


def test_a_newer_bundle_takes_over_while_requests_run(store: Store, service: Service) -> None:
    async def run() -> None:
        first = service.answers.bundle.versions
        held = service.answers
        newer = publish_bundle(store, 60)
        assert await service.update()
        assert not await service.update(), "it is in service already"
        now = await service.answers.search(REQUEST)
        before = await held.search(REQUEST)
        assert (before.versions, len(held.bundle.products.index)) == (first, 200)
        assert (now.versions.bundle, now.versions.index) == (newer.ref, store.get("index/shop").ref)
        assert {hit.product_id for hit in now.hits} <= {f"P{row:03}" for row in range(60)}

    asyncio.run(run())


def test_replicas_that_follow_converge(store: Store, metrics: Metrics) -> None:
    settings = ServeSettings(store=str(store), bundle="bundle/shop", refresh_s=0.05)
    versions = read_versions(store, "bundle/shop")

    async def run() -> None:
        services = [Service(settings, versions, LocalModels(str(store)), metrics) for _ in range(2)]
        for one in services:
            one.start()
        newer = publish_bundle(store, 60)
        for _ in range(400):
            if all(one.answers.bundle.versions.bundle == newer.ref for one in services):
                break
            await asyncio.sleep(0.05)
        assert {one.answers.bundle.versions.bundle for one in services} == {newer.ref}
        for one in services:
            await one.stop()

    asyncio.run(run())


def damage_index(store: Store) -> str:
    newer = publish_bundle(store, 60)
    file = next((store.path(store.get("index/shop").ref) / "vectors").iterdir())
    file.write_bytes(file.read_bytes()[:-7] + b"garbage")
    assert newer.ref
    return "is damaged"


def tear_bundle(store: Store) -> str:
    newer = publish_bundle(store, 60)
    (store.path(newer.ref) / bundles.FILE).write_text('{"index": "index/sh')
    return "is damaged"


def lose_a_file(store: Store) -> str:
    publish_bundle(store, 60)
    next((store.path(store.get("index/shop").ref) / "lexical").iterdir()).unlink()
    return "is missing"


def name_another_encoder(store: Store) -> str:
    """Publish, past the checks of `publish`, a bundle whose encoder is not the one that its index was made with."""
    made = Encoder.load(store.path("encoder/shop"))
    made.settings = made.settings.model_copy(update={"query_prompt": "query: "})
    with store.publish("encoder/other") as draft:
        made.save(draft.path)
    versions = bundles.pin(store, "index/shop").model_copy(update={"encoder": draft.ref})
    with store.publish("bundle/shop", parents=versions.references()) as bundle_draft:
        (bundle_draft.path / bundles.FILE).write_text(versions.model_dump_json())
    return "was made with encoder/shop@"


def fit_no_vectors(store: Store, tiny_backbone: Path) -> str:
    """Publish a bundle whose encoder has another dimension than the vectors of its index."""
    with store.publish("encoder/tiny") as draft:
        Encoder.load(tiny_backbone).save(draft.path)
    with store.publish("index/unfit", parents=[draft.ref, store.get("tables/shop").ref]) as index_draft:
        shutil.copytree(
            store.path("index/shop"), index_draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest*")
        )
    bundles.publish(store, "shop", bundles.pin(store, "index/unfit"))
    return "384 dimensions"


@pytest.mark.parametrize("fault", [damage_index, tear_bundle, lose_a_file, name_another_encoder, fit_no_vectors])
def test_a_bundle_that_cannot_answer_is_refused_and_the_last_good_one_stays(
    store: Store, service: Service, tiny_backbone: Path, fault: Callable[..., str]
) -> None:
    async def run() -> None:
        good = service.answers
        before = await good.search(REQUEST)
        reason = fault(store, tiny_backbone) if fault is fit_no_vectors else fault(store)
        newest = [artifact for artifact in store.artifacts() if artifact.name == "bundle/shop"][-1].ref
        assert not await service.update()
        assert not await service.update(), "a pause comes first"
        assert service.answers is good
        assert len(service.refused) == 1
        assert service.refused[0].bundle == newest
        assert reason in service.refused[0].reason
        after = await service.answers.search(REQUEST.model_copy(update={"k": 4}))
        assert after.hits[:3] == before.hits
        assert after.versions == before.versions
        repaired = publish_bundle(store, 70)
        assert await service.update()
        assert service.answers.bundle.versions.bundle == repaired.ref
        assert [refused.bundle for refused in service.refused] == [newest]

    asyncio.run(run())


def test_rollback_puts_the_bundle_before_back(store: Store, service: Service) -> None:
    first = store.get("bundle/shop")

    async def run() -> None:
        second = publish_bundle(store, 60)
        assert await service.update()
        left, now = bundles.rollback(store, "shop")
        assert (left.ref, now.ref) == (second.ref, first.ref)
        assert await service.update()
        assert service.answers.bundle.versions.bundle == first.ref
        bundles.rollback(store, "shop")
        assert await service.update()
        assert service.answers.bundle.versions.bundle == second.ref

    asyncio.run(run())


def test_a_bundle_cannot_be_changed(service: Service) -> None:
    bundle: Any = service.answers.bundle
    assert isinstance(bundle, Bundle)
    with pytest.raises(AttributeError):
        bundle.products = None


def test_a_fixed_version_is_not_followed(store: Store, metrics: Metrics) -> None:
    fixed = store.get("bundle/shop").ref
    settings = ServeSettings(store=str(store), bundle=fixed, refresh_s=0.05)
    service = Service(settings, read_versions(store, fixed), LocalModels(str(store)), metrics)

    async def run() -> None:
        service.start()
        publish_bundle(store, 60)
        await asyncio.sleep(0.3)
        assert not await service.update()
        assert service.answers.bundle.versions.bundle == fixed

    asyncio.run(run())


@pytest.mark.parametrize("fault", [damage_index, fit_no_vectors])
def test_a_version_that_was_named_is_not_replaced_by_another(
    store: Store, metrics: Metrics, tiny_backbone: Path, fault: Callable[..., str]
) -> None:
    reason = fault(store, tiny_backbone) if fault is fit_no_vectors else fault(store)
    named = store.get("bundle/shop").ref
    settings = ServeSettings(store=str(store), bundle=named)

    async def run() -> None:
        service = Service(settings, read_versions(store, named), LocalModels(str(store)), metrics)
        await service.warm()

    with pytest.raises(Exception, match=re.escape(reason)):
        asyncio.run(run())


def test_a_fault_of_the_store_that_has_passed_is_listed_no_more(
    store: Store, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    torn = store.path(publish_bundle(store, 70).ref) / "manifest.json"
    whole = torn.read_text()
    torn.write_text('{"name": "bundle/')

    async def run() -> None:
        for _ in range(3):
            await service.update()
        assert [refused.bundle for refused in service.refused] == ["bundle/shop"]
        assert sum("is refused" in record.message for record in caplog.records) == 1
        torn.write_text(whole)
        assert await service.update()
        assert not service.refused

    caplog.set_level("ERROR", logger="ray.serve")
    logging.getLogger("ray.serve").addHandler(caplog.handler)
    try:
        asyncio.run(run())
    finally:
        logging.getLogger("ray.serve").removeHandler(caplog.handler)


def test_a_passing_fault_is_tried_again(store: Store, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Bundle.load
    faults = [OSError("stale file handle")]

    def sometimes(*arguments: Any, **options: Any) -> Bundle:
        if faults:
            raise faults.pop()
        return load(*arguments, **options)

    async def run() -> None:
        newer = publish_bundle(store, 60)
        monkeypatch.setattr(Bundle, "load", sometimes)
        assert not await service.update()
        assert "stale file handle" in service.refused[0].reason
        assert await service.update(retry=True)
        assert service.answers.bundle.versions.bundle == newer.ref
        assert not service.refused, "it is in service now"

    asyncio.run(run())


def test_a_fault_is_tried_again_after_a_pause(store: Store, service: Service) -> None:
    async def run() -> None:
        reason = damage_index(store)
        for _ in range(3):
            assert not await service.update()
            await asyncio.sleep(0.25)
        assert len(service.refused) == 1, "the same reason is listed once"
        assert reason in service.refused[0].reason
        assert str(store) not in service.refused[0].reason
        [(attempts, _)] = service._attempts.values()
        assert attempts == 2, "0.2 s after the first attempt, then 0.4 s"

    asyncio.run(run())


def test_an_update_goes_on_where_its_caller_leaves(store: Store, service: Service) -> None:
    async def run() -> None:
        newer = publish_bundle(store, 60)
        caller = asyncio.create_task(service.update())
        await asyncio.sleep(0.01)
        caller.cancel()
        for _ in range(200):
            if service.answers.bundle.versions.bundle == newer.ref:
                break
            await asyncio.sleep(0.05)
        assert service.answers.bundle.versions.bundle == newer.ref

    asyncio.run(run())


def test_a_torn_manifest_does_not_keep_later_bundles_out(store: Store, service: Service) -> None:
    torn = store.path(publish_bundle(store, 70).ref) / "manifest.json"
    torn.write_text('{"name": "bundle/')

    async def run() -> None:
        newer = publish_bundle(store, 60)
        assert await service.update()
        assert service.answers.bundle.versions.bundle == newer.ref
        assert any("not a manifest" in refused.reason for refused in service.refused)
        _, before = bundles.rollback(store, "shop")
        assert await service.update()
        assert service.answers.bundle.versions.bundle == before.ref

    asyncio.run(run())


def test_an_older_bundle_does_not_replace_one_whose_manifest_cannot_be_read(store: Store, service: Service) -> None:
    async def run() -> None:
        second = publish_bundle(store, 60)
        assert await service.update()
        assert service.answers.bundle.versions.bundle == second.ref
        manifest = store.path(second.ref) / "manifest.json"
        whole = manifest.read_text()
        manifest.write_text("")
        assert not await service.update()
        assert service.answers.bundle.versions.bundle == second.ref
        manifest.write_text(whole)
        bundles.rollback(store, "shop")
        assert await service.update()

    asyncio.run(run())


def test_one_that_was_published_again_is_newer_than_those_between(store: Store, service: Service) -> None:
    async def run() -> None:
        first = store.get("bundle/shop")
        publish_bundle(store, 60)
        bundles.rollback(store, "shop")
        assert not await service.update(), "the first is in service already"
        (store.path(first.ref) / "manifest.json").write_text("")
        assert not await service.update()
        assert service.answers.bundle.versions.bundle == first.ref

    asyncio.run(run())


def test_a_good_bundle_below_a_damaged_newer_one_is_taken(store: Store, service: Service) -> None:
    async def run() -> None:
        good = publish_bundle(store, 70)
        reason = damage_index(store)
        newest = store.get("bundle/shop").ref
        service._settings = service._settings.model_copy(update={"refresh_s": 600})
        assert await service.update()
        assert service.answers.bundle.versions.bundle == good.ref
        refused_at = service.refused[0].time
        assert not await service.update(), "a pause comes first"
        assert service.refused[0].time == refused_at
        assert [(known.bundle, reason in known.reason) for known in service.refused] == [(newest, True)]

    asyncio.run(run())


def test_a_reload_looks_again_after_an_update_that_runs(store: Store, service: Service) -> None:
    async def run() -> None:
        publish_bundle(store, 60)
        running = asyncio.create_task(service.update())
        while service._updating is None:
            await asyncio.sleep(0)
        listed = asyncio.Event()
        take = service._take

        async def slow_take(reference: str) -> None:
            listed.set()
            await take(reference)

        service._take = slow_take  # type: ignore[method-assign]
        await listed.wait()
        newer = publish_bundle(store, 70)
        await service.update(retry=True)
        assert service.answers.bundle.versions.bundle == newer.ref
        assert await running

    asyncio.run(run())


@pytest.mark.parametrize("fault", [damage_index, tear_bundle, name_another_encoder, fit_no_vectors])
def test_a_replica_that_starts_takes_the_last_good_bundle(
    store: Store, metrics: Metrics, tiny_backbone: Path, fault: Callable[..., str]
) -> None:
    good = store.get("bundle/shop").ref
    reason = fault(store, tiny_backbone) if fault is fit_no_vectors else fault(store)
    settings = ServeSettings(store=str(store), bundle="bundle/shop")

    async def run() -> None:
        service = Service(settings, newest_versions(store, "bundle/shop"), LocalModels(str(store)), metrics)
        await service.warm()
        assert service.answers.bundle.versions.bundle == good
        assert (await service.answers.search(REQUEST)).hits
        assert not await service.update()
        assert any(reason in refused.reason for refused in service.refused)

    asyncio.run(run())


def test_nothing_that_can_be_served_ends_the_start_with_the_reason(store: Store) -> None:
    next((store.path(store.get("index/shop").ref) / "lexical").iterdir()).unlink()
    with pytest.raises(RaylevanceError, match="is missing"):
        newest_versions(store, "bundle/shop")


def test_a_bundle_that_left_is_freed_and_its_models_dropped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the first one, whose objects Ray Serve freezes out of the garbage collection once a replica has started."""
    monkeypatch.setattr(service_module, "FREED_AFTER_S", 0.2)
    models = LocalModels(str(store))
    settings = ServeSettings(store=str(store), bundle="bundle/shop", timeout_s=0.2)
    service = Service(settings, read_versions(store, "bundle/shop"), models, Metrics())

    async def run() -> None:
        await service.warm()
        await service.answers.search(REQUEST)
        first = weakref.ref(service.answers.bundle)
        gc.freeze()
        try:
            for rows, prompt in ((60, "a: "), (70, "b: ")):
                encoder = Encoder.load(store.path("encoder/shop"))
                encoder.settings = encoder.settings.model_copy(update={"query_prompt": prompt})
                with store.publish("encoder/new") as draft:
                    encoder.save(draft.path)
                smaller_index(store, rows, draft.ref)
                bundles.publish(store, "shop", bundles.pin(store, "index/shop"))
                assert await service.update()
            assert first() is None
        finally:
            gc.unfreeze()
        assert len(models._models._tasks) > 1, "requests that began before may still need them"
        await asyncio.sleep(0.6)
        assert set(models._models._tasks) == {service.answers.bundle.versions.encoder}

    asyncio.run(run())
