"""The pairs that are chosen for a judgement: of which queries, what they cost, and that labelling reads them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from raylevance.artifacts import Store
from raylevance.data.hashing import pair_ids
from raylevance.data.judged_tables import TRAIN, JudgedTables
from raylevance.data.schema import JUDGEMENTS, PRODUCTS, QUERIES
from raylevance.errors import RaylevanceError, UsageError
from raylevance.judges.cross_encoder import CrossEncoder
from raylevance.judges.labelling import check_pairs
from workloads.recipe import find_recipe, load_recipe_settings
from workloads.recipes.pairs_to_judge import TO_JUDGE, recipe
from workloads.run import Run
from workloads.steps.pair_value import ask_queries, splits_of_pairs, what_is_bought

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def store(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("to-judge") / "store"
    shutil.copytree(small_store, folder)
    return Store(folder)


def choose(store: Store, *options: str) -> tuple[dict[str, Any], pa.Table]:
    """Return the metrics of a choice from the shop of `store`, and the pairs."""
    settings = ["data.source=tables/demo", "encoder=encoder/warmup", *options]
    with Run(store) as run:
        outcome = recipe(load_recipe_settings(find_recipe("pairs-to-judge"), None, settings), run)  # type: ignore[arg-type]
        table, metrics = outcome.as_table(), outcome.as_json()
        assert table.row_count == len(metrics["bought"])
        left = f"{metrics['budget'] - metrics['chosen']} pairs of the budget are left"
        assert str(table.caption or "").startswith(left) == (metrics["chosen"] < metrics["budget"])
    return outcome.as_json(), pq.read_table(store.path(outcome.pairs.ref) / TO_JUDGE)


def test_pairs_without_a_judgement_of_queries_to_learn_from(store: Store, ray_cluster: None) -> None:
    metrics, pairs = choose(store, "pairs=40", "price_per_pair=0.5")
    judged = JudgedTables.open(store.path("tables/demo"))
    assert metrics["chosen"] == pairs.num_rows == 40 and metrics["bought"][-1]["cost"] == 20
    assert not set(pair_ids(pairs).to_pylist()) & set(pair_ids(judged.judgements).to_pylist())
    held_out = judged.judgements.filter(pc.not_equal(judged.judgements["split"], TRAIN))["query_id"]
    assert not set(pairs["query_id"].to_pylist()) & set(held_out.to_pylist())
    assert (np.diff(pairs["value"].to_numpy()) <= 0).all() and pairs["value"].to_numpy().min() > 0
    titles = dict(zip(*(judged.products[name].to_pylist() for name in ("product_id", "title")), strict=True))
    for row in pairs.to_pylist():
        assert row["product_text"].startswith(titles[row["product_id"]]) and row["rank_1"] != row["rank_2"]
        assert all(rank is None or 1 <= rank <= 20 for rank in (row["rank_1"], row["rank_2"]))
    check_pairs(store.path("pairs/to-judge") / TO_JUDGE)
    assert set(pairs["split"].to_pylist()) == {TRAIN}
    all_pairs, _ = choose(store, "pairs=100000")
    assert all_pairs["budget"] == 100000
    assert all_pairs["chosen"] + all_pairs["worth_nothing"] == all_pairs["unjudged"] < all_pairs["found"]
    last = all_pairs["bought"][-1]
    assert last["share"] == pytest.approx(1) and last["deviation"] == pytest.approx(0, abs=1e-6)
    assert last["error"] == pytest.approx(0, abs=1e-9), "the rule grades every pair that makes a difference"
    assert all(row["error_at_random"] > 0 for row in all_pairs["bought"][:5])


def test_money_buys_as_many_pairs_as_it_pays_for(store: Store, ray_cluster: None) -> None:
    metrics, _ = choose(store, "money=3", "price_per_pair=0.1")
    assert metrics["chosen"] == 30 and metrics["bought"][-1]["cost"] == 3
    for options, message in {
        ("money=3",): "money: set price_per_pair",
        ("money=3", "price_per_pair=1", "pairs=2"): "pairs and money: set one of them",
        ("money=3", "price_per_pair=4"): "pays for no pair",
    }.items():
        with pytest.raises(UsageError, match=message):
            choose(store, *options)


def test_a_judge_changes_which_pairs_are_worth_it(
    store: Store, tmp_path: Path, tiny_backbone: Path, ray_cluster: None
) -> None:
    CrossEncoder.from_backbone(str(tiny_backbone), max_tokens=48).save(tmp_path / "model")
    judge = {"backend": "cross-encoder", "cross_encoder": str(tmp_path / "model")}
    (tmp_path / "judge.yaml").write_text(yaml.safe_dump(judge))
    _, plain = choose(store, "pairs=60")
    _, doubted = choose(store, "pairs=60", f"judge={tmp_path / 'judge.yaml'}")
    assert doubted.num_rows == 60 and set(pair_ids(plain).to_pylist()) != set(pair_ids(doubted).to_pylist())


def test_an_encoder_that_is_not_there_is_refused_before_the_shop_is_made(tmp_path: Path) -> None:
    with pytest.raises(RaylevanceError, match="no/such"), Run(Store(tmp_path / "store")) as run:
        settings = ["data.source=demo", "encoder=no/such"]
        recipe(load_recipe_settings(find_recipe("pairs-to-judge"), None, settings), run)  # type: ignore[arg-type]
    assert not (tmp_path / "store" / "tables").exists()


def shop(texts: list[str], judged: list[tuple[str, str]]) -> JudgedTables:
    queries = [{"query_id": f"q{number}", "query": text} for number, text in enumerate(texts)]
    judgements = [
        {"query_id": query, "product_id": "p", "grade": 2, "source": "human", "split": split} for query, split in judged
    ]
    return JudgedTables(
        PRODUCTS.empty_table(),
        pa.Table.from_pylist(queries, QUERIES),
        pa.Table.from_pylist(judgements, JUDGEMENTS),
    )


def test_a_query_with_the_text_of_a_test_query_is_held_out() -> None:
    tables = shop(["Lamp", "hose", " LAMP", "pan"], [("q2", "test"), ("q1", "train")])
    asked = {
        which: ask_queries(tables, which).queries["query_id"].to_pylist() for which in ("train", "held-out", "all")
    }
    assert asked == {"train": ["q1", "q3"], "held-out": ["q0", "q2"], "all": ["q0", "q1", "q2", "q3"]}
    assert ask_queries(shop(["lamp"], []), "train").queries.num_rows == 1, "no judgement is needed"
    with pytest.raises(UsageError, match="queries=held-out: the tables have no such query"):
        ask_queries(shop(["lamp"], []), "held-out")


def test_an_unjudged_query_is_in_the_split_that_an_import_would_draw_for_it(tmp_path: Path) -> None:
    """Without splits in the files, the judgements of a chosen pair must not move to the other side."""
    texts = [f"query {number}" for number in range(40)]
    judged = [(f"q{number}", None) for number in range(0, 40, 2)]

    def read(folder: str, pairs: list[tuple[str, Any]]) -> JudgedTables:
        tables = shop(texts, pairs)
        for name in ("products", "queries", "judgements"):
            (tmp_path / folder / name).mkdir(parents=True)
            pq.write_table(getattr(tables, name), tmp_path / folder / name / "part.parquet")
        return JudgedTables.read(tmp_path / folder)

    before = read("before", judged)
    after = read("after", judged + [(f"q{number}", None) for number in range(1, 40, 2)])
    drawn = dict(zip(after.judgements["query_id"].to_pylist(), after.judgements["split"].to_pylist(), strict=True))
    for which, split in {"train": "train", "held-out": "test"}.items():
        asked = ask_queries(before, which).queries["query_id"].to_pylist()  # type: ignore[arg-type]
        assert asked == [f"q{number}" for number in range(40) if drawn[f"q{number}"] == split]
    pairs = pa.table({"query_id": ["q3", "q0"], "product_id": ["p", "p"]})
    assert splits_of_pairs(before, pairs).to_pylist() == [None, None]
    assert splits_of_pairs(shop(["lamp"] * 4, []), pairs).to_pylist() == [None, None], "an import will draw them"
    named = shop(["Lamp", "hose", " LAMP", "pan"], [("q2", "test"), ("q1", "train"), ("q1", "validation")])
    pairs = pa.table({"query_id": ["q3", "q2", "q0", "q1"], "product_id": ["p"] * 4})
    assert splits_of_pairs(named, pairs).to_pylist() == ["train", "test", "test", "validation"]


def test_shares_of_a_budget_add_up() -> None:
    rows = what_is_bought(np.array([4.0, 3.0, 2.0, 1.0]), 3, 5, 2.0)
    assert [row["pairs"] for row in rows] == [1, 2, 3] and [row["cost"] for row in rows] == [2, 4, 6]
    assert [row["share"] for row in rows] == pytest.approx([0.4, 0.7, 0.9])
    assert [row["deviation"] for row in rows] == pytest.approx([6**0.5 / 5, 3**0.5 / 5, 1 / 5])
