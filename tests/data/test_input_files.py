"""Which files of a folder belong to a table, by their names, suffixes and folders."""

from pathlib import Path

import pytest

from raylevance.data.input_files import matching_files, named_file, suffix_of
from raylevance.errors import RaylevanceError


def test_names_of_files(tmp_path: Path) -> None:
    names = ["Judgments.CSV.gz", "judgements-2.jsonl", "judgements.txt", "._judgements.csv", "judgements.parquet.gz"]
    for name in names:
        (tmp_path / name).touch()
    assert [file.name for file in matching_files(tmp_path, "judgements", "judgments")] == names[:2]
    assert [suffix_of(Path(name)) for name in names] == [".csv", ".jsonl", ".txt", ".csv", ".gz"]
    (tmp_path / "Events").mkdir()
    (tmp_path / "Events" / "part-0.NDJSON").touch()
    assert [file.name for file in matching_files(tmp_path, "events")] == ["part-0.NDJSON"]
    assert named_file(tmp_path, "judgments.csv") == tmp_path / "Judgments.CSV.gz"
    assert named_file(tmp_path, "labels.csv") == tmp_path / "labels.csv"


def test_files_of_a_table_beside_its_folder_are_refused(tmp_path: Path) -> None:
    """Only the folder would be read."""
    (tmp_path / "judgements").mkdir()
    (tmp_path / "judgements" / "new.parquet").touch()
    assert [file.name for file in matching_files(tmp_path, "judgements")] == ["new.parquet"]
    (tmp_path / "Judgments.csv").touch()
    with pytest.raises(RaylevanceError, match=r"has the folder judgements and Judgments\.csv beside it; move"):
        matching_files(tmp_path, "judgements", "judgments")
    (tmp_path / "judgements" / "new.parquet").unlink()
    assert [file.name for file in matching_files(tmp_path, "judgements", "judgments")] == ["Judgments.csv"]
