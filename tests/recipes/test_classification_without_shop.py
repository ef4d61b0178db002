"""Query classification from files alone, cross-validated, and its validation on spans of titles."""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from raylevance.artifacts import Store
from raylevance.data.judged_tables import TEST, JudgedTables
from raylevance.data.label_space import LabelSpace
from raylevance.data.product_labels import category_labels
from raylevance.data.pseudo_queries import cut_spans
from raylevance.data.schema import JUDGEMENTS, PRODUCTS, QUERIES
from raylevance.errors import UsageError
from raylevance.models.query_classifier import QueryClassifier, QueryClassifierSettings
from raylevance.training.settings import MachineSettings
from tests.conftest import Ended
from workloads.recipe import find_recipe, load_recipe_settings
from workloads.recipes import query_classification
from workloads.run import Run
from workloads.steps.classifier_training import ClassifierData, add_unseen_offset
from workloads.steps.encoder_training import Trainer
from workloads.steps.label_data import (
    KnowledgeSources,
    LabelData,
    LabelPlan,
    LabelSettings,
    LabelSourceSettings,
    label_step,
    title_spans,
)
from workloads.steps.label_splits import Fold
from workloads.studies import classification_folds

CLASSES = ["Kettles", "Pans", "Lamps", "Hoses", "Chairs"]
WORDS = ["red", "blue", "big", "tiny", "old"]
QUERIES_OF = {name: [f"{word} {name[:-1].lower()}" for word in WORDS] for name in CLASSES}
SMALL = [
    "data=null",
    "warmup.max_steps=2",
    "warmup.evaluate_every=2",
    "warmup.batch=8",
    "train.max_steps=1",
    "train.evaluate_every=1",
    "train.batch=8",
    "validation_fraction=0.3",
    "machine.cpus_per_worker=1",
]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """The settings that name a file of labels and one of queries; a query repeats in another case."""
    labels, queries = tmp_path / "labels.csv", tmp_path / "queries.jsonl"
    labels.write_text("label_id,name\n" + "".join(f"{name},{name}\n" for name in CLASSES))
    rows = [{"query": query, "labels": [name]} for name, own in QUERIES_OF.items() for query in own]
    rows.append({"query": "RED  Kettle", "labels": ["Kettles"]})
    queries.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [f"labels.file={labels}", f"sources.file={queries}"]


def plan(
    files: list[str], fold: Fold | None, test_fraction: float = 0.3, seed: int = 0, test_seed: int | None = None
) -> LabelPlan:
    labels, queries = (Path(option.partition("=")[2]) for option in files)
    sources = LabelSourceSettings(file=queries)
    knowledge = KnowledgeSources()
    return LabelPlan(LabelSettings(file=labels), sources, knowledge, 0.3, test_fraction, seed, fold, test_seed)


def without_ray(folder: Path) -> Run:
    return Run(Store(folder / "store"), cluster=nullcontext)


def texts(data: LabelData, split: str) -> set[str]:
    return set(data.queries(split)["query"].to_pylist())


@pytest.mark.long
@pytest.mark.ray
def test_labelled_queries_alone_train_a_classifier(
    tiny_backbone: Path, tmp_path: Path, files: list[str], ray_cluster: None
) -> None:
    settings = load_recipe_settings(
        find_recipe("query-classification"), None, [*SMALL, *files, f"encoder.backbone={tiny_backbone}"]
    )
    with Run(Store(tmp_path / "store")) as run:
        outcome = query_classification.recipe(settings, run)  # type: ignore[arg-type]
    systems = outcome.as_json()["tasks"]["category"]["systems"]
    assert set(systems) == {"majority", "nearest label", "linear on tf-idf", "warm-up", "SSUF"}
    assert "vote of 20 products" not in systems, "there is no product to vote"
    sources = run.store.get("labels/query").metrics["sources"]
    assert sources["file"]["queries"] == 25 - run.store.get("labels/query").metrics["queries"]["test"]
    assert sources["titles"]["queries"] == 0, "a source that gives nothing is reported as 0"


@pytest.mark.ray
@pytest.mark.parametrize("setting", ["labels.file", "sources.file"])
def test_a_file_that_is_not_there_is_one_line(
    raylevance: Callable[..., Ended], ray_cluster: None, tmp_path: Path, files: list[str], setting: str
) -> None:
    wrong = f"{setting}={tmp_path}/typo"
    settings = [word for each in (*files, wrong, "data=null") for word in ("--set", each)]
    ended = raylevance("run", "query-classification", "--store", tmp_path / "store", *settings)
    assert ended.code == 1 and f"{tmp_path}/typo: can't be read: No such file or directory" in ended.err
    assert "unexpected" not in ended.err and not Store(tmp_path / "store").names()


def test_labels_without_a_training_query_are_as_probable_as_validation_queries_say(
    tiny_backbone: Path, tmp_path: Path, files: list[str]
) -> None:
    with without_ray(tmp_path) as run:
        made = label_step(run, None, plan(files, None))
        folder = Path(shutil.copytree(run.store.path(made.ref), tmp_path / "labels"))
        data = ClassifierData(run, LabelData(made, folder, LabelSpace.open(folder)), Trainer(MachineSettings(), 0))
    unseen = data.labels.space.label_ids.index("Lamps")
    train = pq.read_table(data.labels.file("train"))
    kept = [unseen not in labels for labels in train["labels"].to_pylist()]
    pq.write_table(train.filter(pa.array(kept)), data.labels.file("train"))
    own = [unseen in labels for labels in data.labels.queries("validation")["labels"].to_pylist()]
    assert 0 < sum(own) < len(own) and not all(kept)
    classifier = QueryClassifier.from_encoder(tiny_backbone, data.labels.space, {}, QueryClassifierSettings())
    [head] = classifier.task_heads()
    queries = data.labels.queries("validation")["query"].to_pylist()
    [(rows, _)] = classifier.label_matrices()
    with torch.no_grad():
        head.bias.fill_(-3.0 - float((classifier.encoder.encode_queries(queries) @ rows.T).max()))
    before = head.bias.detach().clone()
    offsets = add_unseen_offset(data, classifier)
    changed = (head.bias - before).detach().numpy()
    np.testing.assert_allclose(changed, np.where(np.arange(len(CLASSES)) == unseen, offsets["category"], 0), atol=1e-5)
    [probabilities] = classifier.probabilities(queries)
    assert probabilities[:, unseen].sum() == pytest.approx(sum(own), rel=1e-3), "as many as there are"


def test_test_queries_are_a_share_that_nothing_learns_from(tmp_path: Path, files: list[str]) -> None:
    with without_ray(tmp_path) as run:
        data = LabelData.open(run, label_step(run, None, plan(files, None)))
        again = LabelData.open(run, label_step(run, None, plan(files, None, test_fraction=0.6)))
    train, validation, test = (texts(data, split) for split in ("train", "validation", "test"))
    assert train and validation and test and len(train) + len(validation) + len(test) == 25
    assert test < texts(again, "test"), "a larger share has the queries of a smaller one"


def test_trainings_of_several_seeds_are_tested_on_the_same_queries(tmp_path: Path, files: list[str]) -> None:
    """Otherwise the queries that one of them is tested on are learned from by another."""
    with without_ray(tmp_path) as run:
        first, second, third = (
            LabelData.open(run, label_step(run, None, plan(files, None, seed=seed, test_seed=test_seed)))
            for seed, test_seed in ((0, None), (1, 0), (1, None))
        )
    assert texts(first, "test") == texts(second, "test") != texts(third, "test")
    assert texts(first, "validation") != texts(second, "validation")
    assert not texts(first, "test") & (texts(second, "train") | texts(second, "validation"))


def test_folds_test_each_query_once(tmp_path: Path, files: list[str]) -> None:
    with without_ray(tmp_path) as run:
        folds = [
            LabelData.open(run, label_step(run, None, plan(files, Fold(number, 4, False)), f"-fold{number}"))
            for number in range(4)
        ]
    tests = [texts(fold, "test") for fold in folds]
    assert sorted(query for test in tests for query in test) == sorted(
        query for own in QUERIES_OF.values() for query in own
    )
    assert {len(test) for test in tests} == {6, 7}
    for fold, test in zip(folds, tests, strict=True):
        assert not test & (texts(fold, "train") | texts(fold, "validation"))


@pytest.mark.ray
@pytest.mark.long
def test_the_study_reports_on_all_queries(
    tiny_backbone: Path, tmp_path: Path, files: list[str], ray_cluster: None
) -> None:
    options = [*SMALL, *files, f"encoder.backbone={tiny_backbone}", "folds=2", "baselines=[nearest label]"]
    settings = load_recipe_settings(find_recipe("classification-folds"), None, options)
    with Run(Store(tmp_path / "store")) as run:
        outcome = classification_folds.recipe(settings, run)  # type: ignore[arg-type]
    found = outcome.as_json()["tasks"]["category"]
    assert found["queries"] == 25 and set(found["systems"]) == {"nearest label", "warm-up", "SSUF"}
    parts = [
        run.store.get(f"report/query-classification-fold{number}").metrics["tasks"]["category"] for number in (0, 1)
    ]
    mean = sum(part["queries"] * part["systems"]["SSUF"]["accuracy@1"] for part in parts) / 25
    assert found["systems"]["SSUF"]["accuracy@1"] == pytest.approx(mean)


def test_files_are_asked_for_where_there_is_no_shop(tmp_path: Path) -> None:
    settings = load_recipe_settings(find_recipe("query-classification"), None, ["data=null"])
    with (
        without_ray(tmp_path) as run,
        pytest.raises(UsageError, match=r"data=null: without a shop set labels\.file"),
    ):
        query_classification.recipe(settings, run)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no baseline 'SetFitt'; did you mean 'SetFit'"):
        load_recipe_settings(find_recipe("query-classification"), None, ["baselines=[SetFitt]"])


def shop() -> JudgedTables:
    """40 products of two categories, no two with a word in common, and queries whose judgements are in both splits."""
    rng = np.random.default_rng(3)
    products = [
        {
            "product_id": f"p{n}",
            "title": " ".join(f"{word}{chr(97 + n // 10)}{chr(97 + n % 10)}" for word in ["red", "oak", "mini", "pot"]),
            "category": ["Home", ["Kettles", "Lamps"][n % 2]],
        }
        for n in rng.permutation(40)
    ]
    queries = [{"query_id": f"q{n}", "query": f"query {n}"} for n in range(12)]
    judgements = [
        {"query_id": f"q{n}", "product_id": f"p{n}", "grade": 2, "source": "human", "split": split}
        for n in range(12)
        for split in [TEST if n < 4 else "train"]
    ]
    return JudgedTables(
        pa.Table.from_pylist(products, PRODUCTS),
        pa.Table.from_pylist(queries, QUERIES),
        pa.Table.from_pylist(judgements, JUDGEMENTS),
    )


@pytest.mark.ray
def test_spans_for_validation_have_no_sibling_in_training(tmp_path: Path, ray_cluster: None) -> None:
    judged = shop()
    (tmp_path / "products").mkdir()
    pq.write_table(judged.products, tmp_path / "products" / "0.parquet")
    space = LabelSpace(category_labels(judged.products))
    chosen = LabelPlan(LabelSettings(), LabelSourceSettings(title_spans=2), KnowledgeSources(), 0.25, 0.2, 0)
    learned, held = title_spans(tmp_path, judged.products, space, chosen, {"category": 12})
    assert held.num_rows
    owners: dict[str, set[str]] = {}
    for product in judged.products.to_pylist():
        own = pa.Table.from_pylist([product], PRODUCTS)
        for query in cut_spans(own, 2, 0)[0]:
            owners.setdefault(query, set()).add(product["product_id"])
    sides = [{owner for query in rows["query"].to_pylist() for owner in owners[query]} for rows in (learned, held)]
    shared = pc.is_in(learned["query"], held["query"].combine_chunks())
    assert not pc.any(shared).as_py() and not sides[0] & sides[1]
    assert len(sides[1]) == 6, "12 spans are lacking, and a product gives 2"
    none, nothing = title_spans(tmp_path, judged.products, space, chosen, {"category": 0})
    assert nothing.num_rows == 0 and none.num_rows > learned.num_rows


@pytest.mark.parametrize("both", [False, True])
def test_queries_of_the_test_split_join_the_folds_if_asked(tmp_path: Path, both: bool) -> None:
    judged = shop()
    with without_ray(tmp_path) as run:
        with run.store.publish("tables/shop", settings={}, seed=0) as draft:
            for name, table in (
                ("products", judged.products),
                ("queries", judged.queries),
                ("judgements", judged.judgements),
            ):
                (draft.path / name).mkdir()
                pq.write_table(table, draft.path / name / "0.parquet")
        tables = run.store.get("tables/shop")
        sources = LabelSourceSettings(titles=0)
        folds = [
            LabelPlan(LabelSettings(), sources, KnowledgeSources(posterior=2), 0.3, 0.2, 0, Fold(n, 2, both))
            for n in (0, 1)
        ]
        data = [LabelData.open(run, label_step(run, tables, each, f"-fold{n}")) for n, each in enumerate(folds)]
    tested = [texts(each, "test") for each in data]
    learned = [texts(each, "train") | texts(each, "validation") for each in data]
    every = {f"query {n}" for n in range(0 if both else 4, 12)}
    assert tested[0] | tested[1] == every and not tested[0] & tested[1]
    assert [own | test for own, test in zip(learned, tested, strict=True)] == [every, every]
    known = dict(zip(*(data[0].queries("train")[name].to_pylist() for name in ("query", "knowledge")), strict=True))
    titles = dict(zip(*(judged.products[name].to_pylist() for name in ("product_id", "title")), strict=True))
    assert all(known[query] == [titles[f"p{query.split()[1]}"]] for query in known)
