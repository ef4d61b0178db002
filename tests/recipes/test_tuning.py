"""A search of settings: real trials under Ray Tune on two processors, and what comes of them."""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from raylevance.artifacts import Store
from raylevance.cluster import run_in_thread
from raylevance.config import load_settings, with_changes
from raylevance.errors import RaylevanceError, UsageError
from raylevance.training.settings import MachineSettings
from tests.conftest import Ended
from workloads.recipe import TUNABLE, find_recipe, settings_type
from workloads.recipes.mine_and_refine import (
    METRIC,
    MineAndRefineSettings,
    search_space,
    settings_to_search,
    settings_without_effect,
    unsearched_settings,
)
from workloads.run import Run
from workloads.steps.encoder_training import kept_metric
from workloads.studies import tuning
from workloads.studies.tuning import (
    StagedSearch,
    _at,
    _search_space,
    best_first,
    failed_trials,
    not_measured,
    refused_choices,
    share_cluster,
)

Command = Callable[..., Ended]


def test_a_change_reaches_its_setting_and_no_other() -> None:
    values = MineAndRefineSettings().model_dump(mode="json")
    made = with_changes(values, {"stage2.train.boundaries.positive_2": 0.8, "mining.k": 50})
    settings = MineAndRefineSettings.model_validate(made)
    assert (settings.stage2.train.boundaries.positive_2, settings.mining.k) == (0.8, 50)
    back = with_changes(made, {"stage2.train.boundaries.positive_2": 0.75, "mining.k": 100})
    assert MineAndRefineSettings.model_validate(back) == MineAndRefineSettings()
    assert values == MineAndRefineSettings().model_dump(mode="json")


@pytest.mark.parametrize("name", TUNABLE)
def test_every_searched_setting_exists(name: str) -> None:
    recipe: Any = find_recipe(name)
    settings = settings_type(recipe)()
    values = settings.model_dump(mode="json")
    for setting, domain in recipe.search_space(settings).items():
        made = with_changes(values, {setting: domain.sample()})
        assert settings_type(recipe).model_validate(made).model_dump(mode="json") == made


def test_the_synthetic_share_is_searched_where_there_are_synthetic_queries() -> None:
    with_some = MineAndRefineSettings.model_validate({"synthetic": {"tables": "tables/synthetic"}})
    found = [search_space(settings).get("synthetic.share") for settings in (MineAndRefineSettings(), with_some)]
    assert found[0] is None and 0 <= found[1].sample() <= 0.2


@pytest.mark.parametrize(
    ("k", "skip_top", "searched"), [(100, 0, {50, 100, 200}), (100, 30, {100, 200}), (400, 150, {400})]
)
def test_the_searched_ranks_leave_some_for_hard_negatives(k: int, skip_top: int, searched: set[int]) -> None:
    settings = MineAndRefineSettings.model_validate({"mining": {"k": k, "skip_top": skip_top}})
    assert set(search_space(settings)["mining.k"].categories) == searched


@pytest.mark.parametrize(
    ("changes", "unread"),
    [
        ({}, {"synthetic.share"}),
        ({"mining.unjudged": "skip"}, {"synthetic.share", "mining.k"}),
        ({"mining.unjudged": "irrelevant"}, {"synthetic.share"}),
        ({"spelling.mode": "none"}, {"synthetic.share", "spelling.share"}),
        ({"warmup.enabled": False}, {"synthetic.share", "warmup.train.learning_rate"}),
        ({"stage1.enabled": False}, {"synthetic.share", "stage1.train.learning_rate", "stage1.train.temperature"}),
        ({"stage1.train.loss": "triplet"}, {"synthetic.share", "stage1.train.temperature"}),
        (
            {"stage2.train.loss": "triplet"},
            {"synthetic.share", "stage2.train.gamma"}
            | {f"stage2.train.boundaries.{name}" for name in ("positive_2", "positive_1", "negative_1", "negative_0")},
        ),
    ],
)
def test_what_nothing_reads_is_not_searched_and_said(changes: dict[str, Any], unread: set[str]) -> None:
    settings = MineAndRefineSettings.model_validate(
        with_changes(MineAndRefineSettings().model_dump(mode="json"), changes)
    )
    left_out = unsearched_settings(settings)
    assert set(left_out) == unread and not unread & set(search_space(settings))
    assert all(": " in reason and "\n" not in reason for reason in left_out.values())


def test_the_first_trial_has_the_settings_as_given(tmp_path: Path) -> None:
    """Choices take in a value that is none of them; whatever the other boundaries draw, they stay in order."""
    values = with_changes(MineAndRefineSettings().model_dump(mode="json"), {"mining.k": 150, "stage2.train.gamma": 48})
    settings = MineAndRefineSettings.model_validate(values)
    space = _search_space(find_recipe("mine-and-refine"), settings, values)
    search = OptunaSearch(space, metric="ndcg@10", mode="max", points_to_evaluate=[{n: _at(values, n) for n in space}])
    drawn = [search.suggest(str(trial)) for trial in range(20)]
    assert MineAndRefineSettings.model_validate(with_changes(values, drawn[0])) == settings
    for changes in drawn:
        MineAndRefineSettings.model_validate(with_changes(values, changes))


def test_a_choice_that_the_other_settings_do_not_allow_is_not_tried() -> None:
    recipe: Any = find_recipe("weak-supervision")
    values = with_changes(settings_type(recipe)().model_dump(mode="json"), {"moco.batch": 1024, "moco.queue": 4096})
    settings = settings_type(recipe).model_validate(values)
    [(name, refused)] = refused_choices(settings, recipe.search_space(settings)).items()
    assert name == "moco.queue" and list(refused) == [512] and "1024" in refused[512]
    assert _search_space(recipe, settings, values)["moco.queue"].categories == [2048, 8192, 4096]
    assert refused_choices(settings_type(recipe)(), recipe.search_space(settings)) == {}


@pytest.mark.ray
def test_what_no_trial_could_do_is_refused_before_the_first(
    raylevance: Command, ray_cluster: None, tmp_path: Path
) -> None:
    ended = raylevance("tune", "mine-and-refine", "--store", tmp_path, "--set", "mining.judge=judge/none")
    assert ended.code == 1 and "judge/none: no such artifact" in ended.err and "trials at once" not in ended.err
    assert not (tmp_path / ".work" / "tune").exists()


def test_a_search_needs_stages_that_are_evaluated() -> None:
    values = MineAndRefineSettings().model_dump(mode="json")
    never = MineAndRefineSettings.model_validate(with_changes(values, {"stage2.train.evaluate_every": None}))
    with pytest.raises(UsageError, match=r"stage2.train.evaluate_every=null: a search compares trials by ndcg@10"):
        search_space(never)


@pytest.mark.parametrize(("loss", "starts_at"), [("supcon", 0.5), ("infonce", 0.07)])
def test_a_temperature_that_is_null_is_searched_from_where_it_starts(loss: str, starts_at: float) -> None:
    values = MineAndRefineSettings().model_dump(mode="json")
    null = {"stage1.train.loss": loss, "stage1.train.temperature": None}
    given = MineAndRefineSettings.model_validate(with_changes(values, null))
    settings = settings_to_search(given)
    assert settings.stage1.train.temperature == starts_at
    domain = search_space(settings)["stage1.train.temperature"]
    assert domain.lower < starts_at < domain.upper
    none = MineAndRefineSettings.model_validate({"stage1": {"train": {"loss": "triplet", "temperature": None}}})
    assert settings_to_search(none) == none


def test_a_search_of_weak_supervision_needs_a_scorer_that_is_evaluated() -> None:
    recipe: Any = find_recipe("weak-supervision")
    values = with_changes(
        settings_type(recipe)().model_dump(mode="json"),
        {"scorer.train.evaluate_every": None, "scorer.train.keep_best": None},
    )
    with pytest.raises(UsageError, match=r"scorer.train.evaluate_every=null: a search compares trials by auc; set it"):
        recipe.search_space(settings_type(recipe).model_validate(values))


@pytest.mark.parametrize(
    ("machine", "nodes", "trials", "cpus", "at_once"),
    [
        ({}, [(2, 0)], 20, 1, 2),
        ({}, [(16, 0), (8, 0)], 4, 5, 4),
        ({}, [(16, 0)], 1, 16, 1),
        ({"workers": 2}, [(8, 0), (4, 0)], 1, 4, 1),
        ({"workers": 2, "cpus_per_worker": 4}, [(8, 0), (4, 0)], 20, 4, 1),
        ({"workers": 2, "cpus_per_worker": 2}, [(8, 0), (4, 0)], 20, 2, 3),
        ({"use_gpu": True}, [(16, 2), (16, 1), (64, 0)], 20, 8, 3),
        ({"workers": 4}, [(2, 0), (3, 0)], 20, 1, 1),
    ],
)
def test_as_many_trials_run_at_once_as_fit(
    machine: dict[str, Any], nodes: list[tuple[int, int]], trials: int, cpus: int, at_once: int
) -> None:
    cluster = [{"CPU": float(node_cpus), "GPU": float(gpus)} for node_cpus, gpus in nodes]
    shared, count = share_cluster(MachineSettings.model_validate(machine), cluster, trials)
    assert (shared.cpus_per_worker, count) == (cpus, at_once)


@given(
    nodes=st.lists(st.tuples(st.integers(1, 32), st.integers(0, 4)), min_size=1, max_size=4),
    workers=st.integers(1, 6),
    use_gpu=st.booleans(),
    trials=st.integers(1, 12),
)
def test_the_trials_at_once_fit_on_the_nodes_and_one_more_does_not(
    nodes: list[tuple[int, int]], workers: int, use_gpu: bool, trials: int
) -> None:
    """Workers placed one by one, as a scheduler would: each on the first node that has its processors and GPU."""
    machine = MachineSettings(workers=workers, use_gpu=use_gpu)
    cluster = [{"CPU": float(cpus), "GPU": float(gpus)} for cpus, gpus in nodes]
    try:
        shared, at_once = share_cluster(machine, cluster, trials)
    except RaylevanceError as error:
        assert f"machine.workers={workers}" in str(error) and placed(cluster, 1, use_gpu) < workers
        return
    assert shared.cpus_per_worker is not None
    room = placed(cluster, shared.cpus_per_worker, use_gpu)
    assert workers * at_once <= room and (at_once == trials or room < workers * (at_once + 1))


def placed(nodes: list[dict[str, float]], cpus: int, use_gpu: bool) -> int:
    """Return how many workers find room."""
    free = [dict(node) for node in nodes]
    count = 0
    while node := next((node for node in free if node["CPU"] >= cpus and node["GPU"] >= int(use_gpu)), None):
        node["CPU"] -= cpus
        node["GPU"] -= int(use_gpu)
        count += 1
    return count


@pytest.mark.parametrize(
    ("rounds", "with_originals", "unread"),
    [
        ([], True, False),
        ([True], True, False),
        ([False], True, True),
        ([False, True], True, False),
        ([False, False], True, True),
        ([False], False, False),
    ],
)
def test_mining_has_no_effect_where_its_judge_failed_in_every_round(
    tmp_path: Path, rounds: list[bool], with_originals: bool, unread: bool
) -> None:
    store = Store(tmp_path)
    run = Run(store)
    for number, trusted in enumerate(rounds):
        with store.publish(f"pairs/mined-trial-round{number}") as draft:
            draft.metrics |= {"trusted": trusted, "judge": "j", "agreement": {"quadratic_kappa": 0.05}}
            (draft.path / "mined.parquet").touch()
        run.made.append(store.get(f"pairs/mined-trial-round{number}"))
    settings = MineAndRefineSettings.model_validate({"mining": {"with_originals": with_originals}})
    found = settings_without_effect(settings, run)
    assert set(found) == ({"mining.k"} if unread else set())
    assert all("judge j failed its gate (quadratic kappa 0.05)" in reason for reason in found.values())


def test_a_search_measured_nothing_of_what_mattered_in_no_whole_trial() -> None:
    """A trial that was stopped after stage 1 did not mine, so it says nothing."""
    failed, stopped = {"mining.k": "the judge failed"}, {"stages": 1, "without_effect": {}}
    whole = [{"stages": 2, "without_effect": failed}, {"stages": 2, "without_effect": failed}]
    assert not_measured([stopped, *whole, stopped]) == failed
    assert not_measured([*whole, {"stages": 2, "without_effect": {}}]) == {}
    assert not_measured([stopped]) == {}


def test_a_value_of_an_earlier_stage_is_never_the_best() -> None:
    trials = [{"stages": stages, "value": value} for stages, value in [(1, 0.9), (2, 0.3), (1, 0.95), (2, 0.5)]]
    assert best_first(trials) == [
        {"stages": 2, "value": 0.5},
        {"stages": 2, "value": 0.3},
        {"stages": 1, "value": 0.95},
        {"stages": 1, "value": 0.9},
    ]


@pytest.mark.ray
def test_optuna_is_told_which_trials_were_stopped(ray_cluster: None, tmp_path: Path) -> None:
    """Real trials of two stages, one after another: the second is stopped after its first stage, the fourth fails."""

    def trial(config: dict[str, Any]) -> None:
        for stage in (1, 2):
            if stage == 2 and config["x"] == 0.9:
                raise RuntimeError("out of memory")
            tune.report({"value": config["x"] / stage})

    search = StagedSearch(metric="value", mode="max", points_to_evaluate=[{"x": x} for x in (0.5, 0.1, 0.8, 0.9)])
    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": 0, "memory": 1 << 20}),
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(
            metric="value",
            mode="max",
            search_alg=search,
            scheduler=ASHAScheduler(max_t=10, grace_period=1, reduction_factor=2),
            num_samples=4,
            max_concurrent_trials=1,
        ),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    )
    grid = run_in_thread(tuner.fit)
    ended = [grid[place].config["x"] for place in range(4) if grid[place].metrics["trial_id"] in search.ended]
    assert ended == [0.5, 0.8]
    told = [(each.params["x"], each.state.name, each.value) for each in search._ot_study.trials]
    assert told == [(0.5, "COMPLETE", 0.25), (0.1, "PRUNED", 0.1), (0.8, "COMPLETE", 0.4), (0.9, "FAIL", None)]


def test_a_search_in_which_no_trial_came_to_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two trials were stopped after stage 1, and each that went on failed in stage 2."""
    stopped = SimpleNamespace(config={}, error=None, metrics={METRIC: 0.2, "training_iteration": 1})
    failed = [
        SimpleNamespace(config={}, error=RuntimeError(reason), metrics={METRIC: 0.3, "training_iteration": 1})
        for reason in ("no memory", "no disk", "no disk")
    ]
    monkeypatch.setattr(tuning, "connected", nullcontext)
    monkeypatch.setattr(tuning, "alive_nodes", lambda: [{"CPU": 2.0}])
    monkeypatch.setattr(find_recipe("mine-and-refine"), "check_settings", lambda *_: None)
    monkeypatch.setattr(tuning, "_fit", lambda *_: ([stopped, *failed], set()))
    monkeypatch.setattr(tuning, "check_shared_store", lambda _: None)
    with pytest.raises(RaylevanceError, match=r"no trial went through every stage: no memory; no disk$"):
        tuning.tune_recipe("mine-and-refine", None, [], str(tmp_path), 4)
    assert not Store(tmp_path).names()


def test_a_failed_trial_is_named_with_its_settings_and_the_last_line_of_its_error() -> None:
    error = RuntimeError("Traceback ...\n  File x\nraylevance.errors.RaylevanceError: the disk is full\n")
    link = "    For further information visit https://errors.pydantic.dev/2.11/v/value_error"
    invalid = RuntimeError(f"ValidationError: 1 error\nmoco.queue\n  Value error, queue is too short\n{link}\n")
    results: Any = [
        SimpleNamespace(config={"mining.k": 50}, error=None),
        SimpleNamespace(config={"mining.k": 100}, error=error),
        SimpleNamespace(config=None, error=MemoryError()),
        SimpleNamespace(config={"moco.queue": 512}, error=invalid),
    ]
    expected = [
        {"settings": {"mining.k": 100}, "error": "raylevance.errors.RaylevanceError: the disk is full"},
        {"settings": {}, "error": "MemoryError"},
        {"settings": {"moco.queue": 512}, "error": "Value error, queue is too short"},
    ]
    assert failed_trials(results) == expected


def history(keep_best: str | None, *records: dict[str, float]) -> Any:
    return SimpleNamespace(
        ref="encoder/x@1",
        settings={"train": {"keep_best": keep_best}},
        metrics={"history": list(records), "steps": records[-1]["step"]},
    )


def test_a_search_compares_the_step_that_a_training_kept() -> None:
    """Whatever metric chose it: the model of that step is what the next stage continues from."""
    records = [
        {"step": 0, "accuracy": 0.2, "likelihood": -3.0},
        {"step": 5, "loss": 1.0},
        {"step": 10, "accuracy": 0.8, "likelihood": -2.0},
        {"step": 20, "accuracy": 0.7, "likelihood": -1.0},
        {"step": 30, "accuracy": 0.8, "likelihood": -1.5},
    ]
    for keep_best, value in {"accuracy": -2.0, "likelihood": -1.0, None: -1.5}.items():
        assert kept_metric(history(keep_best, *records), "likelihood") == value
    assert kept_metric(history(None, *records, {"step": 40, "loss": 0.1}), "accuracy") == 0.8
    with pytest.raises(RaylevanceError, match=r"encoder/x@1: its training never measured ndcg; set evaluate_every"):
        kept_metric(history(None, *records), "ndcg")


def test_a_recipe_without_a_search_space(raylevance: Command, tmp_path: Path) -> None:
    ended = raylevance("tune", "judge", "--store", tmp_path)
    known = "mine-and-refine, weak-supervision, query-classification, item-retrieval or hybrid"
    assert ended.code == 2 and f"judge: can't be tuned; tune {known}" in ended.err


@pytest.mark.long
@pytest.mark.ray
def test_a_search_ends_with_settings_that_the_recipe_takes(
    raylevance: Command, ray_cluster: None, small_store: Path, small_recipe: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(small_store, tmp_path / "store"))
    options = ("--config", small_recipe, "--set", "stage1.validation_fraction=0.4", "--trials", "2", "--store", store)
    ended = raylevance("tune", "mine-and-refine", *options, "--json")
    assert ended.code == 0, ended.err
    printed = json.loads(ended.out)
    assert len(printed["trials"]) == 2 and printed["failed"] == 0
    assert "trial 1 of 2, stage 1: ndcg@10" in ended.err
    assert "trials at once: 2, with 1 workers of 1 CPUs each" in ended.err
    folder = Store(store).path(printed["ref"])
    assert (folder / "history.svg").read_text().startswith("<?xml")
    best = load_settings(MineAndRefineSettings, folder / "best.yaml")
    assert best.stage2.train.gamma == printed["best"]["settings"]["stage2.train.gamma"]
    assert max(printed["trials"], key=lambda trial: (trial["stages"], trial["value"])) == printed["trials"][0]
    before = set(Store(store).names())
    again = raylevance("tune", "mine-and-refine", *options, "--json")
    assert json.loads(again.out)["trials"] == printed["trials"], "the same trials, found as they were made"
    assert set(Store(store).names()) == before


@pytest.mark.long
@pytest.mark.ray
def test_a_search_over_mining_says_that_its_judge_failed(
    raylevance: Command, ray_cluster: None, small_store: Path, small_recipe: Path, tmp_path: Path
) -> None:
    """No judge reaches a kappa of 1, so `mining.k` can't matter; the best settings keep the one that was given."""
    store = Path(shutil.copytree(small_store, tmp_path / "store"))
    trained = (
        "--set",
        "data.source=tables/demo",
        "--set",
        "gate.minimum_kappa=-1",
        "--set",
        "gate.minimum_gain=-1",
        "--store",
        store,
    )
    assert raylevance("run", "judge", *trained).code == 0
    mining = ("unjudged=judge", "judge=judge/relevance", "minimum_kappa=1", "most_labelled=8", "k=20")
    changes = ["stage1.validation_fraction=0.4", *(f"mining.{change}" for change in mining)]
    options = ["--config", small_recipe, *(part for change in changes for part in ("--set", change))]
    ended = raylevance("tune", "mine-and-refine", *options, "--trials", "3", "--store", store, "--json")
    assert ended.code == 0, ended.err
    assert "mining.k: the search measured nothing of it, judge " in ended.err
    printed = json.loads(ended.out)
    assert "failed its gate" in printed["not_measured"]["mining.k"] and len(printed["not_measured"]) == 1
    assert load_settings(MineAndRefineSettings, Path(printed["config"])).mining.k == 20
