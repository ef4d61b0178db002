"""Judges by name: what names a version, and what a judge is asked."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from raylevance.artifacts import Store
from raylevance.data.graded_pairs import pair_texts
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.schema import PRODUCTS, QUERIES
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError
from raylevance.inference.judge import judge_version
from raylevance.inference.judge import load as load_judge
from raylevance.judges.cross_encoder import CrossEncoder
from raylevance.judges.gate import measure_agreement, require_answers
from raylevance.judges.labelling import JUDGED, LABELS, QUARANTINED, Labelling


def test_a_model_that_is_trained_again_is_another_judge(tiny_backbone: Path, tmp_path: Path) -> None:
    """Its answers would otherwise be those of the first, kept in the ledger."""
    judge = {"backend": "cross-encoder", "cross_encoder": str(tmp_path / "model")}
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump(judge))
    versions = []
    for seed in (0, 1, 1):
        CrossEncoder.from_backbone(str(tiny_backbone), max_tokens=48, seed=seed).save(tmp_path / "model")
        versions.append(judge_version(Store(tmp_path / "store"), str(tmp_path / "judge.yaml")))
    assert versions[0] != versions[1] == versions[2]
    assert not load_judge(Store(tmp_path / "store"), str(tmp_path / "judge.yaml")).labelling.reads_prompts


def test_what_names_a_judges_labels_and_what_its_answers(tmp_path: Path) -> None:
    """A threshold changes what is read from an answer, the requests in flight change nothing."""

    def names(**changed: Any) -> tuple[str, str]:
        endpoint = {"url": "http://127.0.0.1:9/v1", "model": "m", "concurrency": changed.pop("concurrency", 8)}
        (tmp_path / "judge.yaml").write_text(yaml.safe_dump({"backend": "endpoint", "endpoint": endpoint, **changed}))
        name, store = str(tmp_path / "judge.yaml"), Store(tmp_path / "store")
        return judge_version(store, name), load_judge(store, name).labelling.version

    labels, answers = names()
    assert names(concurrency=2) == (labels, answers)
    stricter = names(threshold=0.6)
    assert stricter[0] != labels and stricter[1] == answers
    assert names(prompt={"head": "Grade: "})[1] != answers


def test_a_judge_whose_folder_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump({"backend": "regression", "regression": "nowhere"}))
    with pytest.raises(RaylevanceError, match="judge judge: nowhere: no such folder with a regression"):
        load_judge(Store(tmp_path / "store"), str(tmp_path / "judge.yaml"))


def test_labels_of_which_most_failed_are_refused() -> None:
    judge = Labelling(lambda pairs: pairs, "v1", 1.0, 0.0, True)
    rows = [{"status": QUARANTINED, "reason": "no connection"}] * 2 + [{"status": JUDGED}] * 2
    require_answers(pa.Table.from_pylist(rows, LABELS), judge)
    with pytest.raises(RaylevanceError, match=r"judge v1: no grade for 3 of 5 pairs \(no connection\)"):
        require_answers(pa.Table.from_pylist([rows[0], *rows], LABELS), judge)


@pytest.mark.parametrize(
    ("grades", "fault"),
    [
        (pa.array([0, -1]), "row 2: grade is -1, expected 0, 1 or 2"),
        (pa.array([3, 0]), "row 1: grade is 3, expected 0, 1 or 2"),
        (pa.array(["E", "I"]), "column 'grade' holds string, expected 0, 1 or 2"),
        (pa.array([0.5, 1.0]), "column 'grade' holds double, expected 0, 1 or 2"),
    ],
)
def test_a_check_with_grades_that_are_none(grades: pa.Array, fault: str, tmp_path: Path) -> None:
    pairs = pa.table({"query": ["a", "b"], "product_text": ["x", "y"], "grade": grades})
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    judge = Labelling(lambda pairs: pairs, "v1", 1.0, 0.0, True)
    with pytest.raises(RaylevanceError, match=fault):
        measure_agreement(tmp_path / "pairs.parquet", judge, Store(tmp_path / "store"))


def test_texts_of_pairs_stay_with_their_pairs() -> None:
    """Also where a product has no text at all, and where an id is not known."""
    products = [{"product_id": "a", "title": "Lamp"}, {"product_id": "b", "title": " "}]
    judged = JudgedTables(
        pa.Table.from_pylist(products, PRODUCTS),
        pa.Table.from_pylist([{"query_id": "q", "query": "lamp"}], QUERIES),
        pa.table({}),
    )
    pairs = pa.table({"query_id": ["q", "q", "x", "q"], "product_id": ["b", "a", "a", "nowhere"]})
    texts = pair_texts(judged, pairs, ProductText())
    assert texts["product_text"].to_pylist() == ["", "Lamp", "Lamp", ""]
    assert texts["query"].to_pylist() == ["lamp", "lamp", None, "lamp"]
