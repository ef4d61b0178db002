"""Compaction of the files of events: the rows stay, in one file a day, whatever dies in between."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylevance.data import feedback_files
from raylevance.data.feedback_files import Compacted, compact
from raylevance.errors import RaylevanceError
from tests.conftest import Ended

TODAY = "20260503"
TABLES = ("ubi_events", "ubi_queries")


def write(store: Path, table: str, day: str, part: int, ids: list[str | None], **more: Any) -> Path:
    file = store / "feedback" / f"{table}-{day}T{part:06}-{part:012x}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": pa.array(ids, pa.string()), **more}), file)
    return file


def rows(store: Path) -> dict[tuple[str, str], list[str | None]]:
    """The ids of each table and day, in the order of the files."""
    found: dict[tuple[str, str], list[str | None]] = {}
    for file in sorted((store / "feedback").glob("ubi_*.parquet")):
        table, stem, _ = file.stem.split("-")
        found.setdefault((table, stem[:8]), []).extend(pq.read_table(file)["id"].to_pylist())
    return found


def fill(store: Path, days: tuple[str, ...] = ("20260501", "20260502", TODAY), parts: int = 5) -> None:
    for day in days:
        for table in TABLES:
            for part in range(parts):
                write(store, table, day, part, [f"{table}{day}{part}-{row}" for row in range(part)])


def files(store: Path) -> list[str]:
    return sorted(file.name for file in (store / "feedback").iterdir())


def test_each_day_before_today_becomes_one_file(tmp_path: Path) -> None:
    fill(tmp_path)
    other = tmp_path / "feedback" / "notes.parquet"
    pq.write_table(pa.table({"id": ["mine"]}), other)
    before = rows(tmp_path)
    assert compact(str(tmp_path), TODAY) == Compacted(files_before=31, files_after=15, rows=40)
    assert rows(tmp_path) == before
    assert Counter(name[:19] for name in files(tmp_path) if name.startswith("ubi_events")) == {
        "ubi_events-20260501": 1,
        "ubi_events-20260502": 1,
        "ubi_events-20260503": 5,
    }
    assert pq.read_table(other)["id"].to_pylist() == ["mine"]
    assert compact(str(tmp_path), TODAY) == Compacted(15, 15, 0), "nothing is left to do"


def test_a_late_file_joins_the_file_of_its_day(tmp_path: Path) -> None:
    fill(tmp_path, ("20260501",))
    compact(str(tmp_path), TODAY)
    write(tmp_path, "ubi_events", "20260501", 9, ["late"], added=[1])
    expected = {key: Counter(ids) for key, ids in rows(tmp_path).items()}
    assert compact(str(tmp_path), TODAY).files_after == 2
    assert {key: Counter(ids) for key, ids in rows(tmp_path).items()} == expected
    [events] = (tmp_path / "feedback").glob("ubi_events-*")
    assert pq.read_table(events)["added"].to_pylist() == [None] * 10 + [1], "a column that older files lack"
    assert compact(str(tmp_path), TODAY).rows == 0


class Killed(BaseException):
    pass


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_kill_loses_no_row_and_leaves_none_twice(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    """Killed before any change of the folder, several times; a file that a server publishes again changes nothing."""
    store = tmp_path_factory.mktemp("store")
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=2, max_size=5))
    parts = [
        write(store, "ubi_events", "20260501", part, [f"{part}-{row}" for row in range(size)])
        for part, size in enumerate(sizes)
    ]
    again = data.draw(st.sampled_from(parts))
    content, expected = again.read_bytes(), Counter(rows(store).get(("ubi_events", "20260501"), []))
    for _ in range(data.draw(st.integers(0, 3))):
        steps = data.draw(st.integers(0, 6))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(feedback_files._Folder, "delete", killing(feedback_files._Folder.delete, steps))
            patch.setattr(feedback_files._Folder, "_publish", killing(feedback_files._Folder._publish, steps % 2))
            try:
                compact(str(store), TODAY)
            except Killed:
                assert set(rows(store).get(("ubi_events", "20260501"), [])) == set(expected), "lost"
        if data.draw(st.booleans()):
            again.write_bytes(content)
    compact(str(store), TODAY)
    compact(str(store), TODAY)
    assert Counter(rows(store).get(("ubi_events", "20260501"), [])) == expected
    assert len(files(store)) == 1


def killing(method: Callable[..., Any], calls: int) -> Callable[..., Any]:
    """`method`, killed at a call of its own or of a file that it deletes."""
    left = calls

    def run(self: Any, first: Any, *others: Any) -> Any:
        nonlocal left
        if others:  # _publish
            if left == 0:
                raise Killed
            left -= 1
            return method(self, first, *others)
        for name in sorted(first):
            if left == 0:
                raise Killed
            left -= 1
            method(self, [name])

    return run


def test_a_file_that_can_not_be_read_is_named_and_nothing_is_deleted(tmp_path: Path) -> None:
    fill(tmp_path, ("20260501",))
    torn = tmp_path / "feedback" / "ubi_events-20260501T000003-000000000003.parquet"
    torn.write_bytes(torn.read_bytes()[:-20])
    before = files(tmp_path)
    with pytest.raises(RaylevanceError, match=rf"{torn.name}: can't be read: "):
        compact(str(tmp_path), TODAY)
    assert files(tmp_path) == before


def test_columns_that_do_not_fit_are_named(tmp_path: Path) -> None:
    for part, value in enumerate(("text", 1)):
        write(tmp_path, "ubi_events", "20260501", part, ["e"], more=[value])
    with pytest.raises(RaylevanceError, match=r"ubi_events-20260501T000000-0+\.parquet: others have other columns"):
        compact(str(tmp_path), TODAY)
    assert len(files(tmp_path)) == 2


def test_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a store that is named by a URI are copied to it as wholes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fill(tmp_path, ("20260501",))
    expected = rows(tmp_path)
    monkeypatch.setattr(feedback_files.fs, "LocalFileSystem", Elsewhere)
    compact(f"file://{tmp_path}", TODAY)
    assert (rows(tmp_path), len(files(tmp_path))) == (expected, 2)


class Elsewhere(pa.fs.LocalFileSystem):
    """A file system of this machine that is not taken for the one of the store."""


def test_the_command(raylevance: Callable[..., Ended], tmp_path: Path) -> None:
    fill(tmp_path, ("20260501", "20991231"))
    ended = raylevance("feedback", "compact", "--store", tmp_path, "--json")
    assert (ended.code, json.loads(ended.out)) == (0, {"files_before": 20, "files_after": 12, "rows": 20})
    empty = raylevance("feedback", "compact", "--store", tmp_path / "none", "--json")
    assert json.loads(empty.out) == {"files_before": 0, "files_after": 0, "rows": 0}
    assert os.listdir(tmp_path / ".work" / "feedback-compaction") == []
