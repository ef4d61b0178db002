"""`raylevance bundle` and `raylevance token`: what they print, what they change, and their errors."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from raylevance.artifacts import Store
from raylevance.tokens import read_tokens
from tests.conftest import Ended

Command = Callable[..., Ended]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with an index, and a classifier and a table of items beside it."""
    store = Store(tmp_path / "store")
    publish(store, "index/shop", "first")
    for name in ("classifier/query", "table/items"):
        with store.publish(name) as draft:
            (draft.path / "weights").write_text(name)
    return store


def publish(store: Store, name: str, text: str) -> str:
    parents = []
    for parent in ("encoder/shop", "tables/shop"):
        with store.publish(parent) as draft:
            (draft.path / "weights").write_text(parent)
        parents.append(draft.ref)
    with store.publish(name, parents=parents) as draft:
        (draft.path / "weights").write_text(text)
    return draft.ref


def test_a_bundle_is_published_and_rolled_back(raylevance: Command, store: Store) -> None:
    first_index = store.get("index/shop").ref
    parts = ("--index", "index/shop", "--classifier", "classifier/query", "--items", "table/items", "--store", store)
    first = json.loads(raylevance("bundle", "publish", "shop", *parts, "--json").out)
    assert first["index"] == first_index
    assert first["encoder"] == store.get("encoder/shop").ref
    assert first["classifier"] == store.get("classifier/query").ref
    assert first["items"] == store.get("table/items").ref
    assert "scorer" not in first
    publish(store, "index/shop", "second")
    second = json.loads(raylevance("bundle", "publish", "bundle/shop", *parts, "--json").out)
    assert store.get("bundle/shop").ref == second["bundle"] != first["bundle"]
    back = json.loads(raylevance("bundle", "rollback", "shop", "--store", store, "--json").out)
    assert (back["bundle"], back["before"]) == (first["bundle"], second["bundle"])
    assert store.get("bundle/shop").ref == first["bundle"]
    version = second["bundle"].partition("@")[2]
    raylevance("bundle", "rollback", "shop", "--to", version, "--store", store)
    assert store.get("bundle/shop").ref == second["bundle"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("publish", "shop", "--index", "index/shp"), 1, "index/shp: no such artifact"),
        (("publish", "shop", "--index", "classifier/query"), 2, "classifier/query: not an index"),
        (("publish", "shop", "--index", "index/shop", "--scorer", "index/shop"), 2, "scorer 'index/shop': expected"),
        (("publish", "shop@1", "--index", "index/shop"), 2, "shop@1: expected NAME or bundle/NAME"),
        (("rollback", "shop"), 1, "bundle/shop: no such artifact"),
    ],
)
def test_a_bundle_that_cannot_be_is_one_line(
    raylevance: Command, store: Store, arguments: tuple[str, ...], code: int, message: str
) -> None:
    ended = raylevance("bundle", *arguments, "--store", store)
    assert ended.code == code
    assert message in ended.err.splitlines()[-1]


def test_tokens_come_and_go(raylevance: Command, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    token = raylevance("token", "add", "shop", "--file", file).out.strip()
    made = json.loads(
        raylevance("token", "add", "ops", "--scope", "admin", "--scope", "search", "--file", file, "--json").out
    )
    assert made["scopes"] == ["search", "admin"]
    assert read_tokens(file)["shop"].sha256 == hashlib.sha256(token.encode()).hexdigest()
    listed = json.loads(raylevance("token", "list", "--file", file, "--json").out)
    assert listed["tokens"] == {"shop": ["search"], "ops": ["search", "admin"]}
    raylevance("token", "remove", "shop", "--file", file)
    assert set(read_tokens(file)) == {"ops"}
    again = raylevance("token", "remove", "shop", "--file", file)
    assert (again.code, again.err.splitlines()[-1].count("has no token 'shop'; it has ops")) == (2, 1)
    wrong = raylevance("token", "add", "x", "--scope", "root", "--file", file)
    assert (wrong.code, "--scope root: expected search or admin" in wrong.err) == (2, True)


def test_the_list_of_a_store_names_what_it_can_not_read(raylevance: Command, tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("index/shop", "encoder/x"):
        with store.publish(name) as draft:
            (draft.path / "a").write_text(name)
    torn = tmp_path / "encoder" / "x" / store.get("encoder/x").version / "manifest.json"
    torn.write_text('{"name": "enc')
    ended = raylevance("store", "list", "--store", tmp_path)
    assert (ended.code, store.get("index/shop").ref in ended.out) == (1, True)
    assert ended.err.startswith(f"raylevance: {torn}: not a manifest")
