"""The recipe of query classification on a small shop, the steps before its training, and its ablations."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from raylevance.artifacts import Store
from raylevance.data.judged_tables import TEST, JudgedTables
from raylevance.data.label_space import LABELS, LabelSpace
from raylevance.data.query_knowledge import clicked_products, knowledge_column, posterior_knowledge, world_knowledge
from raylevance.data.text import normalised_query
from raylevance.errors import UsageError
from raylevance.inference.query_classifier import best_columns, load
from workloads.recipe import find_recipe, load_recipe_settings
from workloads.recipes import query_classification
from workloads.recipes.query_classification import ClassifierRecipe
from workloads.run import Run
from workloads.steps.classification_report import read_predictions
from workloads.steps.classifier_training import ClassifierData, SemiLabelSettings, calibrate_tau, graph_step
from workloads.steps.encoder_training import Trainer
from workloads.steps.label_data import LabelData
from workloads.steps.label_splits import check_splits
from workloads.studies import classification_ablations
from workloads.studies.classification_ablations import ClassificationAblationSettings

pytestmark = pytest.mark.ray

Ran = tuple[Path, dict[str, str]]
SMALL = [
    "data.source=demo",
    "data.demo.products=300",
    "data.demo.queries=40",
    "data.demo.events=20000",
    "data.demo.judged_per_query=12",
    "labels.columns=[brand]",
    "sources.title_spans=1",
    "warmup.max_steps=4",
    "warmup.evaluate_every=2",
    "warmup.batch=16",
    "train.max_steps=2",
    "train.evaluate_every=2",
    "train.batch=16",
    "semi.precision=0.05",
    "machine.cpus_per_worker=1",
]


def small(name: str, backbone: Path, *more: str) -> ClassifierRecipe:
    options = [*SMALL, f"encoder.backbone={backbone}", "encoder.max_item_tokens=24", *more]
    return load_recipe_settings(find_recipe(name), None, options)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def ran(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Ran:
    """A store that the recipe has filled, and its artifacts by name."""
    store = tmp_path_factory.mktemp("classification") / "store"
    with Run(Store(store)) as run:
        outcome = query_classification.recipe(small("query-classification", tiny_backbone), run)
        assert "SSUF" in {name for task in outcome.as_json()["tasks"].values() for name in task["systems"]}
    return store, {artifact.name: artifact.ref for artifact in run.made}


def test_the_recipe_publishes_a_classifier_of_two_tasks(ran: Ran) -> None:
    store, made = Store(ran[0]), ran[1]
    served = load(store, "classifier/query")
    assert served.space.tasks == ["category", "brand"]
    metrics = store.get("labels/query").metrics
    assert set(metrics["sources"]) == {"clicks", "judgements", "titles"}
    assert metrics["labels"] == len(served.space) and metrics["queries"]["test"] > 0
    report = store.get("report/query-classification").metrics["tasks"]["category"]
    assert {"majority", "nearest label", "vote of 20 products", "linear on tf-idf", "warm-up"} < set(report["systems"])
    assert 0 <= report["systems"]["SSUF"]["accuracy@1"] <= 1
    assert store.get(made["classifier/query"]).parents[0] == made["labels/query"]


def test_test_queries_are_in_no_training_file(ran: Ran) -> None:
    """Neither as queries nor, by their judgements, as knowledge."""
    store = Store(ran[0])
    folder = store.path("labels/query")
    test = normalised_query(JudgedTables.open(store.path("tables/demo")).split(TEST).queries["query"])
    for split in ("train", "validation"):
        rows = pq.read_table(folder / f"{split}.parquet")
        assert rows.num_rows and not pc.any(pc.is_in(rows["query"], test.combine_chunks())).as_py()
    train = pq.read_table(folder / "train.parquet")
    known = pc.list_value_length(train["knowledge"]).to_numpy()
    assert known[pc.equal(train["source"], "clicks").to_numpy()].min() > 0 and known.max() <= 4
    assert set(pq.read_table(folder / "test.parquet")["query"].to_pylist()) <= set(test.to_pylist())


def test_a_second_run_makes_nothing_and_other_tables_are_found(ran: Ran, tiny_backbone: Path) -> None:
    with Run(Store(ran[0])) as run:
        query_classification.recipe(small("query-classification", tiny_backbone), run)
    assert {artifact.name: artifact.ref for artifact in run.made} == ran[1]


@pytest.mark.long
def test_modules_can_be_switched_off_one_by_one(ran: Ran, tiny_backbone: Path) -> None:
    """The ablations train without graphs, without label texts and without semi-supervised labels."""
    settings = small("classification-ablations", tiny_backbone, "only=[plain]", "seeds=[0, 1]", "sources.judgements=0")
    assert isinstance(settings, ClassificationAblationSettings)
    with Run(Store(ran[0])) as run:
        outcome = classification_ablations.recipe(settings, run)
    variants = outcome.as_json()["variants"]
    assert set(variants) == {"full", "plain"} and variants["full"]["minus_full"] == {}
    for training in variants["plain"]["trainings"]:
        assert training["edges"] == {} and training["tau"] is None and training["kept_step"] in (0, 2)
    full = variants["full"]["trainings"]
    assert len(full) == 2 and all(training["edges"]["hierarchy"] for training in full)
    assert full[-1]["tau"] == run.store.get("report/semi-labels-ablation").metrics["tau"].get("category")
    low, high = variants["plain"]["minus_full"]["macro F1"][1:]
    assert low <= variants["plain"]["means"]["macro F1"] - variants["full"]["means"]["macro F1"] <= high
    assert "plain" in {cell for column in outcome.as_table().columns for cell in column.cells}


@pytest.mark.parametrize(
    ("variant", "missing"), [("w/o SE-S", "semantic"), ("w/o SE-C", "cooccurrence"), ("w/o SE-H", "hierarchy")]
)
def test_a_variant_without_a_graph_has_none_of_its_edges(
    ran: Ran, tiny_backbone: Path, variant: str, missing: str
) -> None:
    settings = small("classification-ablations", tiny_backbone)
    assert isinstance(settings, ClassificationAblationSettings)
    changed = settings.variant(ClassifierRecipe, variant, 0)
    with Run(Store(ran[0])) as run:
        labels = LabelData.open(run, run.store.get(ran[1]["labels/query"]))
        data = ClassifierData(run, labels, Trainer(changed.machine, 0))
        graph = graph_step(data, changed.graph, changed.encoder, f"-without-{missing}")
    full = run.store.get(ran[1]["graph/labels"]).metrics["edges"]["category"]
    assert graph.metrics["edges"]["category"] == {name: count for name, count in full.items() if name != missing}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ["graph.cooccurrence=false", "graph.semantic=false", "graph.hierarchy=false"],
            "graph: all three graphs are off; set classifier.structure_enhanced=false",
        ),
        (["train.tau={category: 0.5}"], "train.tau: the recipe chooses tau itself; set semi.precision"),
        (["warmup.tau={category: 0.5}"], "warmup.tau: the recipe chooses tau itself; set semi.precision"),
        (["train.keep_best=auc"], "train.keep_best=auc: the recipe measures accuracy@1 and log_likelihood"),
    ],
)
def test_settings_that_can_not_work_are_refused_before_the_first_step(
    tiny_backbone: Path, tmp_path: Path, ray_cluster: None, change: list[str], message: str
) -> None:
    with Run(Store(tmp_path / "store")) as run, pytest.raises(UsageError, match=message):
        query_classification.recipe(small("query-classification", tiny_backbone, *change), run)
    assert not run.made


def test_an_unknown_label_to_show_is_refused_before_training(ran: Ran, tiny_backbone: Path) -> None:
    with Run(Store(ran[0])) as run, pytest.raises(UsageError, match="report_label"):
        query_classification.recipe(small("query-classification", tiny_backbone, "report_label=no such label"), run)
    assert {artifact.name for artifact in run.made} == {"tables/demo", "labels/query"}


def test_the_ablations_refuse_baselines_that_they_would_not_train(tiny_backbone: Path) -> None:
    with pytest.raises(UsageError, match="baselines: the ablations train none; leave it out"):
        small("classification-ablations", tiny_backbone, "baselines=[LSAN]")


def test_a_task_with_one_label_is_refused() -> None:
    """Its best label is right for every query, whatever is learned."""
    rows = [("brand", name, name, None, name, True) for name in ("acme", "brigg")]
    rows.append(("size", "one", "one", None, "one", True))
    columns = dict(zip(LABELS.names, map(list, zip(*rows, strict=True)), strict=True))
    space = LabelSpace(pa.table(columns, schema=LABELS))
    queries = pa.table({"task": ["brand", "brand", "size"], "labels": pa.array([[0], [1], [2]], pa.list_(pa.int32()))})
    with pytest.raises(UsageError, match="task 'size': has only one label to predict; leave it out of labels"):
        check_splits(space, {"train": queries, "validation": queries, "test": queries})


def test_a_column_without_labels_is_named(tiny_backbone: Path) -> None:
    with pytest.raises(UsageError, match="'size' has no labels; name one of brand, color"):
        small("query-classification", tiny_backbone, "labels.columns=[size]")


def test_tau_is_the_lowest_cosine_that_is_precise_enough() -> None:
    cosines = np.array([[0.9, 0.6, 0.2], [0.3, 0.8, 0.55]])
    truth = sparse.csr_matrix([[1, 0, 0], [0, 1, 0]])
    tau, curve = calibrate_tau(cosines, truth, SemiLabelSettings(precision=0.9))
    assert tau == pytest.approx(0.61) and curve[-1]["labels_per_query"] == 0
    assert calibrate_tau(cosines, truth, SemiLabelSettings(precision=0.5, most=1.5))[0] == pytest.approx(0.56)
    assert calibrate_tau(cosines, sparse.csr_matrix([[0, 1, 0], [0, 0, 1]]), SemiLabelSettings())[0] is None


def test_the_best_columns_equal_a_sort_of_all() -> None:
    rng = np.random.default_rng(0)
    for k in (1, 3, 7, 20):
        scores = rng.integers(0, 4, (50, 7)).astype(np.float32) + 0.001 * rng.permutation(350).reshape(50, 7)
        by_sort = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(best_columns(scores.astype(np.float32), k), by_sort)


def test_posterior_knowledge_has_the_heaviest_products(ray_cluster: None, tmp_path: Path) -> None:
    """Clicks in any order and any number of files are added up by query text; exposures say nothing."""
    import ray.data

    events = [("q1", "a", "click")] * 3 + [("q1", "b", "purchase"), ("q1", "c", "exposure"), ("q2", "c", "cart")]
    events += [(None, "a", "click"), ("q1", "c", "click")]
    rng = np.random.default_rng(0)
    for part, rows in enumerate(np.array_split(rng.permutation(len(events)), 3)):
        chosen = [events[row] for row in rows]
        columns = dict(zip(("query_id", "product_id", "action"), map(list, zip(*chosen, strict=True)), strict=True))
        schema = pa.schema(dict.fromkeys(columns, pa.string()))
        pq.write_table(pa.table(columns, schema), tmp_path / f"{part}.parquet")
    edges = clicked_products(ray.data.read_parquet(str(tmp_path)))
    found = {(row["query_id"], row["product_id"]): row["weight"] for row in edges.to_pylist()}
    assert found == {("q1", "a"): 3, ("q1", "b"): 5, ("q1", "c"): 1, ("q2", "c"): 3}
    products = pa.table({"product_id": ["c", "b", "a"], "title": ["Cap", "Bag", "Axe"]})
    texts = pa.array([{"q1": "Red Thing", "q2": "red  thing"}[query] for query in edges["query_id"].to_pylist()])
    known = posterior_knowledge(texts, edges["product_id"], edges["weight"].to_numpy(), products, most=2)
    assert known == {"red thing": ["Bag", "Cap"]}
    written = world_knowledge(
        pa.table({"query_id": ["q1", "q9"], "text": ["a thing that is red", "lost"]}),
        pa.table({"query_id": ["q2", "q1"], "query": ["other", "Red Thing"]}),
    )
    column = knowledge_column(["other", "red thing"], [known, written, known])
    assert column.to_pylist() == [[], ["Bag", "Cap", "a thing that is red"]]


def test_the_report_is_json_that_any_reader_takes(ran: Ran) -> None:
    text = (Store(ran[0]).path("report/query-classification") / "report.json").read_text()
    report = json.loads(text, parse_constant=lambda name: pytest.fail(f"the report holds {name}"))
    assert set(report["tasks"]) == {"category", "brand"}


def test_the_report_keeps_predictions_and_draws_a_page_for_each_task(ran: Ran) -> None:
    store = Store(ran[0])
    folder, data = store.path("report/query-classification"), LabelSpace.open(store.path("labels/query"))
    metrics = store.get("report/query-classification").metrics
    for number, task in enumerate(data.tasks):
        predicted = read_predictions(folder, data, task)
        systems = metrics["tasks"][task]["systems"]
        assert set(predicted) == set(systems)
        for name, each in predicted.items():
            assert len(each.best) == systems[name]["queries"]
            answered = float(np.mean(np.diff(each.chosen.indptr) > 0))
            assert answered == pytest.approx(systems[name]["answered"])
        page = (folder / f"report-{number}.html").read_text()
        assert f"Query classification: {task}" in page and "SSUF after warm-up" in page and "label graph around" in page
