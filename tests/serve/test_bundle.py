"""Pinned versions, and the errors for an index that cannot be served."""

from pathlib import Path

import pytest

from raylevance.artifacts import Store
from raylevance.errors import RaylevanceError, UsageError
from serve.app import pin_versions
from serve.bundle import Bundle
from serve.settings import ServeSettings


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def publish(store: Store, name: str, parents: tuple[str, ...] = ()) -> str:
    with store.publish(name, parents=parents) as draft:
        (draft.path / "weights").write_text(name)
    return draft.ref


def publish_index(store: Store) -> str:
    return publish(store, "index/stage1", (publish(store, "tables/esci"), publish(store, "encoder/stage1")))


def settings(store: Store, index: str = "index/stage1") -> ServeSettings:
    return ServeSettings(store=str(store), index=index)


def test_the_newest_index_pins_its_encoder_and_tables(store: Store) -> None:
    index = publish_index(store)
    versions = pin_versions(settings(store))
    assert versions.index == index
    assert versions.encoder == store.get("encoder/stage1").ref
    assert versions.tables == store.get("tables/esci").ref
    assert pin_versions(settings(store, index)) == versions


def test_a_missing_index_names_the_nearest(store: Store) -> None:
    publish_index(store)
    with pytest.raises(RaylevanceError, match=r"index/stage2: no such artifact .* did you mean 'index/stage1'"):
        pin_versions(settings(store, "index/stage2"))


def test_only_an_index_is_served(store: Store) -> None:
    with pytest.raises(UsageError, match="encoder/stage1: not an index"):
        pin_versions(settings(store, "encoder/stage1"))


@pytest.mark.parametrize(("parent", "missing"), [("tables/esci", "encoder"), ("encoder/stage1", "tables")])
def test_an_index_without_a_parent_is_refused(store: Store, parent: str, missing: str) -> None:
    publish(store, "index/stage1", (publish(store, parent),))
    with pytest.raises(RaylevanceError, match=f"does not name the {missing} that it was made from"):
        pin_versions(settings(store))


@pytest.mark.parametrize("kind", ["index", "encoder"])
def test_a_damaged_file_is_named(store: Store, kind: str) -> None:
    publish_index(store)
    damaged = store.path(f"{kind}/stage1") / "weights"
    damaged.write_text("torn")
    with pytest.raises(RaylevanceError, match=f"{damaged} is damaged"):
        pin_versions(settings(store))


def test_an_artifact_without_the_files_of_an_index_is_refused(store: Store) -> None:
    publish_index(store)
    with pytest.raises(RaylevanceError):
        Bundle.load(store, pin_versions(settings(store)))
