"""`raylevance tune`: a recipe's settings searched on held-out training queries, by Optuna and ASHA on Ray Tune.

A trial makes the recipe's steps with other settings, in the same store. What two trials share is made once, and a
killed search, called again, finds the steps that were finished. The first trial has the settings as given. Until
`RANDOM_TRIALS` have ended all others are drawn at random, by a seed; Optuna then draws each from the results at hand,
which depend on the order in which trials end.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml
from pydantic import ValidationError
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from ray.tune.search.sample import Categorical
from rich.table import Table

from raylevance.artifacts import Artifact, Draft, Store
from raylevance.cluster import alive_nodes, connected, run_in_thread
from raylevance.config import with_changes
from raylevance.errors import RaylevanceError, UsageError
from raylevance.progress import status
from raylevance.training.settings import MachineSettings
from raylevance.training.trainer import cpus_for_each_worker, trainings_at_once
from workloads.recipe import TUNABLE, find_recipe, load_recipe_settings, settings_type
from workloads.run import Run, check_shared_store
from workloads.studies.tuning_plots import save_plots

BEST, TRIALS = "best.yaml", "trials.json"
RANDOM_TRIALS = 5
"""Trials that have to end before Optuna's sampler reads their results (half of the default number of trials)."""
STAGE = "training_iteration"
"""Ray Tune's name of the number of values that a trial has reported, one for each stage."""
WITHOUT_EFFECT = "without_effect"
"""The settings that did not matter in a trial, each with the reason, in its report to Ray Tune and in `trials.json`."""


@dataclass(frozen=True)
class Search:
    """The input of every trial: the recipe, its settings as YAML values, and the store."""

    recipe: str
    settings: dict[str, Any]
    store: str

    def __call__(self, changes: Mapping[str, Any]) -> None:
        """Run one trial in an actor of Ray Tune, and report each value of its metric as it comes."""
        recipe: Any = find_recipe(self.recipe)
        settings = settings_type(recipe).model_validate(with_changes(self.settings, changes))
        without_effect: Any = getattr(recipe, "settings_without_effect", lambda *_: {})
        with Run(Store(self.store)) as run:
            for value in recipe.trial(settings, run):
                tune.report({recipe.METRIC: value, WITHOUT_EFFECT: without_effect(settings, run)})


@dataclass(frozen=True)
class TuneOutcome:
    """The artifact `tuning/<recipe>`."""

    store: Store
    artifact: Artifact

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        folder = self.store.path(self.artifact.ref)
        return {**self.artifact.metrics, "ref": self.artifact.ref, "config": str(folder / BEST)}

    def as_table(self) -> Table:
        """A trial a row, best first."""
        metrics = self.artifact.metrics
        names = list(metrics["trials"][0]["settings"])
        table = Table(metrics["metric"], "stages", *names, box=None, pad_edge=False)
        for trial in metrics["trials"]:
            values = [str(trial["settings"][name]) for name in names]
            table.add_row(f"{trial['value']:.4f}", str(trial["stages"]), *values)
        best = f"best settings: --config {self.store.path(self.artifact.ref) / BEST}"
        table.caption = "\n".join([*_lines(metrics["not_measured"]), best])
        table.caption_justify = "left"
        return table


def tune_recipe(
    name: str, file: Path | None, overrides: Sequence[str], store: str, trials: int, seed: int = 0
) -> TuneOutcome:
    """Try `trials` settings of the recipe and publish `tuning/<recipe>`: all trials, their plots, the best as YAML.

    A recipe that can be tuned has

    - `METRIC`, the metric of its trials,
    - `check_settings(settings, store)`, called once before the trials to refuse what none of them could do,
    - `search_space(settings)`: Ray Tune's domains by dotted setting,
    - `trial(settings, run)`, which makes the stages one by one and yields the metric of each on training queries held
      out; a trial that is worse than its peers ends there. The first trial has the settings as given,
    - optionally `settings_to_search(settings)`, the settings with a number where a searched one is null,
      `unsearched_settings(settings)`, those that can't matter and so are not searched, and
      `settings_without_effect(settings, run)`, those that turned out not to matter in a trial, each with the reason.

    What mattered in no trial that went through every stage is named, and stays as given in the best settings. A choice
    that the other settings do not allow is named too, and is not tried.

    Raises `UsageError` for a recipe that can't be tuned, and for settings without what trials are compared by.
    """
    recipe: Any = find_recipe(name)
    if name not in TUNABLE:
        raise UsageError(f"{name}: can't be tuned; tune {', '.join(TUNABLE)} or hybrid")
    settings: Any = load_recipe_settings(recipe, file, overrides)
    settings = getattr(recipe, "settings_to_search", lambda given: given)(settings)
    values = settings.model_dump(mode="json")
    opened = Store(store)
    with connected():
        check_shared_store(opened)
        recipe.check_settings(settings, opened)
        machine, at_once = share_cluster(settings.machine, alive_nodes(), trials)
        status(f"trials at once: {at_once}, with {machine.workers} workers of {machine.cpus_per_worker} CPUs each")
        for setting, reason in getattr(recipe, "unsearched_settings", lambda _: {})(settings).items():
            status(f"{setting} is not searched: {reason}")
        for setting, choices in refused_choices(settings, recipe.search_space(settings)).items():
            for choice, reason in choices.items():
                status(f"{setting}={choice} is not tried: {reason}")
        search = Search(name, values | {"machine": machine.model_dump(mode="json")}, str(opened))
        results, ended = _fit(search, recipe, settings, trials, at_once, seed, opened)
        finished, failures = _trials(results, recipe.METRIC), failed_trials(results)
    if not ended:
        reasons = "; ".join(dict.fromkeys(failure["error"] for failure in failures)) or "none was started"
        raise RaylevanceError(f"tune {name}: no trial went through every stage: {reasons}")
    for failure in failures:
        changes = ", ".join(f"{setting}={value}" for setting, value in failure["settings"].items())
        status(f"a trial failed and is left out: {failure['error']} (settings: {changes or 'not known'})")
    nothing = not_measured(finished)
    for line in _lines(nothing):
        status(line)
    metrics = {
        "metric": recipe.METRIC,
        "trials": best_first(finished),
        "failed": len(failures),
        "failures": failures,
        "not_measured": nothing,
    }
    with opened.publish(f"tuning/{name}", settings=values, seed=seed) as draft:
        _write(draft, metrics, values)
        save_plots(draft.path, finished, recipe.METRIC, _search_space(recipe, settings, values))
    assert draft.artifact is not None
    return TuneOutcome(opened, draft.artifact)


def _fit(
    search: Search, recipe: Any, settings: Any, trials: int, at_once: int, seed: int, store: Store
) -> tuple[list[tune.Result], set[str]]:
    """Run the trials; return their results, and the ids of those that came to their end."""
    values = search.settings
    space = _search_space(recipe, settings, values)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
    given = {name: _at(values, name) for name in space}
    algorithm = StagedSearch(metric=recipe.METRIC, mode="max", sampler=sampler, points_to_evaluate=[given])
    # RAYLEVANCE_DATA may be relative to where the command runs; Ray Tune would run each trial in a folder of its own.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    tuner = tune.Tuner(
        # What a trial uses is claimed by its trainings, each in a placement group of Ray Train. The trial itself only
        # waits for them: a processor of its own would keep them out. It has to ask for something: 1 MiB of memory.
        tune.with_resources(_named(search), {"cpu": 0, "memory": 1 << 20}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric=recipe.METRIC,
            mode="max",
            search_alg=algorithm,
            scheduler=ASHAScheduler(max_t=10, grace_period=1, reduction_factor=2),
            num_samples=trials,
            max_concurrent_trials=at_once,
        ),
        run_config=tune.RunConfig(
            storage_path=str(store.work_folder("tune")), verbose=0, callbacks=[_Progress(recipe.METRIC, trials)]
        ),
    )
    # In the main thread, Ray Tune takes Ctrl-C for itself and returns what it has as if the search were over.
    grid = run_in_thread(tuner.fit)
    return [grid[place] for place in range(len(grid))], algorithm.ended


class StagedSearch(OptunaSearch):
    """Optuna's search, told that a trial which the scheduler stops is pruned.

    Ray tells it that every trial is complete. Optuna would then rank a value of the first stage beside those of the
    last one; it ranks a pruned trial below them. That holds for a trial that is stopped at its last stage too.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ended = set[str]()
        """The ids of the trials that came to their end, through every stage."""
        self._stages = dict[str, int]()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Take the value of a stage after which the trial goes on."""
        self._stages[trial_id] = result[STAGE]
        super().on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """End a trial. Ray passes on the value at which the scheduler stopped it only here."""
        if result and result[STAGE] != self._stages.get(trial_id):
            super().on_trial_result(trial_id, result)
            result = None
        elif result:
            self.ended.add(trial_id)
        super().on_trial_complete(trial_id, result, error)


def _search_space(recipe: Any, settings: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    space = recipe.search_space(settings)
    refused = refused_choices(settings, space)
    return {name: _domain(domain, refused.get(name, {}), _at(values, name)) for name, domain in space.items()}


def refused_choices(settings: Any, space: Mapping[str, Any]) -> dict[str, dict[Any, str]]:
    """Return the choices of each setting in `space` that the other `settings` do not allow, each with the reason."""
    values, found = settings.model_dump(mode="json"), dict[str, dict[Any, str]]()
    for name, domain in space.items():
        for choice in domain.categories if isinstance(domain, Categorical) else ():
            try:
                type(settings).model_validate(with_changes(values, {name: choice}))
            except ValidationError as error:
                found.setdefault(name, {})[choice] = error.errors()[0]["msg"].removeprefix("Value error, ")
    return found


def _domain(domain: Any, refused: Mapping[Any, str], value: Any) -> Any:
    """`domain` without its `refused` choices, and with `value`: the first trial has the settings as given."""
    if not isinstance(domain, Categorical):
        return domain
    choices = [choice for choice in domain.categories if choice not in refused]
    return tune.choice(choices if value in choices else [*choices, value])


def share_cluster(machine: MachineSettings, nodes: list[dict[str, float]], trials: int) -> tuple[MachineSettings, int]:
    """Return the settings of the machine for each trial, and how many trials run at once: as many as fit on the nodes.

    Where `machine.cpus_per_worker` is null, the processors are divided between the workers of all trials that run.

    Raises `RaylevanceError` when the cluster has no room for the workers of one trial.
    """
    cpus = cpus_for_each_worker(machine, nodes, trials)
    at_once = min(trials, trainings_at_once(machine, nodes, cpus))
    return machine.model_copy(update={"cpus_per_worker": cpus}), at_once


class _Progress(tune.Callback):
    """A line on stderr for each stage of each trial."""

    def __init__(self, metric: str, trials: int) -> None:
        self._metric, self._trials, self._seen = metric, trials, dict[str, int]()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = self._seen.setdefault(trial.trial_id, len(self._seen) + 1)
        stage = result[STAGE]
        status(f"trial {number} of {self._trials}, stage {stage}: {self._metric} {result[self._metric]:.4f}")


def _named(search: Search) -> Callable[[Mapping[str, Any]], None]:
    def trial(changes: Mapping[str, Any]) -> None:
        search(changes)

    return trial


def _trials(results: Sequence[tune.Result], metric: str) -> list[dict[str, Any]]:
    return [
        {
            "value": result.metrics[metric],
            "stages": result.metrics[STAGE],
            "settings": result.config,
            WITHOUT_EFFECT: result.metrics.get(WITHOUT_EFFECT) or {},
        }
        for result in results
        if result.error is None and result.metrics and metric in result.metrics
    ]


def best_first(trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort by the stages that a trial went through, then by its value: those of different stages don't compare."""
    return sorted(trials, key=lambda trial: (trial["stages"], trial["value"]), reverse=True)


def not_measured(trials: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the settings that mattered in none of the trials that went through every stage, each with the reason."""
    last_stage = max(trial["stages"] for trial in trials)
    found: list[dict[str, str]] = [trial[WITHOUT_EFFECT] for trial in trials if trial["stages"] == last_stage]
    return {name: reason for name, reason in found[-1].items() if all(name in each for each in found)}


def _lines(not_measured: Mapping[str, str]) -> list[str]:
    return [f"{setting}: the search measured nothing of it, {reason}" for setting, reason in not_measured.items()]


def failed_trials(results: Sequence[tune.Result]) -> list[dict[str, Any]]:
    """Return the settings of the trials that failed, none of one that did not start, and the last line of its error."""
    failed = [(result, result.error) for result in results if result.error is not None]
    return [{"settings": result.config or {}, "error": _last_line(error)} for result, error in failed]


def _last_line(error: BaseException) -> str:
    """Return the last line that says something: pydantic ends its message with a link."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("For further information visit")]
    return (said or [type(error).__name__])[-1]


def _at(values: Mapping[str, Any], name: str) -> Any:
    for part in name.split("."):
        values = values[part]
    return values


def _write(draft: Draft, metrics: dict[str, Any], values: dict[str, Any]) -> None:
    """Write the trials, which come best first, and the best settings."""
    best = metrics["trials"][0]
    changes = {name: value for name, value in best["settings"].items() if name not in metrics["not_measured"]}
    (draft.path / BEST).write_text(yaml.safe_dump(with_changes(values, changes), sort_keys=False), "utf-8")
    (draft.path / TRIALS).write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    draft.metrics |= metrics | {"best": best}
