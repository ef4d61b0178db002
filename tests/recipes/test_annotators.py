"""Simulated annotators: how often and in which way they are wrong, and the study of what their labels give."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raylevance.config import load_settings
from raylevance.errors import UsageError
from tests.conftest import Ended
from workloads.studies.annotators import Annotator, AnnotatorSettings

Command = Callable[..., Ended]
PAIRS = pa.table({"query_id": [f"q{n % 200}" for n in range(20_000)], "product_id": [f"p{n}" for n in range(20_000)]})
RULE = np.random.default_rng(0).integers(0, 3, PAIRS.num_rows).astype(np.int8)


@pytest.mark.parametrize("error", [0.0, 0.06, 0.25, 0.5])
def test_errors_are_neighbouring_grades_at_the_stated_rate(error: float) -> None:
    grades = Annotator("", error=error).grades(RULE, PAIRS, 0)
    wrong = grades != RULE
    assert abs(wrong.mean() - error) < 4 * np.sqrt(error * (1 - error) / len(RULE)) + 1e-12
    assert (np.abs(grades[wrong] - RULE[wrong]) == 1).all()
    between = grades[wrong & (RULE == 1)]
    assert not len(between) or abs((between == 2).mean() - 0.5) < 0.05, "both neighbours of the middle grade"


def test_one_who_accepts_too_much_only_raises_grades() -> None:
    grades = Annotator("", yes=0.3).grades(RULE, PAIRS, 0)
    assert set(grades[grades != RULE]) == {2}
    assert abs((grades != RULE)[RULE < 2].mean() - 0.3) < 0.02 and (grades == RULE)[RULE == 2].all()


def test_a_pair_has_one_grade_whatever_stands_beside_it() -> None:
    order = np.random.default_rng(1).permutation(len(RULE))[:500]
    annotator = Annotator("", error=0.5, yes=0.1)
    some = annotator.grades(RULE[order], PAIRS.take(pa.array(order)), 7)
    assert (some == annotator.grades(RULE, PAIRS, 7)[order]).all()
    assert (some != annotator.grades(RULE, PAIRS, 8)[order]).any(), "the seed decides"


def test_the_reference_is_always_among_the_annotators() -> None:
    names = [annotator.name for annotator in AnnotatorSettings(errors=(0.5, 0.06), yes=(0.5,)).annotators()]
    assert names == ["0% errors", "6% errors", "50% errors", "yes to 50%"]


def test_annotators_of_other_shares_have_other_names() -> None:
    names = [each.name for each in AnnotatorSettings(errors=(0.12, 0.124), yes=(0.5, 0.5, 0.501)).annotators()]
    assert names == ["0% errors", "12% errors", "12.4% errors", "yes to 50%", "yes to 50.1%"]


@pytest.mark.parametrize("name", ["errors", "yes"])
@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_between_0_and_1(name: str, share: float) -> None:
    with pytest.raises(UsageError, match=rf"setting '{name}.0': .* got {share}"):
        load_settings(AnnotatorSettings, overrides=[f"{name}=[{share}]"])


def test_only_the_shop_has_a_rule(raylevance: Command, tmp_path: Path) -> None:
    ended = raylevance("run", "annotators", "--set", "data.source=tables/mine", "--store", tmp_path)
    assert ended.code == 2 and "only the demo shop has a rule" in ended.err


@pytest.mark.long
@pytest.mark.ray
def test_the_study_on_a_small_shop(raylevance: Command, ray_cluster: None, small_recipe: Path, tmp_path: Path) -> None:
    chosen = ("--set", "errors=[0.25]", "--set", "yes=[]", "--set", "stage1.most_queries=8")
    ended = raylevance("run", "annotators", "--config", small_recipe, *chosen, "--store", tmp_path, "--json")
    assert ended.code == 0, ended.err
    true, wrong = json.loads(ended.out)["annotators"]
    assert true["right"] == 1 and 0.6 < wrong["right"] < 0.9
    own, beside_true = "graded mined pairs, own labels", "graded mined pairs, true labels"
    assert true[own] == true[beside_true], "its own labels are the true ones"
    assert wrong[own] != wrong[beside_true]
