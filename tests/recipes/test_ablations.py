"""The grid of ablations: every variant is a setting, each is compared with the full recipe, and none is made twice."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from raylevance.artifacts import Store
from raylevance.config import with_changes
from tests.conftest import Ended
from workloads.recipes.mine_and_refine import EncoderRecipe
from workloads.studies.ablations import FULL, STAGE1, VARIANTS, AblationSettings

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
    ended = raylevance("run", "ablations", "--set", "only=[pairs graded anew]", "--store", tmp_path)
    assert ended.code == 2 and "changes nothing, {'mining.unjudged': 'judge'} is set already" in ended.err


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
