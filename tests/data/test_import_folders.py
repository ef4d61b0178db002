"""What an import reads in a folder: linked folders, folders that can't be read, partitions, and files of no table."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from raylevance.artifacts import digest
from raylevance.data.importing import import_tables
from raylevance.data.input_files import files_below, matching_files
from raylevance.data.readers.tables import read_tables
from raylevance.errors import RaylevanceError
from workloads.steps.tables import import_source


def write_rows(file: Path, *rows: dict[str, Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def make_unreadable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Refuse to list the folder `name`. Root can read every folder, so the system's answer is made up."""
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    write_rows(folder / "products" / "part-0.jsonl", {"product_id": "p1", "title": "a mug"})
    write_rows(folder / "queries.jsonl", {"query_id": "q1", "query": "mug"})
    return folder


def test_linked_folders_are_followed(shop: Path, tmp_path: Path) -> None:
    elsewhere = write_rows(tmp_path / "logs" / "2024" / "a.jsonl", {"request_id": "r"}).parents[1]
    (shop / "events").symlink_to(elsewhere)
    deeper = write_rows(tmp_path / "more" / "b.jsonl", {"request_id": "s"}).parent
    (elsewhere / "2025").symlink_to(deeper)
    expected = [shop / "events" / "2024" / "a.jsonl", shop / "events" / "2025" / "b.jsonl"]
    assert matching_files(shop, "events") == expected
    assert set(files_below(shop)) == {*expected, shop / "products" / "part-0.jsonl", shop / "queries.jsonl"}


def test_a_link_to_a_folder_above_is_refused(shop: Path) -> None:
    (shop / "products" / "again").symlink_to(shop)
    with pytest.raises(RaylevanceError, match="products/again: is a link to a folder that it is in; remove it"):
        files_below(shop)


def test_a_folder_that_is_reached_twice_is_read_once(shop: Path) -> None:
    """A link to the newest day, and two folders with links to each other."""
    day = write_rows(shop / "events" / "2024-05" / "a.jsonl", {"request_id": "r"}).parent
    (shop / "events" / "latest").symlink_to(day)
    assert matching_files(shop, "events") == [day / "a.jsonl"]
    other = write_rows(shop / "events" / "other" / "b.jsonl", {"request_id": "s"}).parent
    (day / "x").symlink_to(other)
    (other / "y").symlink_to(day)
    assert [file.name for file in matching_files(shop, "events")] == ["a.jsonl", "b.jsonl"]


def test_folders_of_no_table_do_not_stop_an_import(
    ray_cluster: None, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop / "above").symlink_to(shop)
    (shop / "lost+found").mkdir()
    make_unreadable(monkeypatch, "lost+found")
    made = import_source("tables", shop, str(tmp_path / "store"), on_bad_row="stop")
    assert made.metrics["files_not_read"] == [] and len(made.metrics["files"]) == 2


def test_a_column_in_the_name_of_a_folder_above_is_no_partition(shop: Path, tmp_path: Path) -> None:
    shop.rename(tmp_path / "locale=us")
    assert set(read_tables(tmp_path / "locale=us")) == {"products", "queries"}


def test_a_folder_that_cannot_be_read_is_named(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_unreadable(monkeypatch, "products")
    with pytest.raises(RaylevanceError, match="shop/products: can't be read: Permission denied"):
        files_below(shop)


def test_a_folder_with_another_name_has_another_digest(shop: Path) -> None:
    """Which table a file belongs to depends on its folder."""
    before = digest(files_below(shop), shop)
    (shop / "products").rename(shop / "judgements")
    assert digest(files_below(shop), shop) != before


def test_a_column_in_the_name_of_a_folder_is_refused(shop: Path) -> None:
    write_rows(shop / "products" / "locale=us" / "part-1.jsonl", {"product_id": "p2", "title": "a rug"})
    with pytest.raises(RaylevanceError, match="the value of locale is in the name of its folder, which is not read"):
        read_tables(shop)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("split", "dev", "split is not one of train, validation, test"),
        ("source", "LLM:gpt", "source is not llm:VERSION, as that of a judge's label must be"),
        ("source", "llm", "source is not llm:VERSION, as that of a judge's label must be"),
    ],
)
def test_a_split_or_source_that_nothing_reads_is_bad(
    ray_cluster: None, shop: Path, tmp_path: Path, column: str, value: str, reason: str
) -> None:
    judgement = {"query_id": "q1", "product_id": "p1", "grade": 2, "source": "human", "split": "train"}
    write_rows(shop / "judgements.jsonl", judgement, {**judgement, column: value})
    with pytest.raises(RaylevanceError) as raised:
        import_tables(read_tables(shop), tmp_path / "tables")
    assert f"row 2: {reason}" in str(raised.value)


@pytest.mark.parametrize("price", [-1, -0.01, float("inf")])
def test_a_price_below_0_or_infinite_is_bad(ray_cluster: None, shop: Path, tmp_path: Path, price: Any) -> None:
    write_rows(shop / "products" / "part-1.jsonl", {"product_id": "p2", "title": "a rug", "price": price})
    with pytest.raises(RaylevanceError, match="row 1: price is not a number of 0 or more"):
        import_tables(read_tables(shop), tmp_path / "tables")


@pytest.mark.parametrize("number", ["9" * 400, "1" + "0" * 400])
def test_a_number_too_large_for_a_float_is_bad(ray_cluster: None, shop: Path, tmp_path: Path, number: str) -> None:
    event = json.dumps({"request_id": "r", "product_id": "p1", "action": "click", "timestamp": 0})
    (shop / "events.jsonl").write_text(event.replace(": 0", f": {number}") + "\n", encoding="utf-8")
    with pytest.raises(RaylevanceError, match="row 1: timestamp is not "):
        import_tables(read_tables(shop), tmp_path / "tables")
