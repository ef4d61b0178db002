"""Learning curves: which budgets are trained, what each point is compared with, and the picture."""

import itertools
import json
import shutil
import xml.etree.ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from raylevance.artifacts import Store
from raylevance.config import load_settings
from raylevance.data.judged_tables import JudgedTables
from raylevance.data.schema import ESCI_GRADES
from raylevance.demo import DemoSettings
from raylevance.demo.judgements import grade_pairs
from raylevance.demo.relevance import LABELS
from raylevance.demo.shop import open_shop
from tests.conftest import Ended
from workloads.recipes.mine_and_refine import MineAndRefineSettings, split_queries
from workloads.run import Run
from workloads.steps.tables import DataSettings
from workloads.studies.curve_plots import CURVES, save_curves
from workloads.studies.grid import FULL
from workloads.studies.learning_curves import VARIANTS, Budget, LearningCurveSettings
from workloads.studies.measured_encoders import shop_of

Command = Callable[..., Ended]


def test_each_axis_is_varied_at_the_most_of_the_other() -> None:
    budgets = LearningCurveSettings(steps=(50, 12), queries=(64, 256)).budgets()
    assert budgets == [Budget(12, 256), Budget(50, 64), Budget(50, 256)]


@pytest.mark.parametrize("study", ["annotators", "learning-curves"])
def test_the_rule_of_the_shop_grades_one_round(study: str, raylevance: Command, tmp_path: Path) -> None:
    changes = ("--set", "data.source=demo", "--set", "stage2.rounds=2")
    ended = raylevance("run", study, *changes, "--store", tmp_path)
    assert ended.code == 2 and "stage2.rounds=2: on the demo shop the study mines once" in ended.err
    assert not Store(tmp_path).names()


@pytest.mark.ray
def test_a_judge_that_is_not_there_is_refused_before_any_work(
    raylevance: Command, ray_cluster: None, small_store: Path, tmp_path: Path
) -> None:
    """Where no rule grades the mined pairs, the judge of mining is asked."""
    store = shutil.copytree(small_store, tmp_path / "store")
    before = set(Store(store).names())
    changes = ("data.source=tables/demo", "mining.judge=judge/none", "steps=[1]", "queries=[4]")
    sets = [part for change in changes for part in ("--set", change)]
    ended = raylevance("run", "learning-curves", *sets, "--store", store)
    assert ended.code == 1 and "judge/none: no such artifact" in ended.err, ended.err
    assert set(Store(store).names()) == before


@pytest.mark.parametrize("name", VARIANTS)
def test_a_budget_reaches_both_stages_and_a_variant_keeps_its_changes(name: str) -> None:
    at = LearningCurveSettings().at(name, Budget(200, 64), 3)
    for train in (at.stage1.train, at.stage2.train):
        assert train.max_steps == 200 and train.epochs * 64 >= 200 * train.batch, "the queries last for all steps"
    assert at.stage1.most_queries == 64 and at.seed == 3
    assert at.warmup.enabled == (name != "no warm-up")
    assert (at.stage1.train.loss, at.stage2.train.loss) == {
        "stage 1 InfoNCE": ("infonce", "circle"),
        "stage 1 triplet": ("triplet", "circle"),
        "stage 2 triplet": ("supcon", "triplet"),
    }.get(name, ("supcon", "circle"))


def test_the_picture_has_a_line_for_each_stage_and_one_for_stages_that_variants_share(tmp_path: Path) -> None:
    points = [
        {
            "variant": variant,
            "stage": stage,
            "steps": steps,
            "queries": queries,
            "ndcg@10": [value, value - 0.1, value + 0.1],
            "ndcg@10_judged": [value, value - 0.1, value + 0.1],
            "margin": [value, value - 0.1, value + 0.1],
        }
        for variant, stage, value in ((FULL, "stage 1", 0.5), (FULL, "stage 2", 0.6), ("other", "stage 1", 0.5))
        for steps, queries in ((1, 20), (10, 20), (10, 2))
    ]
    save_curves(tmp_path / CURVES, points)
    texts = "".join(xml.etree.ElementTree.parse(tmp_path / CURVES).getroot().itertext())
    assert "full, stage 1" in texts and "full, stage 2" in texts and "other, stage 1" not in texts
    assert "steps of each stage (20 queries)" in texts and "judged training queries (10 steps)" in texts


def test_the_rule_grades_what_is_ranked_where_the_shop_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYLEVANCE_DATA", str(tmp_path / "none"))
    demo = DemoSettings(products=700)
    assert shop_of(DataSettings(source="demo", demo=demo)) == demo
    assert shop_of(DataSettings(source="tables/demo", demo=demo)) is None
    assert shop_of(DataSettings(source="tables", folder=tmp_path, demo=demo)) is None


def test_the_best_step_is_picked_by_what_the_rule_says_of_every_product(small_store: Path, small_recipe: Path) -> None:
    settings = load_settings(MineAndRefineSettings, small_recipe)
    with Run(Store(small_store)) as run:
        judged = JudgedTables.open(run.store.path("tables/demo"))
        plain = split_queries(settings, run, run.store.get("tables/demo"), judged)
    by_rule = replace(plain, shop=settings.data.demo)
    queries, products = (
        table.to_pylist() for table in (plain.validation.queries["query_id"], judged.products["product_id"])
    )
    pairs = list(itertools.product(queries, products))
    labels = grade_pairs(open_shop(settings.data.demo), *(pa.array(ids) for ids in zip(*pairs, strict=True)))
    expected = {
        pair: ESCI_GRADES[LABELS[label]] for pair, label in zip(pairs, labels, strict=True) if LABELS[label] != "I"
    }
    rows = by_rule.evaluation().judgements.select(["query_id", "product_id", "grade"]).to_pylist()
    assert {(row["query_id"], row["product_id"]): row["grade"] for row in rows} == expected
    assert len(expected) > sum(grade > 0 for grade in plain.validation.judgements["grade"].to_pylist())
    assert plain.evaluation().judgements.equals(plain.validation.judgements)
    assert by_rule.evaluation_settings() and not plain.evaluation_settings()


@pytest.mark.long
@pytest.mark.ray
def test_the_curves_of_a_small_shop(raylevance: Command, ray_cluster: None, small_recipe: Path, tmp_path: Path) -> None:
    grid = ("--set", "steps=[1]", "--set", "queries=[4, 8]", "--set", "seeds=[0]", "--set", "only=[no warm-up]")
    call = ("run", "learning-curves", "--config", small_recipe, *grid, "--store", tmp_path, "--json")
    ended = raylevance(*call)
    assert ended.code == 0, ended.err
    points = json.loads(ended.out)["points"]
    assert [(point["variant"], point["stage"], point["queries"]) for point in points] == [
        (variant, stage, queries)
        for queries in (4, 8)
        for variant in (FULL, "no warm-up")
        for stage in ("warm-up", "stage 1", "stage 2")
    ]
    assert [list(point["minus"]) for point in points[:3]] == [[], ["warm-up"], ["warm-up", "stage 1"]]
    assert points[0]["ndcg@10"] == points[6]["ndcg@10"], "the warm-up learns from no judged query"
    again = raylevance(*call)
    assert json.loads(again.out)["points"] == points and "working" not in again.err
    too_many = raylevance("run", "learning-curves", "--config", small_recipe, "--store", tmp_path)
    assert too_many.code == 1 and "judged training queries; lower it" in too_many.err
