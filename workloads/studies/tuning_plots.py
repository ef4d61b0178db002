"""Optuna's own plots of a search that Ray Tune ran, as SVG files."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search.optuna import OptunaSearch

from workloads.svg import drawing

HISTORY, PARALLEL_COORDINATES, IMPORTANCE = "history.svg", "parallel_coordinates.svg", "importance.svg"


def save_plots(folder: Path, trials: Sequence[Mapping[str, Any]], metric: str, domains: Mapping[str, Any]) -> None:
    """Write `history.svg` and, where the trials differ, `parallel_coordinates.svg` and `importance.svg` to `folder`.

    The last two compare trials that went through every stage. They are left out unless two such trials have different
    values of the metric and different settings.

    `trials`: in the order in which they ran; each has its `value`, its `stages` and its `settings` by dotted name.
    `metric`: the name of the value, which is better the higher it is.
    `domains`: Ray Tune's domain of each setting, by dotted name.
    """
    study = rebuilt_study(trials, domains)
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    varied = [name for name in sorted(domains) if len({trial.params[name] for trial in complete}) > 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        plots = optuna.visualization.matplotlib
        _save(folder / HISTORY, lambda: plots.plot_optimization_history(study, target_name=metric))
        if not varied or len({trial.value for trial in complete}) < 2:
            return
        _save(
            folder / PARALLEL_COORDINATES,
            lambda: _parallel_coordinates(study, varied, metric),
            width=4 + 1.5 * len(varied),
        )
        evaluator = FanovaImportanceEvaluator(seed=0)
        _save(
            folder / IMPORTANCE,
            lambda: plots.plot_param_importances(study, evaluator=evaluator, params=varied, target_name=metric),
        )


def rebuilt_study(trials: Sequence[Mapping[str, Any]], domains: Mapping[str, Any]) -> optuna.Study:
    """Return an Optuna study with the trials that Ray Tune ran, for arguments as in `save_plots`.

    A trial that was stopped before the last stage is a pruned trial: its value is not that of the last stage.
    """
    last_stage = max(trial["stages"] for trial in trials)
    distributions = {
        name: _containing(distribution, [trial["settings"][name] for trial in trials])
        for name, distribution in OptunaSearch.convert_search_space(dict(domains)).items()
    }
    study = optuna.create_study(direction="maximize")
    for trial in trials:
        study.add_trial(_frozen(trial, distributions, last_stage))
    return study


def _frozen(trial: Mapping[str, Any], distributions: Mapping[str, BaseDistribution], last_stage: int) -> FrozenTrial:
    return optuna.create_trial(
        state=TrialState.COMPLETE if trial["stages"] == last_stage else TrialState.PRUNED,
        value=trial["value"],
        params={name: trial["settings"][name] for name in distributions},
        distributions=dict(distributions),
        intermediate_values={trial["stages"]: trial["value"]},
    )


def _containing(distribution: BaseDistribution, values: Sequence[Any]) -> BaseDistribution:
    """Widen `distribution` to contain `values`: the settings given by the user may lie outside the search space."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = min(distribution.low, *values), max(distribution.high, *values)
    return type(distribution)(low, high, log=distribution.log)


def _parallel_coordinates(study: optuna.Study, names: list[str], metric: str) -> Any:
    """Draw the settings `names`, which are sorted, with their full names, which Optuna shortens."""
    axes = optuna.visualization.matplotlib.plot_parallel_coordinate(study, params=names, target_name=metric)
    axes.set_xticklabels([metric, *names])
    return axes


def _save(file: Path, draw: Callable[[], Any], width: float = 8) -> None:
    """Write the plot that `draw` makes with pyplot, and leave pyplot's state as it was."""
    with drawing(file, (width, 5)) as save:
        save(draw().figure)
