"""Tokenised contrast rows equal the texts, each by its side, and invalid rows are refused in one line."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylevance.errors import RaylevanceError
from raylevance.models.encoder import Encoder, EncoderSettings, load_encoder_tokenizer
from raylevance.training import token_file
from raylevance.training.tasks.moco.contrast_rows import CONTRAST_ROWS, TokenisedContrastRows
from raylevance.training.token_file import write_tokens

pytestmark = pytest.mark.ray

GOOD: dict[str, Any] = {
    "anchor": "red shoe",
    "anchor_side": "item",
    "positive": "shoe",
    "positive_side": "query",
    "negatives": ["lamp"],
    "positive_id": 3,
    "related": [3, 4],
    "cluster": ["shoe", "red"],
    "cluster_weights": [0.75, 0.25],
    "cluster_id": 7,
}


@pytest.mark.parametrize("rows_per_chunk", [40, 10_000])
def test_tokens_are_the_texts_in_their_order(
    ray_cluster: None,
    contrast_file: Path,
    tiny_backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows_per_chunk: int,
) -> None:
    """Rows are tokenised in four chunks on the cluster, and in one here. A prompt shows the side a text was read by."""
    monkeypatch.setattr(token_file, "ROWS_PER_CHUNK", rows_per_chunk)
    prompts = {"query_prompt": "q ", "item_prompt": "i "}
    Encoder.from_backbone(EncoderSettings(backbone=str(tiny_backbone), **prompts)).save(tmp_path / "encoder")
    write_tokens(contrast_file, tmp_path / "encoder", tmp_path / "tokens.arrow", CONTRAST_ROWS)
    stored, rows = TokenisedContrastRows(tmp_path / "tokens.arrow"), pq.read_table(contrast_file).to_pylist()
    tokenize = load_encoder_tokenizer(tmp_path / "encoder")
    assert len(stored) == len(rows)
    for index, row in enumerate(rows):
        assert stored.anchor(index).tolist() == tokenize([row["anchor"]], row["anchor_side"])[0]
        keys = [stored.positive(index), *stored.negatives(index)]
        expected = tokenize([row["positive"], *row["negatives"]], row["positive_side"])
        assert [key.tolist() for key in keys] == expected
        cluster = [tokenize([text], "query")[0] for text in row["cluster"]]
        assert [text.tolist() for text in stored.cluster(index)] == cluster
        assert stored.excluded_nodes(index).tolist() == row["related"]
        assert stored.cluster_weights(index).tolist() == row["cluster_weights"]
        assert stored.anchor_is_item[index] == (row["anchor_side"] == "item")
        assert (stored.positive_id[index], stored.cluster_id[index]) == (row["positive_id"], row["cluster_id"])
        same_text = [other["positive"] == row["anchor"] for other in rows]
        assert (stored.positive_hash == stored.anchor_hash[index]).tolist() == same_text


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"anchor": None}, "anchor is null or holds a null"),
        ({"negatives": ["lamp", None]}, "negatives is null or holds a null"),
        ({"positive_side": "title"}, "positive_side is 'title', not 'query' or 'item'"),
        ({"cluster_weights": [1.0]}, "cluster has 2 texts but 1 cluster_weights"),
        ({"cluster_id": -1}, "cluster has 2 texts but cluster_id -1"),
        ({"cluster": [], "cluster_weights": []}, "cluster has 0 texts but cluster_id 7"),
        ({"cluster_weights": [0.5, 0.25]}, "with a sum of 0.75, not 0 or more with a sum of 1"),
        ({"cluster_weights": [1.5, -0.5]}, "are -0.5 or more"),
    ],
)
def test_a_bad_row_is_one_line(
    ray_cluster: None, tiny_backbone: Path, tmp_path: Path, bad: dict[str, Any], reason: str
) -> None:
    pq.write_table(pa.Table.from_pylist([GOOD, GOOD | bad]), tmp_path / "bad.parquet")
    with pytest.raises(RaylevanceError, match=rf"bad\.parquet: row 1: .*{reason}") as caught:
        write_tokens(tmp_path / "bad.parquet", tiny_backbone, tmp_path / "tokens.arrow", CONTRAST_ROWS)
    assert "\n" not in str(caught.value) and not (tmp_path / "tokens.arrow").exists()


def test_a_missing_column_is_one_line(tiny_backbone: Path, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([GOOD]).drop_columns(["related"]), tmp_path / "thin.parquet")
    with pytest.raises(RaylevanceError, match="has no column related; training needs anchor, anchor_side"):
        write_tokens(tmp_path / "thin.parquet", tiny_backbone, tmp_path / "tokens.arrow", CONTRAST_ROWS)
