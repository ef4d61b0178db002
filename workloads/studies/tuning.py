"""`raylevance tune`: a recipe's settings searched on held-out training queries, by Optuna and ASHA on Ray Tune.

A trial makes the recipe's steps with other settings, in the same store. What two trials share is made once, and a
killed search, called again, draws the same trials (the sampler is seeded) and finds those that were finished.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import ray
import yaml
from matplotlib.figure import Figure
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from ray.tune.search.sample import Categorical
from rich.table import Table

from raylevance.artifacts import Artifact, Draft, Store
from raylevance.cluster import connected
from raylevance.config import changed, load_settings
from raylevance.errors import RaylevanceError, UsageError
from raylevance.progress import status
from workloads.recipe import find_recipe
from workloads.run import Run

BEST, PICTURE, TRIALS = "best.yaml", "trials.svg", "trials.json"


@dataclass(frozen=True)
class Search:
    """What every trial is told: the recipe, its settings as YAML values, and the store."""

    recipe: str
    settings: dict[str, Any]
    store: str

    def __call__(self, changes: Mapping[str, Any]) -> None:
        """One trial, in an actor of Ray Tune."""
        recipe: Any = find_recipe(self.recipe)
        settings = recipe.RecipeSettings.model_validate(changed(self.settings, changes))
        with Run(Store(self.store)) as run:
            for value in recipe.trial(settings, run):
                tune.report({recipe.METRIC: value})


@dataclass(frozen=True)
class TuneOutcome:
    """The artifact `tuning/<recipe>`."""

    store: Store
    artifact: Artifact

    def as_json(self) -> dict[str, Any]:
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
        table.caption = f"best settings: --config {self.store.path(self.artifact.ref) / BEST}"
        table.caption_justify = "left"
        return table


def tune_recipe(
    name: str, file: Path | None, overrides: Sequence[str], store: str, trials: int, seed: int = 0
) -> TuneOutcome:
    """Try `trials` settings of the recipe and publish `tuning/<recipe>`: all trials, a picture, the best as YAML.

    A recipe that can be tuned has `METRIC`, `search_space(settings)` (Ray Tune's domains by dotted setting) and
    `trial(settings, run)`, which makes the stages one by one and yields the metric of each on training queries held
    out; a trial that is worse than its peers ends there. The first trial has the settings as given.

    Raises `UsageError` for a recipe that can't be tuned, and for settings without what trials are compared by.
    """
    recipe: Any = find_recipe(name)
    if not hasattr(recipe, "search_space"):
        raise UsageError(f"{name}: can't be tuned; tune mine-and-refine or weak-supervision")
    settings = load_settings(recipe.RecipeSettings, file, overrides)
    values = settings.model_dump(mode="json")
    opened = Store(store)
    with connected():
        search = Search(name, values, str(opened))
        grid = _fit(search, recipe, settings, trials, seed, opened)
        found = sorted(_trials(grid, recipe.METRIC), key=lambda trial: -trial["value"])
    if not found:
        raise RaylevanceError(f"tune {name}: no trial ended well: {_first_error(grid)}")
    metrics = {"metric": recipe.METRIC, "trials": found, "failed": len(grid.errors)}
    with opened.publish(f"tuning/{name}", settings=values, seed=seed) as draft:
        _write(draft, metrics, values)
    assert draft.artifact is not None
    return TuneOutcome(opened, draft.artifact)


def _fit(search: Search, recipe: Any, settings: Any, trials: int, seed: int, store: Store) -> tune.ResultGrid:
    values = search.settings
    space = {name: _with_given(domain, _at(values, name)) for name, domain in recipe.search_space(settings).items()}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed)
    given = {name: _at(values, name) for name in space}
    algorithm = OptunaSearch(metric=recipe.METRIC, mode="max", sampler=sampler, points_to_evaluate=[given])
    # RAYLEVANCE_DATA may be relative to where the command runs; Ray Tune would run each trial in a folder of its own.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    tuner = tune.Tuner(
        # A trial waits for the workers that it starts: a processor of its own, or a part, would keep them out.
        # It has to ask for something: 1 MiB of the cluster's memory.
        tune.with_resources(_named(search), {"cpu": 0, "memory": 1 << 20}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric=recipe.METRIC,
            mode="max",
            search_alg=algorithm,
            scheduler=ASHAScheduler(max_t=10, grace_period=1, reduction_factor=2),
            num_samples=trials,
            max_concurrent_trials=at_once(values),
        ),
        run_config=tune.RunConfig(
            storage_path=str(store.work_folder("tune")), verbose=0, callbacks=[_Progress(recipe.METRIC, trials)]
        ),
    )
    return tuner.fit()


def _with_given(domain: Any, value: Any) -> Any:
    """`domain`, with `value` among its choices: the first trial has the settings as given."""
    if isinstance(domain, Categorical) and value not in domain.categories:
        return tune.choice([*domain.categories, value])
    return domain


def at_once(settings: Mapping[str, Any]) -> int:
    """Trials that the cluster has processors for: each training takes those of its workers, or all there are."""
    cpus = int(ray.cluster_resources().get("CPU", 1))
    each = [(train["workers"], train["cpus_per_worker"]) for train in _trainings(settings)]
    needs = [workers * processors if processors else cpus for workers, processors in each]
    return max(1, cpus // max(needs, default=cpus))


def _trainings(settings: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The training loop's settings, wherever they are among `settings`."""
    if "cpus_per_worker" in settings:
        yield settings
    for group in settings.values():
        if isinstance(group, dict):
            yield from _trainings(group)


class _Progress(tune.Callback):
    """A line on stderr for each stage of each trial."""

    def __init__(self, metric: str, trials: int) -> None:
        self._metric, self._trials, self._seen = metric, trials, dict[str, int]()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = self._seen.setdefault(trial.trial_id, len(self._seen) + 1)
        stage = result["training_iteration"]
        status(f"trial {number} of {self._trials}, stage {stage}: {self._metric} {result[self._metric]:.4f}")


def _named(search: Search) -> Callable[[Mapping[str, Any]], None]:
    def trial(changes: Mapping[str, Any]) -> None:
        search(changes)

    return trial


def _trials(grid: tune.ResultGrid, metric: str) -> list[dict[str, Any]]:
    return [
        {
            "value": result.metrics[metric],
            "stages": result.metrics["training_iteration"],
            "settings": result.config,
        }
        for result in (grid[place] for place in range(len(grid)))
        if result.error is None and result.metrics and metric in result.metrics
    ]


def _first_error(grid: tune.ResultGrid) -> str:
    return next((str(error).strip().splitlines()[-1] for error in grid.errors), "none was started")


def _at(values: Mapping[str, Any], name: str) -> Any:
    for part in name.split("."):
        values = values[part]
    return values


def _write(draft: Draft, metrics: dict[str, Any], values: dict[str, Any]) -> None:
    """The best settings are those of a trial that went through every stage."""
    trials = metrics["trials"]
    whole = max(trial["stages"] for trial in trials)
    best = next(trial for trial in trials if trial["stages"] == whole)
    (draft.path / BEST).write_text(yaml.safe_dump(changed(values, best["settings"]), sort_keys=False), "utf-8")
    (draft.path / TRIALS).write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    _picture(trials, metrics["metric"]).savefig(draft.path / PICTURE, format="svg", metadata={"Date": None})
    draft.metrics |= metrics | {"best": best}


def _picture(trials: Sequence[dict[str, Any]], metric: str) -> Figure:
    """A panel a setting: the metric of every trial against its value."""
    names = list(trials[0]["settings"])
    figure = Figure(figsize=(3 * len(names), 3))
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        axes.scatter([trial["settings"][name] for trial in trials], [trial["value"] for trial in trials], s=14)
        axes.set_xlabel(name, fontsize="small")
    panels[0].set_ylabel(metric)
    figure.tight_layout()
    return figure
