"""A file that a command writes appears complete or not at all."""

from pathlib import Path

import pytest

from raylevance.data.output_file import output_file
from raylevance.errors import RaylevanceError


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    file = tmp_path / "labels.parquet"
    file.write_text("before")
    with output_file(file) as draft:
        draft.write_text("after")
        assert file.read_text() == "before"
    assert file.read_text() == "after"
    assert list(tmp_path.iterdir()) == [file]


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "labels.parquet"
    file.write_text("before")
    with pytest.raises(ZeroDivisionError), output_file(file) as draft:
        draft.write_text("half")
        raise ZeroDivisionError
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_two_writers_of_one_file_do_not_share_a_draft(tmp_path: Path) -> None:
    file = tmp_path / "labels.parquet"
    with output_file(file) as first, output_file(file) as second:
        first.write_text("first")
        second.write_text("second")
    assert file.read_text() == "first", "the one that ends last is kept"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "labels.parquet"
    with (
        pytest.raises(RaylevanceError, match=r"nowhere/labels.parquet: no such folder: .*/nowhere$"),
        output_file(file),
    ):
        pytest.fail("the block ran")
