"""From a reference to what is served: the pinned versions, and every way an index can be unfit."""

from pathlib import Path
from typing import Any

import pytest

from raylevance.artifacts import Store
from raylevance.errors import RaylevanceError, UsageError
from serve.served import Served, pin


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def publish(store: Store, name: str, parents: tuple[str, ...] = ()) -> str:
    with store.publish(name, parents=parents) as draft:
        (draft.path / "weights").write_text(name)
    return draft.ref


def test_the_newest_index_pins_what_made_it(store: Store) -> None:
    encoder, tables = publish(store, "encoder/stage1"), publish(store, "tables/esci")
    index = publish(store, "index/stage1", (tables, encoder))
    versions = pin(store, "index/stage1")
    assert (versions.index, versions.encoder, versions.tables) == (index, encoder, tables)
    assert pin(store, index) == versions


def test_an_index_over_a_file_has_no_tables(store: Store) -> None:
    publish(store, "index/stage1", (publish(store, "encoder/stage1"),))
    assert pin(store, "index/stage1").tables is None


def test_a_missing_index_names_the_nearest(store: Store) -> None:
    publish(store, "index/stage1", (publish(store, "encoder/stage1"),))
    with pytest.raises(RaylevanceError, match="index/stage2: no such artifact .* did you mean 'index/stage1'"):
        pin(store, "index/stage2")


def test_only_an_index_is_served(store: Store) -> None:
    with pytest.raises(UsageError, match="encoder/stage1: not an index"):
        pin(store, "encoder/stage1")


def test_an_index_of_an_unknown_encoder_is_refused(store: Store) -> None:
    publish(store, "index/stage1")
    with pytest.raises(RaylevanceError, match="names no encoder"):
        pin(store, "index/stage1")


@pytest.mark.parametrize("kind", ["index", "encoder"])
def test_a_damaged_file_is_named(store: Store, kind: str) -> None:
    publish(store, "index/stage1", (publish(store, "encoder/stage1"),))
    damaged = store.path(f"{kind}/stage1") / "weights"
    damaged.write_text("torn")
    with pytest.raises(RaylevanceError, match=f"{damaged} is damaged"):
        pin(store, "index/stage1")


def test_what_is_published_as_an_index_and_is_none_is_refused(store: Store) -> None:
    publish(store, "index/stage1", (publish(store, "encoder/stage1"),))
    with pytest.raises(RaylevanceError):
        Served.load(str(store), pin(store, "index/stage1"))


def test_served_can_not_be_changed(shop: Any) -> None:
    served = Served.load(str(shop.root), pin(Store(shop.root), "index/shop"))
    with pytest.raises(AttributeError):
        served.index = shop.index
