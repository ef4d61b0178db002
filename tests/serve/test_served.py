"""From a reference to what is served: the pinned versions, and every way an index can be unfit."""

from pathlib import Path
from typing import Any

import pytest

from raylevance.artifacts import Store
from raylevance.errors import RaylevanceError, UsageError
from serve.bundle import Served, pin


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def publish(store: Store, name: str, parents: tuple[str, ...] = ()) -> str:
    with store.publish(name, parents=parents) as draft:
        (draft.path / "weights").write_text(name)
    return draft.ref


def publish_index(store: Store) -> str:
    return publish(store, "index/stage1", (publish(store, "tables/esci"), publish(store, "encoder/stage1")))


def test_the_newest_index_pins_what_made_it(store: Store) -> None:
    index = publish_index(store)
    versions = pin(store, "index/stage1")
    assert versions.index == index
    assert versions.encoder == store.get("encoder/stage1").ref
    assert versions.tables == store.get("tables/esci").ref
    assert pin(store, index) == versions


def test_a_missing_index_names_the_nearest(store: Store) -> None:
    publish_index(store)
    with pytest.raises(RaylevanceError, match=r"index/stage2: no such artifact .* did you mean 'index/stage1'"):
        pin(store, "index/stage2")


def test_only_an_index_is_served(store: Store) -> None:
    with pytest.raises(UsageError, match="encoder/stage1: not an index"):
        pin(store, "encoder/stage1")


@pytest.mark.parametrize(("parent", "missing"), [("tables/esci", "encoder"), ("encoder/stage1", "tables")])
def test_an_index_of_unknown_origin_is_refused(store: Store, parent: str, missing: str) -> None:
    publish(store, "index/stage1", (publish(store, parent),))
    with pytest.raises(RaylevanceError, match=f"names no {missing} that it was made from"):
        pin(store, "index/stage1")


@pytest.mark.parametrize("kind", ["index", "encoder"])
def test_a_damaged_file_is_named(store: Store, kind: str) -> None:
    publish_index(store)
    damaged = store.path(f"{kind}/stage1") / "weights"
    damaged.write_text("torn")
    with pytest.raises(RaylevanceError, match=f"{damaged} is damaged"):
        pin(store, "index/stage1")


def test_what_is_published_as_an_index_and_is_none_is_refused(store: Store) -> None:
    publish_index(store)
    with pytest.raises(RaylevanceError):
        Served.load(str(store), pin(store, "index/stage1"))


def test_served_can_not_be_changed(shop: Any) -> None:
    served = Served.load(str(shop.root), pin(Store(shop.root), "index/shop"))
    with pytest.raises(AttributeError):
        served.index = shop.index
