"""The judge from judgements to labels: trained, measured, gated, published, and asked by the command."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from raylevance.artifacts import Store
from raylevance.models.cross_encoder import CrossEncoder
from workloads.judge import RecipeSettings
from workloads.judges import find_judge

ROOT = Path(__file__).parents[2]
SMALL = """
data: {source: demo, demo: {products: 300, queries: 24, events: 500, judged_per_query: 12}}
cross_encoder: {max_tokens: 48, train: {max_steps: 2, evaluate_every: 1}}
gate: {minimum_kappa: -1}
"""


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "workloads.cli", *arguments]
    return subprocess.run(line, cwd=ROOT, check=False, capture_output=True, text=True, timeout=400)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> tuple[Path, dict[str, Any]]:
    """A store with a judge that hardly learned, and what the run printed."""
    folder = tmp_path_factory.mktemp("judge")
    (folder / "small.yaml").write_text(SMALL)
    backbone = f"cross_encoder.backbone={tiny_backbone}"
    options = ["--config", str(folder / "small.yaml"), "--set", backbone, "--store", str(folder / "store"), "--json"]
    done = command("run", "judge", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, json.loads(done.stdout)


def test_the_report_says_how_far_to_trust_it(judged: tuple[Path, dict[str, Any]]) -> None:
    folder, printed = judged
    store = Store(str(folder / "store"))
    report = store.get("report/judge").metrics
    assert set(report["judges"]) == {"majority", "cross-encoder"}
    assert report["judges"]["majority"]["test"]["quadratic_kappa"] == 0
    for measured in report["judges"].values():
        low, high = measured["test"]["ci95"]["accuracy"]
        assert low <= measured["test"]["accuracy"] <= high
        assert measured["coverage"][0]["coverage"] == 1 and measured["not_judged"] == 0
    published = store.get("judge/relevance")
    assert published.metrics["judge"] == "cross-encoder"
    assert published.metrics["agreement"] == report["judges"]["cross-encoder"]["validation"]
    assert printed["artifacts"]["judge/relevance"] == published.ref


def test_no_test_query_trains_it(judged: tuple[Path, dict[str, Any]]) -> None:
    """Its pairs, the validation's and the test's share no query."""
    from workloads.graded_pairs import GradedPairs
    from workloads.judged import TEST, TRAIN, Judged

    folder, printed = judged
    store = Store(str(folder / "store"))
    tables = Judged.open(store.path("tables/demo"))
    settings = RecipeSettings()
    train, validation = tables.hold_out(TRAIN, settings.validation_fraction, settings.seed)
    queries = [set(GradedPairs.of(part, settings.text).queries) for part in (train, validation, tables.of(TEST))]
    assert not queries[0] & queries[1] and not (queries[0] | queries[1]) & queries[2]
    assert printed["pairs"] == len(GradedPairs.of(tables.of(TEST), settings.text).grades)


def test_the_label_command(judged: tuple[Path, dict[str, Any]]) -> None:
    """It grades as the published model does, quarantines, finds what it judged before, and refuses below the gate."""
    folder, _ = judged
    texts = [f"blue lamp {number}" for number in range(20)]
    table = pa.table({"query": ["lamp"] * 21, "product_text": [*texts, ""]})
    pq.write_table(table, folder / "pairs.parquet")
    options = ["--judge", "judge/relevance", "--pairs", str(folder / "pairs.parquet"), "--store", str(folder / "store")]
    first = command("label", *options, "--output", str(folder / "labels.parquet"), "--json")
    assert first.returncode == 0, first.stderr[-3000:]
    summary = json.loads(first.stdout)
    assert (summary["rows"], summary["judged"], summary["quarantined"], summary["asked"]) == (21, 20, 1, 20)
    store = Store(str(folder / "store"))
    grader = CrossEncoder.load(store.path("judge/relevance") / "model")
    labelling = find_judge("judge/relevance", store).labelling
    expected = grader.log_probabilities(["lamp"] * 20, texts).astype(np.float64) / labelling.temperature
    labels = pq.read_table(folder / "labels.parquet")
    assert labels["grade"].to_pylist()[:20] == expected.argmax(axis=1).tolist()
    confidence = np.exp(expected.max(axis=1) - np.logaddexp.reduce(expected, axis=1))
    assert np.allclose(labels["confidence"].to_numpy()[:20], confidence, atol=1e-4)
    assert labels["source"][0].as_py() == f"llm:relevance@{store.get('judge/relevance').version}"

    second = command("label", *options, "--output", str(folder / "again.parquet"), "--json")
    assert json.loads(second.stdout)["asked"] == 0
    assert pq.read_table(folder / "again.parquet").equals(labels)

    gated = command("label", *options, "--output", str(folder / "no.parquet"), "--minimum-kappa", "0.99")
    assert gated.returncode == 1 and not (folder / "no.parquet").exists()
    assert len(gated.stderr.strip().splitlines()[-1:]) == 1 and "below the gate of 0.99" in gated.stderr


def test_a_judge_that_fails_the_gate_is_not_published(judged: tuple[Path, dict[str, Any]], tiny_backbone: Path) -> None:
    folder, _ = judged
    store = str(folder / "store")
    before = Store(store).get("judge/relevance").ref
    options = ["--config", str(folder / "small.yaml"), "--set", f"cross_encoder.backbone={tiny_backbone}"]
    done = command("run", "judge", *options, "--set", "gate.minimum_kappa=0.99", "--store", store)
    assert done.returncode == 1
    assert "no judge passes the gate" in done.stderr.splitlines()[-1]
    assert Store(store).get("judge/relevance").ref == before


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--judge", "judge/relevanc"], 1, "no such artifact"),
        (["--judge", "relevance"], 2, "expected judge/NAME"),
        (["--judge", "missing.yaml"], 2, "no such settings file"),
    ],
)
def test_an_unknown_judge(tmp_path: Path, arguments: list[str], code: int, line: str) -> None:
    pq.write_table(pa.table({"query": ["a"], "product_text": ["b"]}), tmp_path / "pairs.parquet")
    files = ["--pairs", str(tmp_path / "pairs.parquet"), "--output", str(tmp_path / "out.parquet")]
    done = command("label", *arguments, *files, "--store", str(tmp_path / "store"))
    assert done.returncode == code and line in done.stderr.splitlines()[-1], done.stderr


def test_the_yaml_beside_it_holds_the_defaults() -> None:
    given = yaml.safe_load((ROOT / "workloads" / "judge.yaml").read_text())
    assert RecipeSettings.model_validate(given) == RecipeSettings()
