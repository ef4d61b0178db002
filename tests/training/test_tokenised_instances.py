"""Tokenised instances equal the texts in their order, and invalid rows are refused in one line."""

from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylevance.errors import RaylevanceError
from raylevance.models.encoder import load_encoder_tokenizer
from raylevance.training import token_file
from raylevance.training.tasks.contrastive.task import Contrastive, ContrastiveSettings
from raylevance.training.tasks.contrastive.tokenised_instances import INSTANCES, TokenisedInstances
from raylevance.training.token_file import write_tokens

pytestmark = pytest.mark.ray


@pytest.mark.parametrize("rows_per_chunk", [40, 10_000])
def test_tokens_are_the_texts_in_their_order(
    ray_cluster: None,
    instances_file: Path,
    tiny_backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows_per_chunk: int,
) -> None:
    """The 37 instances are tokenised in four chunks on the cluster, and in one chunk in this process."""
    monkeypatch.setattr(token_file, "ROWS_PER_CHUNK", rows_per_chunk)
    write_tokens(instances_file, tiny_backbone, tmp_path / "tokens.arrow", INSTANCES)
    instances, rows = TokenisedInstances(tmp_path / "tokens.arrow"), pq.read_table(instances_file).to_pylist()
    tokenize = load_encoder_tokenizer(tiny_backbone)
    assert len(instances) == len(rows)
    for index, row in enumerate(rows):
        assert instances.query(index).tolist() == tokenize([row["query"]], "query")[0]
        assert [item.tolist() for item in instances.items(index)] == tokenize(row["items"], "item")
        assert instances.labels_of(index).tolist() == row["labels"]


@pytest.mark.parametrize(
    ("items", "labels", "reason"),
    [
        (["desk", "lamp"], [1], "2 items but 1 labels"),
        ([], [], "a query, items and labels are required"),
        (["desk", None], [1, 0], "none of them null"),
        (["desk"], [-1], "a label is negative"),
        (["desk"], [float("nan")], "a label is negative or not a number"),
    ],
)
def test_a_bad_row_is_one_line(
    ray_cluster: None,
    tiny_backbone: Path,
    tmp_path: Path,
    items: list[str | None],
    labels: list[float],
    reason: str,
) -> None:
    table = pa.table(
        {
            "query": ["lamp", "sock"],
            "items": pa.array([["desk"], items], pa.list_(pa.string())),
            "labels": pa.array([[1], labels], pa.list_(pa.float32())),
        }
    )
    pq.write_table(table, tmp_path / "bad.parquet")
    with pytest.raises(RaylevanceError, match=rf"bad\.parquet: row 1: .*{reason}") as caught:
        write_tokens(tmp_path / "bad.parquet", tiny_backbone, tmp_path / "tokens.arrow", INSTANCES)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "tokens.arrow").exists()


def test_missing_files_and_columns_are_one_line(tiny_backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(RaylevanceError, match=r"none\.parquet: not readable training instances"):
        write_tokens(tmp_path / "none.parquet", tiny_backbone, tmp_path / "tokens.arrow", INSTANCES)
    pq.write_table(pa.table({"query": ["sock"]}), tmp_path / "thin.parquet")
    with pytest.raises(RaylevanceError, match="has no column items, labels"):
        write_tokens(tmp_path / "thin.parquet", tiny_backbone, tmp_path / "tokens.arrow", INSTANCES)


def test_the_circle_loss_takes_grades_only(ray_cluster: None, tiny_backbone: Path, tmp_path: Path) -> None:
    """A label without a band would add nothing to the loss."""
    pq.write_table(
        pa.table({"query": ["desk"], "items": [["lamp", "sock"]], "labels": [[3, 0]]}), tmp_path / "a.parquet"
    )
    task = Contrastive(tiny_backbone, tmp_path / "a.parquet", ContrastiveSettings(loss="circle"))
    with pytest.raises(RaylevanceError, match=r"a\.parquet: has the label 3; the circle loss takes the grades 0 to 2"):
        task.prepare(tmp_path)
    Contrastive(tiny_backbone, tmp_path / "a.parquet", ContrastiveSettings(loss="supcon")).prepare(tmp_path)


@pytest.mark.parametrize(
    ("loss", "line"),
    [
        ("supcon", "1 of 4 training instances are left out: supcon learns from those with two different labels"),
        ("triplet", "3 of 4 training instances are left out: triplet learns from those with two labels that differ by"),
        ("infonce", "1 of 4 training instances are left out: infonce learns from those with an item with a label of"),
    ],
)
def test_instances_that_teach_nothing_are_counted(
    ray_cluster: None,
    tiny_backbone: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    loss: Literal["supcon", "triplet", "infonce"],
    line: str,
) -> None:
    """Nothing is said where all are learned from."""
    labels = [[2.0, 0.0], [1.0, 1.0], [1.0, 0.6], [0.4, 0.0]]
    columns = {"query": ["desk"] * 4, "items": [["lamp", "sock"]] * 4, "labels": labels}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    settings = ContrastiveSettings(loss=loss)
    for folder in ("some", "all"):
        (tmp_path / folder).mkdir()
    Contrastive(tiny_backbone, tmp_path / "a.parquet", settings).prepare(tmp_path / "some")
    assert line in capfd.readouterr().err
    pq.write_table(pa.table(columns).slice(0, 1), tmp_path / "b.parquet")
    Contrastive(tiny_backbone, tmp_path / "b.parquet", settings).prepare(tmp_path / "all")
    assert "left out" not in capfd.readouterr().err


def test_variants_are_stored_with_their_queries(ray_cluster: None, tiny_backbone: Path, tmp_path: Path) -> None:
    columns = {"query": ["desk", "garden hose"], "items": [["lamp", "desk"]] * 2, "labels": [[2, 0]] * 2}
    pq.write_table(pa.table({**columns, "variant": ["dsek", None]}), tmp_path / "instances.parquet")
    write_tokens(tmp_path / "instances.parquet", tiny_backbone, tmp_path / "tokens.arrow", INSTANCES)
    instances = TokenisedInstances(tmp_path / "tokens.arrow")
    assert instances.variant(0).tolist() == load_encoder_tokenizer(tiny_backbone)(["dsek"], "query")[0]
    assert not len(instances.variant(1))
