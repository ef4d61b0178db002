"""Judges by name: what names a version, and what a judge is asked."""

from pathlib import Path

import pyarrow as pa
import yaml

from raylevance.artifacts import Store
from raylevance.data.schema import PRODUCTS, QUERIES
from raylevance.data.text import ProductText
from raylevance.models.cross_encoder import CrossEncoder
from workloads.graded_pairs import pair_texts
from workloads.judged import Judged
from workloads.judging.judges import find_judge, judge_version


def test_a_model_that_is_trained_again_is_another_judge(tiny_backbone: Path, tmp_path: Path) -> None:
    """Its answers would otherwise be those of the first, kept in the ledger."""
    judge = {"backend": "cross-encoder", "cross_encoder": str(tmp_path / "model")}
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump(judge))
    versions = []
    for seed in (0, 1, 1):
        CrossEncoder.from_backbone(str(tiny_backbone), max_tokens=48, seed=seed).save(tmp_path / "model")
        versions.append(judge_version(str(tmp_path / "judge.yaml"), Store(tmp_path / "store")))
    assert versions[0] != versions[1] == versions[2]
    assert not find_judge(str(tmp_path / "judge.yaml"), Store(tmp_path / "store")).labelling.reads_prompts


def test_texts_of_pairs_stay_with_their_pairs() -> None:
    """Also where a product has no text at all, and where an id is not known."""
    products = [{"product_id": "a", "title": "Lamp"}, {"product_id": "b", "title": " "}]
    judged = Judged(
        pa.Table.from_pylist(products, PRODUCTS),
        pa.Table.from_pylist([{"query_id": "q", "query": "lamp"}], QUERIES),
        pa.table({}),
    )
    pairs = pa.table({"query_id": ["q", "q", "x", "q"], "product_id": ["b", "a", "a", "nowhere"]})
    texts = pair_texts(judged, pairs, ProductText())
    assert texts["product_text"].to_pylist() == ["", "Lamp", "Lamp", ""]
    assert texts["query"].to_pylist() == ["lamp", "lamp", None, "lamp"]
