"""Import of the Alibaba log, and the recipe on a small log of its form, in which users stay with two categories."""

import json
import re
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from raylevance.artifacts import Store
from raylevance.errors import RaylevanceError
from raylevance.evaluation.item_metrics import Targets, good_rate
from raylevance.graph.item_choices import requests_before_and_after
from raylevance.graph.item_graph import REQUESTS_FOLDER, ItemGraph, ItemGraphSettings
from raylevance.graph.item_requests import DAY
from raylevance.index.item_scores import popularity_of_new_items, popularity_terms
from raylevance.index.item_table import ItemTableSettings
from raylevance.inference.item_table import load
from tests.conftest import Ended
from workloads.recipes.item_retrieval import ItemRecipe, search_space, settings_without_effect, unsearched_settings
from workloads.run import Run
from workloads.steps.item_data import ItemData, TimeSplitSettings
from workloads.steps.item_measures import read_per_request
from workloads.steps.item_pages import chosen_examples
from workloads.steps.item_training import VECTORS, table_step
from workloads.studies.item_ablations import VARIANTS, ItemAblationSettings, why_without_effect, without_features

Command = Callable[..., Ended]
DAYS, USERS, ITEMS, CATEGORIES = 8, 60, 90, 6
SMALL = ["train.max_steps=40", "train.batch=32", "encoder.dimension=16", "train.random_negatives=40", "table.k=30"]
SETTINGS = [part for setting in SMALL for part in ("--set", setting)]


def write_log(folder: Path, seed: int = 0) -> Path:
    """Write items and interactions in random order; the ids are numbers, and some rows repeat."""
    rng = np.random.default_rng(seed)
    items = {
        "product_id": (1000 + rng.permutation(ITEMS)).tolist(),
        "category": [None if i % 11 == 0 else str(i % CATEGORIES) for i in range(ITEMS)],
        "brand": [None if i % 3 else f"b{i % 5}" for i in range(ITEMS)],
        "price": [None if i % 13 == 0 else float(i + 1) for i in range(ITEMS)],
    }
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(items), folder / "items.parquet")
    rows = []
    for user in range(USERS):
        favourites = rng.choice(CATEGORIES, 2, replace=False)
        for day in rng.choice(DAYS, 4, replace=False):
            for _ in range(rng.integers(2, 6)):
                own = [i for i in range(ITEMS - 3) if i % CATEGORIES in favourites]
                item = items["product_id"][own[rng.integers(len(own))]]
                action = ["click", "Favourite", "cart", "purchase"][rng.integers(4)]
                rows.append((f"u{user}", item, action, date(2019, 6, 10) + timedelta(int(day))))
    rows += [rows[place] for place in rng.integers(0, len(rows), 20)]
    order = rng.permutation(len(rows))
    columns = [[rows[place][column] for place in order] for column in range(4)]
    names = ("user_id", "product_id", "action", "date")
    pq.write_table(pa.table(dict(zip(names, columns, strict=True))), folder / "interactions.parquet")
    return folder


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log"))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_import_keeps_every_row_and_names_what_it_changes(raylevance: Command, log: Path, tmp_path: Path) -> None:
    ended = raylevance("data", "import", "alibaba", "--from", log, "--store", tmp_path, "--json")
    assert ended.code == 0, ended.err
    printed = json.loads(ended.out)
    raw = pq.read_table(log / "interactions.parquet")
    assert printed["rows"] == {"products": ITEMS, "events": raw.num_rows}
    folder = Store(tmp_path).path("tables/alibaba")
    events = pq.read_table(folder / "events").to_pylist()
    ours = {"Favourite": "cart"}
    expected = [
        (row["user_id"], str(row["product_id"]), ours.get(row["action"], row["action"]), row["date"].isoformat())
        for row in raw.to_pylist()
    ]
    found = [(e["user_id"], e["product_id"], e["action"], e["timestamp"].date().isoformat()) for e in events]
    assert sorted(found) == sorted(expected)
    assert {e["request_id"] for e in events} == {f"{u}-{day.replace('-', '')}" for u, _, _, day in expected}
    products = {row["product_id"]: row for row in pq.read_table(folder / "products").to_pylist()}
    for row in pq.read_table(log / "items.parquet").to_pylist():
        ours_row = products[str(row["product_id"])]
        assert ours_row["category"] == (None if row["category"] is None else [row["category"]])
        assert (ours_row["price"], ours_row["brand"]) == (row["price"], row["brand"])


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("action", "look", "action is not click, favourite, cart or purchase"),
        ("action", None, "action is missing"),
        ("product_id", 7, "unknown product_id"),
        ("date", None, "date is missing"),
    ],
)
def test_a_bad_row_is_named(
    raylevance: Command, log: Path, tmp_path: Path, column: str, value: object, message: str
) -> None:
    rows = pq.read_table(log / "interactions.parquet").to_pylist()[:30]
    rows[17] |= {column: value}
    folder = tmp_path / "bad"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "interactions.parquet")
    (folder / "items.parquet").write_bytes((log / "items.parquet").read_bytes())
    ended = raylevance("data", "import", "alibaba", "--from", folder, "--store", tmp_path / "store")
    assert ended.code == 1
    last = ended.err.strip().splitlines()[-1]
    assert f"interactions.parquet: row 18: {message}" in last
    if isinstance(value, str):
        assert f'"{column}": "{value}"' in last


@pytest.fixture(scope="module")
def store(log: Path, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    """A store that the small recipe has filled, from an import that the store had before."""
    from workloads.recipe import find_recipe, load_recipe_settings, run_recipe
    from workloads.steps.tables import import_source

    folder = tmp_path_factory.mktemp("items") / "store"
    import_source("alibaba", log, str(folder), on_bad_row="stop")
    recipe = find_recipe("item-retrieval")
    run_recipe(recipe, load_recipe_settings(recipe, None, ["data.source=alibaba", *SMALL]), str(folder), fresh=False)
    return folder


@pytest.mark.ray
def test_the_page_shows_lists_and_the_graph_around_an_item(store: Path) -> None:
    page = (Store(store).path("report/item-retrieval") / "report.html").read_text(encoding="utf-8")
    metrics = Store(store).get("report/item-retrieval").metrics["systems"]
    found = {name: metrics[name]["recall@50"][0] for name in metrics if name != "GCL-MO"}
    best = [name for name in found if found[name] == max(found.values())]
    heading = re.search(r"<h2>Where (\S+) (?:and|finds more than) (\S+)", page)
    assert heading and set(heading.groups()) in [{"GCL-MO", name} for name in best]
    assert page.count("(chosen)</li>") > 3
    assert not re.search(r"<(script|link|img)|src=|href=.?http", page)
    graph = ItemGraph.load(Store(store).path("graph/items-held-out"))
    item = int(graph.event_counts.sum(axis=1).argmax())
    ids = graph.items["product_id"].to_pylist()
    assert f"The item graph around {ids[item]}" in page
    own = slice(*graph.neighbours.indptr[item : item + 2])
    heaviest = int(graph.neighbours.indices[own][graph.neighbours.weights[own].argmax()])
    assert re.search(rf"neighbour</td><td>{ids[heaviest]}", page)


def test_requests_are_shown_where_two_systems_differ_most() -> None:
    found = [np.array([3, 0, 5, 1, 0, 2, 9, 0]), np.array([0, 0, 6, 0, 4, 0, 3, 1])]
    assert chosen_examples(found) == {
        "Where {0} finds more than {1}": [6, 0, 5, 3],
        "Where {1} finds more than {0}": [4, 2, 7],
    }
    assert chosen_examples(found[:1]) == {"Where {0} finds most": [6, 2, 0, 5]}
    assert chosen_examples([np.array([0, 2, 1])] * 2) == {"Where {0} and {1} find most, as many as each other": [1, 2]}
    assert chosen_examples([np.array([1, 2]), np.array([0, 2])])["Where {1} finds more than {0}"] == []


def test_the_good_rate_is_not_measured_without_categories() -> None:
    lists, targets = np.array([[2, 0, -1], [1, 2, 0]]), Targets.of([[0], [1]])
    np.testing.assert_array_equal(good_rate(lists, targets, np.array([1, 2, 1]), 2), [1.0, 0.5])
    assert np.isnan(good_rate(lists, targets, np.zeros(3, np.int64), 2)).all()


@pytest.mark.ray
def test_an_unknown_item_of_the_page_is_refused_before_training(
    raylevance: Command, store: Path, tmp_path: Path
) -> None:
    command = ("run", "item-retrieval", "--store", store, "--set", "data.source=alibaba", *SETTINGS)
    ended = raylevance(*command, "--set", "report_item=100l")
    assert ended.code == 2
    assert re.search(
        r"report_item=100l: tables/alibaba@\w+ has no such product; .* like '1000', '1001', '1002'\n", ended.err
    )
    assert "encoder/" not in ended.err


@pytest.mark.ray
def test_the_report_holds_every_system(store: Path) -> None:
    report = Store(store).get("report/item-retrieval").metrics
    rules = {"popularity", "category popularity", "item-CF", "Swing", "EASE", "neighbours"}
    assert set(report["systems"]) == rules | {"LightGCN", "XSimGCL", "GraphSAGE", "GCL-MO"}
    for values in report["systems"].values():
        for metric in ("recall@50", "recall_p@20", "recall_known@200", "ndcg@50", "good@20", "tail@20"):
            low, mean, high = values[metric][1], values[metric][0], values[metric][2]
            assert 0 <= low <= mean <= high <= 1
    model, popularity = report["systems"]["GCL-MO"], report["systems"]["popularity"]
    assert model["recall@20"][0] > popularity["recall@20"][0], "users stay with their categories"
    assert model["good@20"][0] > popularity["good@20"][0]
    assert set(report["left_out"]) == {"without a trigger", "without a new item"}
    each = pq.read_table(Store(store).path("report/item-retrieval") / "per-request.parquet")
    own = each.filter(pc.equal(each["system"], "GCL-MO"))
    assert own.num_rows == report["requests"] == len(pc.unique(own["request_id"]))
    assert read_per_request(Store(store).path("report/item-retrieval") / "per-request.parquet", "EASE").keys() == {
        name for name in each.column_names if "@" in name
    }


@pytest.mark.ray
def test_no_event_of_the_test_part_is_in_the_graph_that_is_measured(store: Path) -> None:
    opened = Store(store)
    events = pq.read_table(opened.path("tables/alibaba") / "events")
    last_day = max(events["timestamp"].to_pylist()).date()
    held_out = ItemGraph.load(opened.path("graph/items-held-out"))
    whole = ItemGraph.load(opened.path("graph/items"))
    before = sum(time.date() < last_day for time in events["timestamp"].to_pylist())
    assert held_out.event_counts.sum() == before
    assert whole.event_counts.sum() == events.num_rows
    cut = max(held_out.items["first_time"].drop_null().to_pylist())
    tests = pq.read_table(opened.path("requests/items-test") / "requests")
    assert cut < min(tests["time"].to_pylist())


@pytest.mark.ray
def test_the_table_is_the_exact_order_of_the_encoder(store: Path) -> None:
    opened = Store(store)
    vectors = np.load(opened.path("encoder/items") / VECTORS).astype(np.float64)
    table = load(opened, "table/items").table
    events = ItemGraph.load(opened.path("graph/items")).event_counts.sum(axis=1)
    new = popularity_of_new_items(*requests_before_and_after(opened.path("graph/items") / REQUESTS_FOLDER, ITEMS))
    assert opened.get("table/items").metrics["popularity_of_new_items"] == round(new, 3)
    cosines = vectors @ vectors.T + popularity_terms(events, 0.1, ItemTableSettings().popularity, new)
    np.fill_diagonal(cosines, -np.inf)
    for item in range(ITEMS):
        found = table.neighbours[item].astype(int)
        best = np.sort(cosines[item])[::-1][: len(found)]
        np.testing.assert_allclose(cosines[item, found], best, atol=1e-6)
        np.testing.assert_allclose(table.scores[item], best, atol=1e-5)


@pytest.mark.ray
def test_after_histories_a_new_item_is_an_average_one(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "store")
    opened = Store(tmp_path / "store")
    settings = ItemRecipe.model_validate({"train": {"temperature": 0.1, "histories": 4}, "table": {"k": 30}})
    with Run(opened) as run:
        data = ItemData.open(run, opened.get("tables/alibaba"), settings.graph, settings.split)
        graph, encoder = opened.get("graph/items"), opened.get("encoder/items")
        made = table_step(data, graph, encoder, settings.table, settings.train, "other")
    assert (
        made.metrics["popularity_of_new_items"] == 1.0 != opened.get("table/items").metrics["popularity_of_new_items"]
    )
    graph_events = ItemGraph.load(opened.path(graph.ref)).event_counts.sum(axis=1)
    terms = popularity_terms(graph_events, 0.1, settings.table.popularity)
    vectors = np.load(opened.path(encoder.ref) / VECTORS).astype(np.float64)
    best = np.sort((vectors @ vectors.T + terms - 9 * np.eye(ITEMS)), axis=1)[:, -1]
    np.testing.assert_allclose(load(opened, "table/other").table.scores[:, 0], best, atol=1e-5)


@pytest.mark.ray
def test_recommend_finds_items_without_events_by_their_features(
    raylevance: Command, store: Path, log: Path, tmp_path: Path
) -> None:
    """The last three items have no event. A user of their category is recommended them."""
    items = pq.read_table(log / "items.parquet").to_pylist()
    new = [row for row in items[-3:] if row["category"] is not None]
    assert new
    rows = [
        {"request_id": row["category"], "product_id": str(other["product_id"]), "weight": 1.0}
        for row in new
        for other in items[:-3]
        if other["category"] == row["category"]
    ][::-1]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "T.parquet")
    files = ("--triggers", tmp_path / "T.parquet", "--output", tmp_path / "F.parquet", "--k", 10, "--store", store)
    ended = raylevance("recommend", "--table", "table/items", *files)
    assert ended.code == 0, ended.err
    found = pq.read_table(tmp_path / "F.parquet").to_pylist()
    for row in new:
        own = [line["product_id"] for line in found if line["request_id"] == row["category"]]
        assert str(row["product_id"]) in own


@pytest.mark.ray
def test_a_second_run_makes_nothing_again_and_prints_the_same(raylevance: Command, store: Path) -> None:
    before = {artifact.ref for artifact in Store(store).artifacts()}
    ended = raylevance("run", "item-retrieval", "--set", "data.source=alibaba", *SETTINGS, "--store", store, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["systems"] == Store(store).get("report/item-retrieval").metrics["systems"]
    assert {artifact.ref for artifact in Store(store).artifacts()} == before


@pytest.mark.long
@pytest.mark.ray
def test_ablations_share_steps_with_each_other(raylevance: Command, store: Path) -> None:
    only = ("--set", "only=[AP loss, objective level alone]", "--set", "seeds=[0]")
    ended = raylevance(
        "run", "item-ablations", "--set", "data.source=alibaba", *SETTINGS, *only, "--store", store, "--json"
    )
    assert ended.code == 0, ended.err
    printed = json.loads(ended.out)
    assert list(printed["variants"]) == ["full", "AP loss", "objective level alone"]
    full = Store(store).get("report/item-retrieval").metrics["systems"]["GCL-MO"]
    assert printed["variants"]["full"]["recall@50"] == full["recall@50"]
    made = [artifact.name for artifact in Store(store).artifacts()]
    assert made.count("graph/items-ablation") == 1
    assert made.count("encoder/items-ablation") == 3


def test_the_weight_of_an_objective_without_edges_has_no_effect_in_a_search(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = Run(store)
    for name, without in (("items-trial", ["exposure", "purchase"]), ("items", ["relevance"])):
        with store.publish(f"graph/{name}") as draft:
            draft.metrics["objectives_without_edges"] = without
            (draft.path / "graph").touch()
        run.made.append(store.get(f"graph/{name}"))
    found = settings_without_effect(ItemRecipe(), run)
    assert set(found) == {"train.weights.exposure", "train.weights.purchase"} < set(search_space(ItemRecipe()))


def test_what_an_encoder_does_not_read_is_not_searched_nor_ablated() -> None:
    values = {"encoder": {"neighbours": False, "ids": False}}
    unsearched = unsearched_settings(ItemRecipe.model_validate(values))
    assert set(unsearched) == {"train.neighbours", "train.drop_nodes", "train.perturb_edges"}
    assert set(unsearched.values()) == {"encoder.neighbours=false: no neighbour is read"}
    assert not unsearched.keys() & search_space(ItemRecipe.model_validate(values)).keys()
    assert unsearched_settings(ItemRecipe()) == {} and unsearched.keys() < search_space(ItemRecipe()).keys()
    objective = {"train.weights.exposure": "no edge"}
    assert [name for name, changed in VARIANTS.items() if why_without_effect(changed, objective)] == [
        "without exposure"
    ]


def test_variants_that_can_not_be_trained_are_left_out_before_any_training(tmp_path: Path) -> None:
    settings = ItemAblationSettings.model_validate({"train": {"loss": "other-positives"}})
    assert set(settings.left_out()) == {"mixed negatives", "AP loss"} == VARIANTS.keys() - set(settings.chosen())
    assert "mixed_negatives would mix known positives with loss=other" in settings.left_out()["mixed negatives"]
    with pytest.raises(ValidationError, match=r"only=.mixed negatives.: measures nothing"):
        ItemAblationSettings.model_validate({"train": {"loss": "other-positives"}, "only": ["mixed negatives"]})
    for name, value in {"baselines": ("EASE",), "refit": False, "report_item": "p1"}.items():
        with pytest.raises(ValidationError, match=f"{name}: the ablations don't read it; leave it out"):
            ItemAblationSettings.model_validate({name: value})
    with Store(tmp_path).publish("tables/log") as draft:
        (draft.path / "products").mkdir()
        pq.write_table(pa.table({"product_id": ["a"]}), draft.path / "products" / "part-0.parquet")
    tables = Store(tmp_path).get("tables/log")
    data = ItemData(Run(Store(tmp_path)), tables, ItemGraphSettings(), 0, 0)
    assert set(without_features(ItemAblationSettings(), data)) == {"without ids"}
    with pytest.raises(RaylevanceError, match="reads no feature that the items have"):
        without_features(ItemAblationSettings.model_validate({"encoder": {"ids": False}}), data)


@pytest.mark.parametrize(
    ("setting", "code", "message"),
    [
        ("train.precision=bf16", 2, "train.precision=bf16: item encoders train in fp32"),
        ("machine.batch_tokens=4096", 2, "machine.batch_tokens: item encoders read no texts"),
        ("train.evaluate_every=5", 1, "train.evaluate_every: "),
    ],
)
def test_settings_that_nothing_reads_are_refused(
    raylevance: Command, tmp_path: Path, setting: str, code: int, message: str
) -> None:
    ended = raylevance("run", "item-retrieval", "--set", setting, "--store", tmp_path)
    assert ended.code == code and message in ended.err.strip().splitlines()[-1]
    assert not Store(tmp_path).names()


@pytest.mark.parametrize(("hours", "days"), [((0,), 8), ((9, 12, 17), 8), ((0, 23), 30)])
def test_a_search_of_settings_never_reads_the_test_days(tmp_path: Path, hours: tuple[int, ...], days: int) -> None:
    times = [datetime(2019, 6, 10, hour, tzinfo=UTC) + timedelta(day) for day in range(days) for hour in hours]
    with Store(tmp_path).publish("tables/log") as draft:
        (draft.path / "events").mkdir()
        column = pa.array(times, pa.timestamp("ms", tz="UTC"))
        pq.write_table(pa.table({"timestamp": column}), draft.path / "events" / "part-0.parquet")
    with Run(Store(tmp_path)) as run:
        tables = Store(tmp_path).get("tables/log")
        whole = ItemData.open(run, tables, ItemGraphSettings(), TimeSplitSettings())
        split = TimeSplitSettings(test_days=whole.held_out_days)
        trial = ItemData.open(run, tables, ItemGraphSettings(), split, end=whole.cut)
    length = max(1, days // 8)
    first = datetime(2019, 6, 10, tzinfo=UTC)
    assert (whole.held_out_days, trial.held_out_days) == (length, length)
    assert whole.cut == int((first + timedelta(days - length)).timestamp() * 1000)
    assert (trial.end, trial.cut) == (whole.cut, whole.cut - length * int(DAY))
    with pytest.raises(RaylevanceError, match=rf"split.leave_out_days={days} leaves nothing .* {days} days; lower it"):
        ItemData.open(run, tables, ItemGraphSettings(), TimeSplitSettings(leave_out_days=days))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.source=alibabaa"], "alibaba"),
        (["train.weights.click=-1"], "train.weights.click"),
        (["split.test_days=0"], "split.test_days"),
        (["split.leave_out_days=-1"], "split.leave_out_days"),
        (["baselines=[nothing]"], "baselines"),
    ],
)
def test_a_wrong_setting_is_named(raylevance: Command, tmp_path: Path, settings: list[str], message: str) -> None:
    given = [part for setting in settings for part in ("--set", setting)]
    ended = raylevance("run", "item-retrieval", *given, "--store", tmp_path)
    assert ended.code == 2, ended
    assert message in ended.err


@pytest.mark.ray
def test_tables_without_a_log_are_refused(raylevance: Command, log: Path, tmp_path: Path) -> None:
    from raylevance.data.schema import PRODUCTS

    with Store(tmp_path).publish("tables/bare") as draft:
        (draft.path / "products").mkdir()
        row = {"product_id": "a", "title": "a"}
        pq.write_table(pa.Table.from_pylist([row], PRODUCTS), draft.path / "products" / "part-0.parquet")
    ended = raylevance("run", "item-retrieval", "--set", "data.source=tables/bare", "--store", tmp_path)
    assert ended.code == 1
    assert "has no events; item retrieval needs a log" in ended.err
