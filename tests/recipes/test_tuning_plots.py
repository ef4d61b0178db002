"""The plots of a search, from trials as Ray Tune reports them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from optuna.trial import TrialState
from ray import tune

from workloads.studies.tuning_plots import HISTORY, IMPORTANCE, PARALLEL_COORDINATES, rebuilt_study, save_plots

DOMAINS = {
    "stage2.train.boundaries.positive_2": tune.uniform(0.65, 0.85),
    "stage2.train.boundaries.negative_1": tune.uniform(0.5, 0.65),
    "stage2.train.learning_rate": tune.loguniform(5e-6, 5e-5),
    "mining.k": tune.choice([50, 100, 200]),
}


def trials(count: int, **changes: Any) -> list[dict[str, Any]]:
    """Trials that all went through two stages, with `changes` made to each."""
    np.random.seed(0)
    return [
        {"value": number / 10, "stages": 2, "settings": {name: domain.sample() for name, domain in DOMAINS.items()}}
        | changes
        for number in range(count)
    ]


def test_trials_that_differ_are_compared(tmp_path: Path) -> None:
    before = pyplot.rcParams["axes.facecolor"]
    save_plots(tmp_path, trials(5), "ndcg@10", DOMAINS)
    assert {file.name for file in tmp_path.iterdir()} == {HISTORY, PARALLEL_COORDINATES, IMPORTANCE}
    for file in tmp_path.iterdir():
        assert "ndcg@10" in file.read_text()
    for name in DOMAINS:
        assert name in (tmp_path / PARALLEL_COORDINATES).read_text(), "in full"
        assert name in (tmp_path / IMPORTANCE).read_text()
    assert not pyplot.get_fignums() and pyplot.rcParams["axes.facecolor"] == before, "pyplot is as it was"


def test_the_same_trials_give_the_same_files(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        save_plots(tmp_path / folder, trials(4), "auc", DOMAINS)
    for name in (HISTORY, PARALLEL_COORDINATES, IMPORTANCE):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


SAME = {"settings": {name: domain.sample() for name, domain in DOMAINS.items()}}


@pytest.mark.parametrize(("count", "changes"), [(1, {}), (3, {"value": 0.5}), (3, SAME)])
def test_trials_that_do_not_differ_have_a_history_alone(tmp_path: Path, count: int, changes: dict[str, Any]) -> None:
    save_plots(tmp_path, trials(count, **changes), "auc", DOMAINS)
    assert [file.name for file in tmp_path.iterdir()] == [HISTORY]


def test_a_setting_that_is_the_same_in_all_trials_is_not_compared(tmp_path: Path) -> None:
    made = trials(4)
    for trial in made:
        trial["settings"]["mining.k"] = 100
    save_plots(tmp_path, made, "auc", DOMAINS)
    assert "mining.k" not in (tmp_path / PARALLEL_COORDINATES).read_text()


def test_a_trial_that_was_stopped_early_is_pruned() -> None:
    made = trials(3)
    made[1]["stages"] = 1
    states = [trial.state for trial in rebuilt_study(made, DOMAINS).trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]


def test_given_settings_may_lie_outside_the_search_space() -> None:
    made = trials(2)
    made[0]["settings"]["stage2.train.learning_rate"] = 1e-3
    study = rebuilt_study(made, DOMAINS)
    assert study.trials[0].params["stage2.train.learning_rate"] == 1e-3
