"""The recipes, on a shop of 300 products: what they publish, and what a second run makes again."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from raylevance.artifacts import Store
from raylevance.config import load_settings
from raylevance.data.graded_pairs import GradedPairs
from raylevance.data.judged_tables import TEST, TRAIN, JudgedTables
from raylevance.data.text import ProductText
from raylevance.errors import RaylevanceError
from raylevance.evaluation.ranking_metrics import read_run
from raylevance.graph.building import BehaviourGraph
from raylevance.index.grades import fit_grade_bands
from raylevance.index.products import ProductIndex
from raylevance.inference.encoding import pair_cosines
from raylevance.inference.grade_bands import load_bands
from tests.conftest import Ended
from workloads.recipe import find_recipe, settings_type
from workloads.recipes.mine_and_refine import MineAndRefineSettings, refine, split_queries
from workloads.run import Run
from workloads.steps.contrastive_instances import write_clicked_pairs
from workloads.steps.indexing import build_index
from workloads.steps.retrieval_report import mining_of
from workloads.steps.tables import DataSettings, load_tables
from workloads.steps.warmup import clicked_graph

Command = Callable[..., Ended]
PUBLISHED = [
    "encoder/stage1",
    "encoder/stage2",
    "encoder/warmup",
    "graph/warmup",
    "index/stage2",
    "pairs/mined",
    "report/baselines",
    "report/mine-and-refine",
    "tables/demo",
]
SYSTEMS = ["random", "bm25", "zero_shot", "warm-up", "stage 1", "bm25f", "stage 2", "hybrid"]
FOLDS_SYSTEMS = ["random", "bm25", "zero_shot", "warm-up", "stage 1", "stage 2", "hybrid", "hybrid, tuned"]


@pytest.fixture
def store(small_store: Path, tmp_path: Path) -> Path:
    """A copy of what the small recipe has made."""
    return Path(shutil.copytree(small_store, tmp_path / "store"))


def versions(store: Path) -> dict[str, str]:
    return {name: Store(store).get(name).version for name in Store(store).names()}


def test_what_the_recipe_publishes(small_store: Path) -> None:
    store = Store(small_store)
    assert sorted(store.names()) == PUBLISHED
    report = store.get("report/mine-and-refine")
    best = report.metrics["best"]
    assert sorted(report.metrics["systems"]) == sorted(SYSTEMS)
    assert list(report.metrics["systems"])[-1] == best["system"], "the last row is the best on validation queries"
    assert best["system"] == "hybrid" or best["validation"][best["system"]] == max(best["validation"].values())
    assert best["validation"].keys() == {"bm25f", "stage 2", "hybrid"} and best["queries"] > 0
    files = {file.path for file in report.files}
    assert {"report.html", "report.json", "qrels", "stage1.run", "stage2.run", "hybrid.run", "bm25.run"} <= files
    for parent in report.parents:
        assert store.get(parent).ref == parent
    assert report.metrics["mining"] == store.get("pairs/mined").metrics
    systems = report.metrics["systems"]
    assert list(systems["stage 2"]["minus"]) == ["zero_shot", "bm25", "warm-up", "stage 1"]
    assert systems["stage 1"]["minus"]["stage 1"] == [0, 0, 0]


def test_a_second_run_makes_nothing(raylevance: Command, store: Path, small_recipe: Path) -> None:
    before = versions(store)
    ended = raylevance("run", "mine-and-refine", "--config", small_recipe, "--store", store, "--json")
    assert ended.code == 0, ended.err
    assert ended.err.count(": unchanged") == len(PUBLISHED)
    assert versions(store) == before
    outcome = json.loads(ended.out)
    assert {name: reference.partition("@")[2] for name, reference in outcome["artifacts"].items()} == before
    assert Path(outcome["report"]).is_file()
    for system in SYSTEMS:
        low, high = outcome["systems"][system]["ci95"]["ndcg@10"]
        assert 0 <= low <= outcome["systems"][system]["ndcg@10"] <= high <= 1


def test_people_get_a_table(raylevance: Command, store: Path, small_recipe: Path) -> None:
    ended = raylevance("run", "mine-and-refine", "--config", small_recipe, "--store", store)
    rows = [line.split("  ")[0] for line in ended.out.splitlines()]
    best = Store(store).get("report/mine-and-refine").metrics["best"]["system"]
    assert [row for row in rows if row in SYSTEMS] == sorted(SYSTEMS, key=lambda name: name == best)
    assert f"last row: {best}" in ended.out
    assert "queries of demo, 300 products ranked" in ended.out and "mining: {'hard_" in ended.out


def test_the_store_is_listed_and_shown(raylevance: Command, store: Path) -> None:
    listed = json.loads(raylevance("store", "list", "--store", store, "--json").out)
    assert sorted(artifact["name"] for artifact in listed["artifacts"]) == PUBLISHED
    shown = json.loads(raylevance("store", "show", "encoder/stage1", "--store", store, "--json").out)
    assert [parent.partition("@")[0] for parent in shown["parents"]] == ["tables/demo", "encoder/warmup"]
    assert shown["metrics"]["steps"] == 2


@pytest.mark.long
@pytest.mark.ray
def test_every_query_is_ranked_by_an_encoder_that_never_saw_it(
    raylevance: Command, ray_cluster: None, store: Path, small_recipe: Path
) -> None:
    before = versions(store)
    folds = ("--set", "folds=2", "--set", "stage1.validation_fraction=0.4")
    ended = raylevance("run", "cross-validation", "--config", small_recipe, *folds, "--store", store, "--json")
    assert ended.code == 0, ended.err
    outcome, opened = json.loads(ended.out), Store(store)
    assert versions(store)["encoder/warmup"] == before["encoder/warmup"], "the folds' warm-up reads no log"
    assert (outcome["queries"], list(outcome["systems"])) == (24, FOLDS_SYSTEMS)
    judged = JudgedTables.open(opened.path("tables/demo"))
    ranked = read_run(Path(outcome["report"]) / "stage1.run")
    assert ranked.keys() == set(judged.queries["query_id"].to_pylist())
    first, second = (opened.get(f"encoder/stage1-fold{number}").settings["queries"] for number in (0, 1))
    assert first != second


@pytest.mark.long
@pytest.mark.ray
def test_a_second_round_mines_with_the_first_ones_encoder_and_keeps_its_pairs(
    small_store: Path, small_recipe: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(small_store, tmp_path / "store"))
    before = versions(store)
    settings = load_settings(MineAndRefineSettings, small_recipe, ["stage2.rounds=2"])
    with Run(Store(store)) as run:
        tables, stage1 = run.store.get("tables/demo"), run.store.get("encoder/stage1")
        data = split_queries(settings, run, tables, JudgedTables.open(run.store.path(tables.ref)))
        last = refine(settings, data, stage1, "")
    made = {artifact.name: artifact for artifact in run.made}
    first, second = made["pairs/mined-round1"], made["pairs/mined"]
    assert made["encoder/stage2-round1"].ref in second.parents and stage1.ref in first.parents
    assert {made["encoder/stage2-round1"].ref, first.ref, second.ref} < set(last.parents)
    assert first.ref in second.parents, "what the first round's judge said is known to the second"
    assert mining_of(run.store, last.model_copy(update={"parents": (last.ref,)})) == second.metrics
    assert versions(store)["encoder/stage2"] != before["encoder/stage2"]


def test_bands_are_of_queries_held_out_and_go_with_the_encoder(store: Path, small_recipe: Path) -> None:
    """An index of a catalogue without judgements has them too."""
    made = Store(store)
    encoder = made.path("encoder/stage2")
    settings = load_settings(MineAndRefineSettings, small_recipe)
    learned, validation = JudgedTables.open(made.path("tables/demo")).train_and_validation(0.2, seed=0)
    pairs, others = (GradedPairs.from_tables(part, settings.text) for part in (validation, learned))
    scores, of_others = (pair_cosines(encoder, part.queries, part.texts) for part in (pairs, others))
    bands = load_bands(encoder)
    assert (
        bands == fit_grade_bands(scores, np.array(pairs.grades)) != fit_grade_bands(of_others, np.array(others.grades))
    )
    assert ProductIndex.load(made.path("index/stage2")).bands == bands
    with made.publish("tables/bare") as draft:
        shutil.copytree(made.path("tables/demo") / "products", draft.path / "products")
    bare = build_index("encoder/stage2", "tables/bare", str(store), None, [])
    assert ProductIndex.load(made.path(bare.ref)).bands == bands


def test_the_warm_up_reads_the_log_but_for_queries_held_out(small_store: Path, tmp_path: Path) -> None:
    """Every pair was chosen in the log, each query's first product before its second; none is of a held-out query."""
    store = Store(small_store)
    tables = store.path("tables/demo")
    learned, _ = JudgedTables.open(tables).train_and_validation(0.2, seed=0)
    graph = store.path("graph/warmup")
    write_clicked_pairs(graph, tables, tmp_path, ProductText(), count=40)
    written = pq.read_table(tmp_path / "clicked.parquet")
    events = pq.read_table(tables / "events").filter(pc.field("action") != "exposure")
    events = events.join(pq.read_table(tables / "queries", columns=["query_id", "query"]), "query_id")
    products = pq.read_table(tables / "products")
    texts = pa.table({"product_id": products["product_id"], "text": ProductText().compose_column(products)})
    events = events.join(texts, "product_id")
    chosen = set(zip(events["query"].to_pylist(), events["text"].to_pylist(), strict=True))
    queries = written["query"].to_pylist()
    pairs = list(zip(queries, (items[0] for items in written["items"].to_pylist()), strict=True))
    assert pairs and len(set(pairs)) == len(pairs) and set(pairs) <= chosen
    assert set(queries) <= set(learned.queries["query"].to_pylist())
    assert queries[: len(set(queries))] == list(dict.fromkeys(queries))


def test_the_warm_up_reads_the_log_of_queries_that_nobody_judged(small_store: Path, tmp_path: Path) -> None:
    """Without its judgements a query of the test split is one that the log alone knows; the others stay out."""
    shutil.copytree(small_store, tmp_path / "store")
    with Run(Store(tmp_path / "store")) as run:
        tables = run.store.get("tables/demo")
        judged = JudgedTables.open(run.store.path(tables.ref))
        chosen = pq.read_table(run.store.path(tables.ref) / "events").filter(pc.field("action") != "exposure")
        tested = judged.split(TEST).queries
        freed = tested.filter(pc.is_in(tested["query_id"], chosen["query_id"].combine_chunks()))["query_id"][:1]
        graded = judged.judgements.filter(pc.invert(pc.is_in(judged.judgements["query_id"], freed.combine_chunks())))
        judged = replace(judged, judgements=graded)
        data = split_queries(MineAndRefineSettings(), run, tables, judged)
        learned = data.human_train
        graph = clicked_graph(data, "graph/with-unjudged")
        assert graph is not None
        asked = BehaviourGraph.load(run.store.path(graph.ref)).query_item_ppmi.indptr
    read = set(judged.queries["query_id"].filter(pa.array(np.diff(asked) > 0)).to_pylist())
    assert freed[0].as_py() in read
    assert read <= {freed[0].as_py(), *learned.queries["query_id"].to_pylist()}


def test_synthetic_queries_with_the_text_of_a_held_out_one_are_left_out(small_store: Path) -> None:
    settings = MineAndRefineSettings.model_validate({"synthetic": {"tables": "tables/demo", "share": 0.5}})
    with Run(Store(small_store)) as run:
        judged = JudgedTables.open(run.store.path("tables/demo"))
        data = split_queries(settings, run, run.store.get("tables/demo"), judged)
        learned, joined = data.human_train, data.train
    assert set(joined.queries["query_id"].to_pylist()) == set(learned.queries["query_id"].to_pylist())
    assert joined.queries.num_rows > learned.queries.num_rows


def test_folds_part_the_queries(small_store: Path) -> None:
    judged = JudgedTables.open(Store(small_store).path("tables/demo"))
    seen: list[str] = []
    for fold in judged.cross_validation_folds(5, seed=3):
        tested = fold.split(TEST).queries["query_id"].to_pylist()
        trained = fold.split(TRAIN).queries["query_id"].to_pylist()
        assert sorted(tested + trained) == sorted(judged.queries["query_id"].to_pylist())
        assert fold.judgements.num_rows == judged.judgements.num_rows
        seen += tested
    assert sorted(seen) == sorted(judged.queries["query_id"].to_pylist())


@pytest.fixture
def tables(tmp_path: Path) -> Callable[[list[str | None]], Path]:
    """A tables folder with a judgement a query, of the given splits."""

    def write(splits: list[str | None]) -> Path:
        ids = [f"q{number}" for number in range(len(splits))]
        for name, columns in {
            "products": {"product_id": ["p"], "title": ["kettle"]},
            "queries": {"query_id": ids, "query": [f"query {name}" for name in ids]},
            "judgements": {
                "query_id": ids,
                "product_id": ["p"] * len(ids),
                "split": pa.array(splits, pa.string()),
                "source": ["human"] * len(ids),
                "grade": pa.array([2] * len(ids), pa.int8()),
            },
        }.items():
            (tmp_path / name).mkdir()
            pq.write_table(pa.table(columns), tmp_path / name / "part.parquet")
        return tmp_path

    return write


@pytest.mark.parametrize("seed", [0, 1])
def test_judgements_without_splits_get_them_by_query(tables: Callable[[list[str | None]], Path], seed: int) -> None:
    """Of 200 queries about 120 are learned from, a fifth of them held out; none is on two sides."""
    judged = JudgedTables.open(tables([None] * 200))
    learned, held_out = judged.split_off_validation(TRAIN, 0.2, seed)
    sides = [set(part.queries["query_id"].to_pylist()) for part in (learned, held_out, judged.split(TEST))]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 200
    assert 75 <= len(sides[0]) <= 115 and 12 <= len(sides[1]) <= 40


def test_validation_queries_are_the_datas_own_or_cut_off(tables: Callable[[list[str | None]], Path]) -> None:
    judged = JudgedTables.open(tables([*["train"] * 100, *["test"] * 20]))
    learned, validation = judged.train_and_validation(0.2, seed=0)
    assert validation.queries.equals(judged.split_off_validation(TRAIN, 0.2, 0)[1].queries)
    assert learned.queries.num_rows + validation.queries.num_rows == 100
    split = pa.array([*["train"] * 70, *["validation"] * 30, *["test"] * 20])
    own = replace(judged, judgements=judged.judgements.set_column(2, "split", split))
    learned, validation = own.train_and_validation(0.2, seed=0)
    assert [part.queries.num_rows for part in (learned, validation)] == [70, 30]
    asked = pa.chunked_array([pa.array(["query q0"] * 120)])
    same = replace(own, queries=own.queries.set_column(1, "query", asked))
    with pytest.raises(RaylevanceError, match="leakage: 30 of 30 validation queries are judged in training too"):
        same.train_and_validation(0.2, seed=0)


def test_a_pair_that_is_judged_more_than_once(
    tables: Callable[[list[str | None]], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """A person's first judgement counts, wherever a language model's stands."""
    folder = tables(["train", "train", "test"])
    judgements = pq.read_table(folder / "judgements")
    again = pa.concat_tables([*[judgements.slice(0, 1)] * 2, judgements])
    for name, values in (("source", ["llm:a", *["human"] * 4]), ("grade", [0, 1, 1, 0, 2])):
        column = again.column_names.index(name)
        again = again.set_column(column, again.field(name), pa.array(values, again.field(name).type))
    pq.write_table(again, folder / "judgements" / "part.parquet")
    kept = JudgedTables.open(folder).judgements
    assert kept["grade"].to_pylist() == [1, 0, 2] and set(kept["source"].to_pylist()) == {"human"}
    line = "2 judgements of pairs that are judged already are left out, 1 of them with another grade"
    assert line in capfd.readouterr().err


def test_judgements_of_which_some_have_a_split(tables: Callable[[list[str | None]], Path]) -> None:
    with pytest.raises(RaylevanceError, match="1 judgements have no split and others do"):
        JudgedTables.open(tables(["train", None, "test"]))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_few_queries_are_on_both_sides(tables: Callable[[list[str | None]], Path], count: int) -> None:
    judged = JudgedTables.open(tables([None] * count))
    train, test = judged.split(TRAIN).queries, judged.split(TEST).queries
    assert train.num_rows + test.num_rows == count and min(train.num_rows, test.num_rows) >= 1
    if train.num_rows > 1:
        learned, held_out = judged.train_and_validation(0.2, seed=0)
        assert learned.queries.num_rows + held_out.queries.num_rows == train.num_rows
    else:
        with pytest.raises(RaylevanceError, match="train and validation need a judged query of different text each"):
            judged.train_and_validation(0.2, seed=0)


def test_what_to_do_where_a_split_is_empty(tables: Callable[[list[str | None]], Path]) -> None:
    """An index needs no test queries; a recipe does, and says so before it starts."""
    folder = tables(["train", "train"])
    assert JudgedTables.read(folder).split(TRAIN).queries.num_rows == 2
    with pytest.raises(RaylevanceError, match=r"split 'test' is empty.*; write test in the column split for all"):
        JudgedTables.open(folder)
    pq.write_table(pq.read_table(folder / "queries").slice(0, 1), folder / "queries" / "part.parquet")
    judgement = pq.read_table(folder / "judgements").slice(0, 1).set_column(2, "split", pa.nulls(1, pa.string()))
    pq.write_table(judgement, folder / "judgements" / "part.parquet")
    with pytest.raises(RaylevanceError, match=r"no query is left for \w+: train and test need .*; judge more queries"):
        JudgedTables.open(folder)


@pytest.mark.parametrize(
    "name", ["mine_and_refine", "weak_supervision", "judge", "query_classification", "item_retrieval"]
)
def test_the_yaml_beside_a_recipe_holds_its_defaults(name: str) -> None:
    settings = settings_type(find_recipe(name.replace("_", "-")))
    file = Path(__file__).parents[2] / "workloads" / "recipes" / f"{name}.yaml"
    assert load_settings(settings, file) == settings()


@pytest.mark.parametrize(("name", "recipe"), [("full", "mine-and-refine"), ("baskets", "item-retrieval")])
def test_the_other_yaml_beside_a_recipe_changes_its_settings(name: str, recipe: str) -> None:
    settings = settings_type(find_recipe(recipe))
    file = Path(__file__).parents[2] / "workloads" / "recipes" / f"{name}.yaml"
    loaded, written = load_settings(settings, file).model_dump(mode="json"), yaml.safe_load(file.read_text())
    default = settings().model_dump(mode="json")
    assert written and all(differs(written[part], loaded[part], default[part]) for part in written)


def differs(written: Any, loaded: Any, default: Any) -> bool:
    """Whether every value that is written is loaded, and is not the default."""
    if isinstance(written, dict):
        return all(differs(value, loaded[name], default[name]) for name, value in written.items())
    return bool(written == loaded != default)


def test_a_recipe_takes_tables_of_the_store(small_store: Path) -> None:
    with Run(Store(small_store)) as run:
        tables = load_tables(DataSettings(source="tables/demo"), run)
        assert tables.ref == Store(small_store).get("tables/demo").ref and run.made == [tables]
    with pytest.raises(ValueError, match="'esc' is neither a source nor tables/NAME of the store; did you mean 'esci'"):
        DataSettings(source="esc")


def test_tables_that_lie_in_the_store_are_told_apart(small_store: Path, tmp_path: Path, ray_cluster: None) -> None:
    """A folder of the store is a source like any other: other rows in it are other tables."""
    store = tmp_path / "store"
    for name in ("products", "queries", "judgements"):
        shutil.copytree(small_store / "tables/demo" / versions(small_store)["tables/demo"] / name, store / "own" / name)
    settings = DataSettings(source="tables", folder=store / "own")
    with Run(Store(store)) as run:
        first = load_tables(settings, run)
    file = next((store / "own" / "queries").glob("*.parquet"))
    queries = pq.read_table(file)
    pq.write_table(queries.set_column(1, "query", pa.array(["kettle"] * len(queries))), file)
    with Run(Store(store)) as run:
        assert load_tables(settings, run).ref != first.ref
