"""The judge from judgements to labels: trained, measured, gated, published, and asked by the command."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import cohen_kappa_score

from raylevance.artifacts import Store
from raylevance.config import load_settings
from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged_tables import TEST, JudgedTables
from raylevance.errors import RaylevanceError
from raylevance.inference.judge import load as load_judge
from raylevance.judges.cross_encoder import CrossEncoder
from raylevance.judges.labelling import label_table
from raylevance.judges.match_regression import MatchRegression, Regression, out_of_fold
from workloads.recipes.judge import GateSettings, JudgeRecipeSettings, recipe, why_refused
from workloads.run import Run
from workloads.steps.judge_data import read_graded_pairs
from workloads.steps.match_judge import JUDGE_TEXT, RegressionSettings, match_judge_step, query_folds

Command = Callable[..., Any]

ROOT = Path(__file__).parents[2]
SMALL = """
data: {source: demo, demo: {products: 300, queries: 24, events: 500, judged_per_query: 12}}
candidates: [cross-encoder, regression]
cross_encoder: {max_tokens: 48, train: {max_steps: 2, evaluate_every: 1}}
gate: {minimum_kappa: -1, minimum_gain: -1}
"""


@pytest.fixture(scope="module")
def judged(
    tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path, ray_cluster: None
) -> tuple[Path, dict[str, Any]]:
    """A store with a judge that hardly learned, and what the run ends with."""
    folder = tmp_path_factory.mktemp("judge")
    small = SMALL.replace("max_tokens", f"backbone: {tiny_backbone}, max_tokens")
    small += f"regression: {{backbone: {tiny_backbone}, max_tokens: 48}}\n"
    (folder / "small.yaml").write_text(small)
    settings = load_settings(JudgeRecipeSettings, folder / "small.yaml")
    with Run(Store(str(folder / "store"))) as run:
        return folder, recipe(settings, run).as_json()


@pytest.mark.long
def test_the_report_says_how_far_to_trust_it(judged: tuple[Path, dict[str, Any]]) -> None:
    folder, printed = judged
    store = Store(str(folder / "store"))
    report = store.get("report/judge").metrics
    assert set(report["judges"]) == {"majority", "cross-encoder", "regression"}
    assert report["judges"]["majority"]["test"]["quadratic_kappa"] == 0
    for measured in report["judges"].values():
        low, high = measured["test"]["ci95"]["accuracy"]
        assert low <= measured["test"]["accuracy"] <= high
        assert measured["coverage"][0]["coverage"] == 1 and measured["not_judged"] == 0
    for name in ("cross-encoder", "regression"):
        worth = report["judges"][name]["worth"]
        assert worth["gain"][1] <= worth["gain"][0] <= worth["gain"][2] and 0 < worth["pairs"] <= 20 * worth["queries"]
    assert report["judges"]["regression"]["worth"] == store.get("judge/regression").metrics["worth"]
    published = store.get("judge/relevance")
    best = max(("cross-encoder", "regression"), key=lambda name: validation_kappa(report["judges"][name]))
    assert published.metrics["judge"] == best
    assert published.metrics["agreement"] == report["judges"][best]["validation"]
    assert printed["artifacts"]["judge/relevance"] == published.ref


@pytest.mark.long
def test_the_regression_is_measured_out_of_fold_on_all_queries_that_it_learns_from(
    judged: tuple[Path, dict[str, Any]],
) -> None:
    """Its published agreement is that of fits without the graded query, here repeated by hand."""
    store = Store(str(judged[0] / "store"))
    made = JudgedTables.open(store.path("tables/demo"))
    settings = load_settings(JudgeRecipeSettings, judged[0] / "small.yaml")
    train, validation = made.train_and_validation(settings.validation_fraction, settings.seed)
    parts = [GradedPairs.from_tables(part, settings.text) for part in (train, validation)]
    model = MatchRegression.load(store.path("judge/regression") / "model")
    features = [model.features(part.queries, part.texts) for part in parts]
    grades = [np.asarray(part.grades) for part in parts]
    refitted = Regression.fit(np.concatenate(features), np.concatenate(grades))
    assert refitted.weights == pytest.approx(model.regression.weights, rel=1e-3, abs=1e-6)
    folds = query_folds(parts[0].joined(parts[1]), settings.seed)
    queries = parts[0].queries + parts[1].queries
    assert all(len({fold for fold, own in zip(folds, queries, strict=True) if own == query}) == 1 for query in queries)
    predicted = out_of_fold(np.concatenate(features), np.concatenate(grades), folds).argmax(axis=1)
    kappa = cohen_kappa_score(np.concatenate(grades), predicted, weights="quadratic")
    measured = store.get("report/judge").metrics["judges"]["regression"]["validation"]
    assert measured["quadratic_kappa"] == pytest.approx(kappa, abs=1e-3)
    assert (measured["pairs"], measured["queries"]) == (len(queries), len(set(queries)))


def test_folds_are_of_queries_and_as_many_as_there_are() -> None:
    pairs = GradedPairs(
        *([["q"] * 6, ["p"] * 6, ["Lamp", "lamp ", "sofa", "sofa", "LAMP", "bed"], ["x"] * 6]), [1] * 6, [""] * 6
    )
    folds = query_folds(pairs, 0)
    assert folds[0] == folds[1] == folds[4] and folds[2] == folds[3] and len(set(folds.tolist())) == 3
    one = GradedPairs(["q"], ["p"], ["lamp"], ["x"], [1], [""])
    with pytest.raises(RaylevanceError, match="1 different queries are too few"):
        query_folds(one, 0)


def test_why_a_judge_is_refused() -> None:
    gate = GateSettings()
    worth = {"gain": [0.02, 0.01, 0.03], "queries": 60}
    passing = {"validation": {"quadratic_kappa": 0.3}, "worth": worth}
    assert why_refused(passing, gate) is None
    too_low = passing | {"validation": {"quadratic_kappa": 0.1}}
    assert why_refused(too_low, gate) == "quadratic kappa 0.100 is below gate.minimum_kappa=0.2"
    worthless = passing | {"worth": worth | {"gain": [-0.02, -0.05, 0.03]}}
    assert "changes nDCG@10 by -0.020 [-0.050, 0.030], and the gain must be above 0" in str(
        why_refused(worthless, gate)
    )
    assert why_refused(worthless, GateSettings(minimum_gain=-1)) is None
    uncertain = passing | {"worth": worth | {"gain": [0.02, -0.01, 0.05]}}
    assert why_refused(uncertain, gate) is None, "it is published, and mining asks more"


def validation_kappa(measured: dict[str, Any]) -> float:
    return float(measured["validation"]["quadratic_kappa"])


@pytest.mark.long
@pytest.mark.parametrize(("name", "load"), [("cross-encoder", CrossEncoder.load), ("regression", MatchRegression.load)])
def test_each_candidate_labels_as_its_model_grades(
    judged: tuple[Path, dict[str, Any]], name: str, load: Callable[[Path], Any]
) -> None:
    store = Store(str(judged[0] / "store"))
    named = load_judge(store, f"judge/{name}")
    assert named.text == JudgeRecipeSettings().text
    texts = [f"blue lamp {number}" for number in range(20)]
    labels = label_table(pa.table({"query": ["lamp"] * 20, "product_text": texts}), named.labelling, store)
    model = load(store.path(f"judge/{name}") / "model")
    assert labels["grade"].to_pylist() == model.log_probabilities(["lamp"] * 20, texts).argmax(axis=1).tolist()


@pytest.mark.long
def test_no_test_query_trains_it(judged: tuple[Path, dict[str, Any]]) -> None:
    """Its pairs, the validation's and the test's share no query."""
    folder, printed = judged
    store = Store(str(folder / "store"))
    tables = JudgedTables.open(store.path("tables/demo"))
    settings = JudgeRecipeSettings()
    train, validation = tables.train_and_validation(settings.validation_fraction, settings.seed)
    queries = [
        set(GradedPairs.from_tables(part, settings.text).queries) for part in (train, validation, tables.split(TEST))
    ]
    assert not queries[0] & queries[1] and not (queries[0] | queries[1]) & queries[2]
    assert printed["pairs"] == len(GradedPairs.from_tables(tables.split(TEST), settings.text).grades)


@pytest.mark.long
def test_the_label_raylevance(judged: tuple[Path, dict[str, Any]], raylevance: Command) -> None:
    """It grades as the published model does, quarantines, finds what it judged before, and refuses below the gate."""
    folder, _ = judged
    texts = [f"blue lamp {number}" for number in range(20)]
    table = pa.table({"query": ["lamp"] * 21, "product_text": [*texts, ""]})
    pq.write_table(table, folder / "pairs.parquet")
    options = ["--judge", "judge/relevance", "--pairs", str(folder / "pairs.parquet"), "--store", str(folder / "store")]
    first = raylevance("label", *options, "--output", str(folder / "labels.parquet"), "--json")
    assert first.code == 0, first.err[-3000:]
    summary = json.loads(first.out)
    assert (summary["rows"], summary["judged"], summary["quarantined"], summary["asked"]) == (21, 20, 1, 20)
    store = Store(str(folder / "store"))
    load = (
        CrossEncoder.load if store.get("judge/relevance").metrics["judge"] == "cross-encoder" else MatchRegression.load
    )
    grader = load(store.path("judge/relevance") / "model")
    labelling = load_judge(store, "judge/relevance").labelling
    expected = grader.log_probabilities(["lamp"] * 20, texts).astype(np.float64) / labelling.temperature
    labels = pq.read_table(folder / "labels.parquet")
    assert labels["grade"].to_pylist()[:20] == expected.argmax(axis=1).tolist()
    confidence = np.exp(expected.max(axis=1) - np.logaddexp.reduce(expected, axis=1))
    assert np.allclose(labels["confidence"].to_numpy()[:20], confidence, atol=1e-4)
    assert labels["source"][0].as_py() == f"llm:relevance@{store.get('judge/relevance').version}"

    second = raylevance("label", *options, "--output", str(folder / "again.parquet"), "--json")
    assert json.loads(second.out)["asked"] == 0
    assert pq.read_table(folder / "again.parquet").equals(labels)

    gated = raylevance("label", *options, "--output", str(folder / "no.parquet"), "--minimum-kappa", "0.99")
    assert gated.code == 1 and not (folder / "no.parquet").exists()
    assert len(gated.err.strip().splitlines()[-1:]) == 1 and "below the gate of 0.99" in gated.err


@pytest.mark.long
def test_a_judge_that_fails_the_gate_is_not_published(judged: tuple[Path, dict[str, Any]], raylevance: Command) -> None:
    folder, _ = judged
    store = str(folder / "store")
    before = Store(store).get("judge/relevance").ref
    options = ["--config", str(folder / "small.yaml")]
    done = raylevance("run", "judge", *options, "--set", "gate.minimum_kappa=0.99", "--store", store)
    assert done.code == 1
    assert "no judge passes the gate" in done.err.splitlines()[-1]
    assert Store(store).get("judge/relevance").ref == before


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--judge", "judge/relevanc"], 1, "no such artifact"),
        (["--judge", "relevance"], 2, "expected judge/NAME"),
        (["--judge", "missing.yaml"], 2, "no such settings file"),
    ],
)
def test_an_unknown_judge(raylevance: Command, tmp_path: Path, arguments: list[str], code: int, line: str) -> None:
    pq.write_table(pa.table({"query": ["a"], "product_text": ["b"]}), tmp_path / "pairs.parquet")
    files = ["--pairs", str(tmp_path / "pairs.parquet"), "--output", str(tmp_path / "out.parquet")]
    done = raylevance("label", *arguments, *files, "--store", str(tmp_path / "store"))
    assert done.code == code and line in done.err.splitlines()[-1], done.err


@pytest.mark.parametrize(
    "missing",
    [
        "regression.backbone=nowhere",
        "candidates=[llm] llm.model=nowhere",
        "candidates=[cross-encoder] cross_encoder.backbone=nowhere",
    ],
)
def test_a_model_that_is_not_there_is_refused_before_any_work(
    raylevance: Command, tmp_path: Path, missing: str, ray_cluster: None
) -> None:
    changes = [part for change in missing.split(" ") for part in ("--set", change)]
    ended = raylevance("run", "judge", "--set", "data.source=demo", *changes, "--store", tmp_path / "store")
    assert ended.code == 1 and "nowhere" in ended.err.splitlines()[-1], ended.err
    assert not Store(tmp_path / "store").names()


def test_a_metric_that_is_not_measured_is_refused_before_any_work(
    raylevance: Command, tmp_path: Path, ray_cluster: None
) -> None:
    changes = ("--set", "candidates=[cross-encoder]", "--set", "cross_encoder.train.keep_best=kapa")
    ended = raylevance("run", "judge", "--set", "data.source=demo", *changes, "--store", tmp_path / "store")
    line = "cross_encoder.train.keep_best=kapa: did you mean 'kappa'?"
    assert ended.code == 2 and line in ended.err.splitlines()[-1], ended.err
    assert not Store(tmp_path / "store").names()


@pytest.mark.parametrize("column", ["grade", "relevance"])
def test_further_pairs_never_have_a_query_that_is_judged(
    column: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever its case and white space; rows that are not whole are left out too."""
    queries = ["Lamp", " DESK lamp", "hose", "hose", None, "chair"]
    values = {"grade": [2, 0, 1, 2, 1, None], "relevance": [3, 0, 2, 3, 1, None]}[column]
    pairs = pa.table({"query": queries, "product_text": ["a", "b", "c", "d", "e", "f"], column: values})
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    found = read_graded_pairs(tmp_path / "pairs.parquet", pa.chunked_array([["desk  lamp", "sofa"]]))
    assert (found.queries, found.texts, found.grades) == (["Lamp", "hose", "hose"], ["a", "c", "d"], [2, 1, 2])
    assert found.query_ids[1] == found.query_ids[2] != found.query_ids[0]
    assert "3 pairs left out: 1 of queries that are judged in the tables" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"relevance": [4, 1]}, "row 1: relevance is 4, expected 0, 1, 2 or 3"),
        ({"grade": [0, 3]}, "row 2: grade is 3, expected 0, 1 or 2"),
        ({"label": ["E", "I"]}, "no column 'grade' (0 to 2) or 'relevance' (0 to 3)"),
    ],
)
def test_further_pairs_that_can_not_be_read(columns: dict[str, list[object]], line: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"query": ["a", "b"], "product_text": ["c", "d"], **columns}), tmp_path / "pairs.parquet")
    with pytest.raises(RaylevanceError, match=re.escape(line)):
        read_graded_pairs(tmp_path / "pairs.parquet", pa.chunked_array([["x"]]))


def test_a_judge_is_not_measured_on_further_pairs_and_learns_from_them(
    small_store: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    store = Store(str(shutil.copytree(small_store, tmp_path / "store")))
    train = JudgedTables.open(store.path("tables/demo")).split("train")
    further = GradedPairs(["k"] * 3, [""] * 3, ["zzz lamp"] * 3, ["a", "b", "zzz lamp"], [2, 2, 0], [""] * 3)
    settings = RegressionSettings(backbone=str(tiny_backbone), max_tokens=48)
    with Run(store) as run:
        made = [
            match_judge_step(run, "judge/x", store.get("tables/demo"), train, settings, JUDGE_TEXT, 0, further=more)
            for more in (None, further)
        ]
    pairs = [judge.metrics["out_of_fold"]["pairs"] for judge in made]
    assert pairs[0] == pairs[1] == len(GradedPairs.from_tables(train, JUDGE_TEXT).grades)
    assert made[0].metrics["regression"] != made[1].metrics["regression"]
