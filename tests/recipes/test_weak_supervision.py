"""The recipe weak-supervision on a small demo shop: what it publishes, and what it must not have seen."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raylevance.artifacts import Store
from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged_tables import JudgedTables
from raylevance.evaluation.pair_metrics import best_threshold, evaluate_pairs
from raylevance.graph.building import BehaviourGraph
from raylevance.inference.scorer import load as load_scorer
from workloads.recipes.weak_supervision import WeakSupervisionSettings
from workloads.steps.pair_scores import lexical_scores
from workloads.steps.relevance_pairs import LabelledPairs

SMALL = """
data: {source: demo, demo: {products: 300, queries: 60, events: 20000, judged_per_query: 12, users: 50}}
moco: {max_steps: 2, batch: 8, queue: 16}
scorer: {train: {max_steps: 2, evaluate_every: 1, batch: 8}}
baselines: {which: [], clicks: {max_steps: 2, batch: 8}, pairs: {max_steps: 2, batch: 8, evaluate_every: 1}}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    return tmp_path_factory.mktemp("weak") / "store"


def run(raylevance: Callable[..., Any], store: Path, *options: object) -> Any:
    config = store.parent / "small.yaml"
    config.write_text(SMALL)
    arguments = ("--config", config, "--store", store, "--json", *options)
    return raylevance("run", "weak-supervision", *arguments)


@pytest.mark.long
@pytest.mark.ray
def test_it_publishes_a_graph_an_encoder_and_a_scorer(
    store: Path, raylevance: Callable[..., Any], tmp_path: Path
) -> None:
    ended = run(raylevance, store)
    assert ended.code == 0, ended.err
    outcome = json.loads(ended.out)
    published = {"graph/behaviour", "pairs/weak", "encoder/weak", "scorer/relevance", "report/weak-supervision"}
    assert published < set(outcome["artifacts"])
    assert outcome["behaviour"] == "the log"
    assert 0 <= Store(store).get("encoder/weak").metrics["item_texts_cut"] < 0.5
    names = ["random", "BM25", "zero-shot", "weak", "head alone", "transfer alone", "hybrid"]
    assert list(outcome["scorers"]) == names
    areas = [tasks[task]["auc"] for tasks in outcome["scorers"].values() for task in tasks]
    assert all(low <= value <= high for value, low, high in areas)
    assert outcome["scorers"]["zero-shot"]["grade 2 against 0"]["auc"][0] > 0.8
    pairs = tmp_path / "pairs.parquet"
    pq.write_table(
        pa.table({"query": ["red lamp", "sock"], "product_text": ["Red lamp", "Chair"], "label": [1, 0]}), pairs
    )
    scored = raylevance(
        "evaluate", "pairs", "--scorer", "scorer/relevance", "--pairs", pairs, "--store", store, "--json"
    )
    assert json.loads(scored.out)["scorer"] == "scorer/relevance"


def bm25_on_grades_2_and_0(part: JudgedTables) -> tuple[Any, Any]:
    """The scores of the judged pairs of grade 2 and 0, and whether each has grade 2."""
    pairs = GradedPairs.from_tables(part, WeakSupervisionSettings().text)
    kept = np.flatnonzero(np.isin(pairs.grades, (2, 0)))
    return lexical_scores(part, pairs)[kept], np.asarray(pairs.grades)[kept] == 2


@pytest.mark.long
@pytest.mark.ray
def test_f1_is_measured_at_a_threshold_of_the_validation_queries(store: Path, raylevance: Callable[..., Any]) -> None:
    """Here that of BM25, computed again; and the scorer keeps the threshold of its own."""
    outcome, opened = json.loads(run(raylevance, store).out), Store(store)
    judged, settings = JudgedTables.open(opened.path("tables/demo")), WeakSupervisionSettings()
    validation = judged.train_and_validation(settings.validation_fraction, settings.seed)[1]
    scored = bm25_on_grades_2_and_0(validation), bm25_on_grades_2_and_0(judged.split("test"))
    threshold = best_threshold(*scored[0])
    task = "grade 2 against 0"
    assert outcome["f1_thresholds"]["BM25"][task] == pytest.approx(threshold)
    assert outcome["scorers"]["BM25"][task]["f1"][0] == pytest.approx(evaluate_pairs(*scored[1], threshold)["f1"])
    assert threshold != best_threshold(*scored[1])
    scorer = load_scorer(opened, "scorer/relevance")
    labelled = LabelledPairs.of(validation, settings.text)
    own = scorer.score(labelled.queries, labelled.texts, labelled.product_ids)
    best = evaluate_pairs(own, labelled.labels)["f1"]
    assert scorer.threshold is not None and 0 <= scorer.threshold <= 1
    assert evaluate_pairs(own, labelled.labels, scorer.threshold)["f1"] == pytest.approx(best, abs=0.05)


@pytest.mark.long
@pytest.mark.ray
def test_a_second_run_makes_nothing_anew(store: Path, raylevance: Callable[..., Any]) -> None:
    ended = run(raylevance, store)
    assert ended.code == 0 and "working" not in ended.err
    assert ended.err.count("unchanged") >= 6


@pytest.mark.long
@pytest.mark.ray
def test_no_behaviour_of_test_and_validation_queries_is_in_the_graph(
    store: Path, raylevance: Callable[..., Any]
) -> None:
    assert run(raylevance, store).code == 0
    opened = Store(store)
    judged = JudgedTables.open(opened.path("tables/demo"))
    unseen = {name for part in ("test", "validation") for name in judged.split(part).queries["query_id"].to_pylist()}
    graph = BehaviourGraph.load(opened.path("graph/behaviour"))
    seen = {graph.queries[int(node)].as_py() for node in np.flatnonzero(graph.edges.degrees)}
    assert seen and not seen & unseen
    events = pq.read_table(opened.path("tables/demo") / "events")["query_id"]
    assert unseen & set(events.to_pylist())


@pytest.mark.long
@pytest.mark.ray
def test_baselines_are_measured_beside_it(store: Path, raylevance: Callable[..., Any]) -> None:
    ended = run(raylevance, store, "--set", "baselines.which=[clicks, sbert, masm]")
    assert ended.code == 0, ended.err
    scorers = json.loads(ended.out)["scorers"]
    names = ["click-trained", "SBERT-style", "MASM-like", "weak"]
    assert len({json.dumps(scorers[name]) for name in names}) == len(names), "each is a model of its own"


@pytest.mark.long
@pytest.mark.ray
def test_from_tables_of_ones_own_to_a_served_index(store: Path, raylevance: Callable[..., Any], tmp_path: Path) -> None:
    """The commands of the README."""
    own, config = tmp_path / "store", store.parent / "small.yaml"
    config.write_text(SMALL)
    assert raylevance("data", "demo", "--products", "300", "--events", "20000", "--store", own).code == 0
    folder = Store(own).path("tables/demo")
    assert raylevance("data", "import", "tables", "--from", folder, "--store", own).code == 0
    source = ("--set", "data.source=tables/tables")
    ended = raylevance("run", "weak-supervision", "--config", config, "--store", own, "--json", *source)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["behaviour"] == "the log"
    encoder = ("--encoder", "encoder/weak", "--products", "tables/tables")
    assert raylevance("index", "build", *encoder, "--store", own).code == 0
    asked = ["serve", "--index", "index/weak", "--try", "red lamp", "--port", "0", "--store", str(own)]
    command = [sys.executable, "-m", "workloads.cli", *asked]
    answered = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert answered.returncode == 0, answered.stderr
    assert "red lamp" in answered.stdout and "index/weak@" in answered.stdout


@pytest.mark.long
@pytest.mark.ray
def test_a_variant_is_measured_against_the_full_recipe(store: Path, raylevance: Callable[..., Any]) -> None:
    config = store.parent / "small.yaml"
    config.write_text(SMALL)
    chosen = ("--set", "seeds=[0]", "--set", "only=[no clusters]")
    ended = raylevance("run", "weak-ablations", "--config", config, "--store", store, "--json", *chosen)
    assert ended.code == 0, ended.err
    variants = json.loads(ended.out)["variants"]
    parts = [f"full, {part}" for part in ("head alone", "transfer alone", "hybrid")]
    assert list(variants) == ["full", "no clusters", *parts, "zero-shot", "BM25"]
    for name, tasks in variants.items():
        for values in tasks.values():
            assert values["minus_full"][1] <= values["minus_full"][0] <= values["minus_full"][2]
            if name in ("full", "zero-shot", "BM25"):
                assert (values["minus_full"] == [0, 0, 0]) == (name == "full")
    opened = Store(store)
    made = [artifact for artifact in opened.artifacts() if artifact.name == "scores/weak-ablation"]
    columns = {
        name: values
        for artifact in made
        for name, values in pq.read_table(opened.path(artifact.ref) / "scores.parquet").to_pydict().items()
    }
    assert columns["full"] != columns["no clusters"], "two steps may move no pair past another, but they move cosines"
    judged, settings = JudgedTables.open(opened.path("tables/demo")), WeakSupervisionSettings()
    validation = judged.train_and_validation(settings.validation_fraction, 0)[1]
    scored = bm25_on_grades_2_and_0(validation), bm25_on_grades_2_and_0(judged.split("test"))
    at_validation = evaluate_pairs(*scored[1], best_threshold(*scored[0]))
    assert variants["BM25"]["grade 2 against 0"]["f1"] == pytest.approx(at_validation["f1"])
    full = [tasks["auc"] for tasks in variants["full"].values()]
    differences = [tasks["minus_full"][0] for tasks in variants["zero-shot"].values()]
    expected = [tasks["auc"] - own for tasks, own in zip(variants["zero-shot"].values(), full, strict=True)]
    assert differences == pytest.approx(expected)


@pytest.mark.ray
@pytest.mark.parametrize("name", ["scorer.train", "baselines.pairs"])
def test_a_metric_that_is_not_measured_is_refused_before_any_work(
    name: str, raylevance: Callable[..., Any], tmp_path: Path, ray_cluster: None
) -> None:
    ended = raylevance("run", "weak-supervision", "--set", f"{name}.keep_best=aucc", "--store", tmp_path / "store")
    line = f"{name}.keep_best=aucc: the recipe measures auc"
    assert ended.code == 2 and line in ended.err.splitlines()[-1], ended.err
    assert not Store(tmp_path / "store").names()


def test_an_unknown_variant_is_refused(raylevance: Callable[..., Any], tmp_path: Path) -> None:
    ended = raylevance("run", "weak-ablations", "--set", "only=[no mixup]", "--store", tmp_path)
    assert ended.code == 2 and "no variant 'no mixup'" in ended.err and "'with mix-up'" in ended.err
