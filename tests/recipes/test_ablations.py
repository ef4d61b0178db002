"""The grid of ablations: every variant is a setting, each is compared with the full recipe, and none is made twice."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from raylevance.artifacts import Store
from raylevance.config import load_settings, with_changes
from tests.conftest import Ended
from workloads.recipes.mine_and_refine import EncoderRecipe
from workloads.studies.ablations import FULL, STAGE1, VARIANTS, AblationSettings, why_mining_adds_nothing

Command = Callable[..., Ended]


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != FULL])
def test_a_variant_changes_the_recipe_and_nothing_shared(name: str) -> None:
    full = EncoderRecipe.model_validate({"mining": {"unjudged": "skip"}})
    values = full.model_dump(mode="json")
    variant = EncoderRecipe.model_validate(with_changes(values, VARIANTS[name]))
    assert variant != full
    assert with_changes(variant.model_dump(mode="json"), {key: _at(values, key) for key in VARIANTS[name]}) == values


def _at(values: object, name: str) -> object:
    for part in name.split("."):
        assert isinstance(values, dict)
        values = values[part]
    return values


def test_an_unknown_variant_is_refused(raylevance: Command, tmp_path: Path) -> None:
    ended = raylevance("run", "ablations", "--set", "only=[no taxonmy]", "--store", tmp_path)
    assert ended.code == 2 and "did you mean 'no taxonomy'" in ended.err


def test_a_variant_that_is_set_already_is_refused_and_left_out(raylevance: Command, tmp_path: Path) -> None:
    """The judge is asked by default."""
    assert "pairs graded anew" in VARIANTS and "pairs graded anew" not in AblationSettings().chosen()
    assert AblationSettings().left_out() == {"pairs graded anew": "{'mining.unjudged': 'judge'} is set already"}
    ended = raylevance("run", "ablations", "--set", "only=[pairs graded anew]", "--store", tmp_path)
    assert ended.code == 2 and "changes nothing, {'mining.unjudged': 'judge'} is set already" in ended.err


@pytest.mark.parametrize(
    ("setting", "variant", "reason"),
    [
        ("mining.unjudged=skip", "mined pairs alone", "mining.unjudged=skip: mining adds no pair"),
        ("stage1.enabled=false", "in-batch negatives", "stage1.enabled=false: stage 1 is not trained"),
        ("stage2.train.loss=triplet", "gamma 80", "only the circle loss reads it"),
        ("stage2.train.loss=triplet", "weights with gradient", "only the circle loss reads it"),
        ("spelling.share=0", "misspelt in place", "spelling.share=0: no query is misspelt"),
        ("encoder.tied=false", "two towers in stage 2", "a tower each already"),
    ],
)
def test_a_variant_that_nothing_reads_is_refused_and_left_out(
    raylevance: Command, tmp_path: Path, setting: str, variant: str, reason: str
) -> None:
    assert AblationSettings().why_unread(variant) is None
    ended = raylevance("run", "ablations", "--set", setting, "--set", f"only=[{variant}]", "--store", tmp_path)
    assert ended.code == 2 and reason in ended.err and ended.err.count("\n") == 1, ended.err
    settings = load_settings(AblationSettings, None, [setting])
    assert variant not in settings.chosen() and reason in settings.left_out()[variant]
    assert set(settings.chosen()) == set(VARIANTS) - settings.left_out().keys(), "each is measured or named"


def test_a_variant_is_measured_where_its_own_change_makes_it_matter() -> None:
    """`mining.unjudged=judge` is what the variant sets, on a grid that skips unjudged pairs."""
    settings = load_settings(AblationSettings, None, ["mining.unjudged=skip"])
    assert {"pairs graded anew", "graded anew but the ten hardest"} <= set(settings.chosen())
    assert list(settings.left_out()) == ["mined pairs alone"]


@pytest.mark.parametrize(
    ("name", "metrics", "reason"),
    [
        ("pairs graded anew", {"trusted": False, "judge": "j", "agreement": {"quadratic_kappa": 0.05}}, "kappa 0.05"),
        ("mined pairs alone", {"trusted": False, "judge": "j", "agreement": None}, "no grade"),
        ("mined pairs alone", {"trusted": True}, None),
        ("gamma 80", {"trusted": False, "judge": "j", "agreement": None}, None),
        (FULL, {"trusted": False, "judge": "j", "agreement": None}, None),
    ],
)
def test_a_variant_of_mining_needs_a_judge_that_is_trusted(
    tmp_path: Path, name: str, metrics: dict[str, object], reason: str | None
) -> None:
    store = Store(tmp_path)
    with store.publish("pairs/mined") as draft:
        draft.metrics |= metrics
        (draft.path / "mined.parquet").touch()
    with store.publish("encoder/stage2", parents=[store.get("pairs/mined").ref]) as draft:
        (draft.path / "model").touch()
    found = why_mining_adds_nothing(store, name, store.get("encoder/stage2"))
    assert found is None if reason is None else found is not None and reason in found


@pytest.mark.long
@pytest.mark.ray
def test_the_grid_goes_on_and_leaves_the_recipes_encoders_alone(
    raylevance: Command, ray_cluster: None, small_store: Path, small_recipe: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(small_store, tmp_path / "store"))
    before = {name: Store(store).get(name).ref for name in Store(store).names()}
    chosen = ("--set", "only=[stage 2 triplet]", "--set", "seeds=[0]")
    ended = raylevance("run", "ablations", "--config", small_recipe, *chosen, "--store", store, "--json")
    assert ended.code == 0, ended.err
    variants = json.loads(ended.out)["variants"]
    assert list(variants) == [STAGE1, FULL, "stage 2 triplet"]
    assert variants[FULL]["minus_full"] is None and len(variants[STAGE1]["minus_full"]) == 3
    assert {name: Store(store).get(name).ref for name in before} == before
    stages1 = [made for made in Store(store).artifacts() if made.name == "encoder/stage1-ablation"]
    assert len(stages1) == 1, "what both variants start from"
    again = raylevance("run", "ablations", "--config", small_recipe, *chosen, "--store", store, "--json")
    assert json.loads(again.out)["variants"] == variants and "working" not in again.err
