"""The training loop under Ray Train: workers, kills, restarts, evaluation, logs and refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray.train
import ray.train.torch
import torch
from tensorboardX.proto import event_pb2

from raylevance.errors import RaylevanceError
from raylevance.models.encoder import Encoder
from raylevance.training.checkpoint import Progress
from raylevance.training.log import MLflow, TensorBoard
from raylevance.training.loop import LossWindow, TrainingRun, Worker
from raylevance.training.settings import MachineSettings
from raylevance.training.tasks.contrastive.task import Contrastive, ContrastiveSettings
from raylevance.training.trainer import TrainResult, check_settings, cpus_for_each_worker, train
from tests.training.conftest import split_machine_settings

pytestmark = pytest.mark.ray

TEXTS = ["red running shoe", "usb charger cable for laptop", "desk lamp"]
STEPS = 24
BASE = {
    "epochs": 4,
    "batch": 7,
    "learning_rate": 3e-3,
    "temperature": 0.07,
    "log_every": 1,
    "cpus_per_worker": 1,
}
"""37 instances make six batches of 7 in an epoch, one of which has two instances."""


def run(folder: Path, backbone: Path, instances: Path, name: str = "run", **options: Any) -> TrainResult:
    evaluate = options.pop("evaluate", None)
    settings, machine = split_machine_settings(BASE | options)
    task = Contrastive(backbone, instances, ContrastiveSettings(**settings))
    return train(task, machine, run_dir=folder / name, output=folder / f"{name}-encoder", evaluate=evaluate)


@pytest.fixture(scope="module")
def quiet(
    ray_cluster: None, tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path, instances_file: Path
) -> TrainResult:
    """Train without interruption on one worker."""
    return run(tmp_path_factory.mktemp("quiet"), tiny_backbone, instances_file)


def losses(result: TrainResult) -> list[float]:
    """Return the loss of every step. The record of step 0 has none."""
    return [record["loss"] for record in result.history if record["step"]]


def assert_same_run(one: TrainResult, other: TrainResult, tolerance: float) -> None:
    assert [record["step"] for record in one.history if record["step"]] == list(range(1, STEPS + 1))
    np.testing.assert_allclose(losses(one), losses(other), rtol=tolerance)
    vectors = [Encoder.load(result.model).encode_items(TEXTS) for result in (one, other)]
    np.testing.assert_allclose(*vectors, atol=tolerance)


@pytest.mark.parametrize(("precision", "attention"), [("bf16", "eager"), ("fp32", "sdpa")])
def test_a_worker_prepares_the_encoder_that_it_trains(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_backbone: Path,
    instances_file: Path,
    precision: Any,
    attention: str,
) -> None:
    task = Contrastive(tiny_backbone, instances_file, ContrastiveSettings(precision=precision))
    task.prepare(tmp_path)
    alone = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr(ray.train, "get_context", lambda: alone)
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device("cpu"))
    worker = Worker(TrainingRun(task, MachineSettings(), tmp_path, None, 0), None)
    assert worker.replica.model.query_tower.config._attn_implementation == attention


def test_training_lowers_the_loss(quiet: TrainResult, tiny_backbone: Path) -> None:
    assert quiet.steps == STEPS
    first_epoch, last_epoch = np.mean(losses(quiet)[:6]), np.mean(losses(quiet)[-6:])
    assert last_epoch < 0.9 * first_epoch
    before, after = (Encoder.load(path).encode_items(TEXTS) for path in (tiny_backbone, quiet.model))
    assert not np.allclose(before, after, atol=0.01)


def test_two_workers_train_what_one_trains(
    quiet: TrainResult, tmp_path: Path, tiny_backbone: Path, instances_file: Path
) -> None:
    """Losses and vectors agree to 1e-4 after 24 steps that move the vectors by more than 0.01."""
    two = run(tmp_path, tiny_backbone, instances_file, workers=2)
    assert_same_run(two, quiet, tolerance=1e-4)


@pytest.mark.long
def test_negatives_are_shared_between_workers(
    ray_cluster: None, tmp_path: Path, tiny_backbone: Path, instances_file: Path
) -> None:
    one = run(tmp_path, tiny_backbone, instances_file, "one", loss="infonce")
    two = run(tmp_path, tiny_backbone, instances_file, "two", loss="infonce", workers=2)
    assert_same_run(two, one, tolerance=1e-4)
    cached = run(tmp_path, tiny_backbone, instances_file, "cached", loss="infonce", workers=2, gradcache_chunk=3)
    assert_same_run(cached, one, tolerance=1e-4)


@pytest.mark.long
def test_a_killed_worker_does_not_change_the_result(
    quiet: TrainResult, tmp_path: Path, tiny_backbone: Path, instances_file: Path
) -> None:
    """Rank 0 of two is killed once at step 16 of 24, within an epoch; the newest checkpoint is of step 14."""
    killed = tmp_path / "killed"

    def kill_once(encoder: Encoder) -> dict[str, float]:
        calls = tmp_path / "calls"
        calls.write_text((calls.read_text() if calls.exists() else "") + ".")
        if len(calls.read_text()) == 3 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {}

    options: dict[str, Any] = {"checkpoint_every": 7, "evaluate_every": 8, "workers": 2}
    result = run(tmp_path, tiny_backbone, instances_file, evaluate=kill_once, **options)
    assert killed.exists()
    assert_same_run(result, quiet, tolerance=1e-4)


DRIVER = """
import json, os, signal, sys, time
from pathlib import Path

import ray

from raylevance.training.settings import MachineSettings
from raylevance.training.tasks.contrastive.task import Contrastive, ContrastiveSettings
from raylevance.training.trainer import train

backbone, instances, folder, settings, machine = sys.argv[1:]
driver = os.getpid()


def kill_the_driver(encoder):
    if any(Path(folder, "run").rglob("progress.json")):
        os.kill(driver, signal.SIGKILL)
        time.sleep(60)
    return {}


ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
task = Contrastive(Path(backbone), Path(instances), ContrastiveSettings(**json.loads(settings)))
train(
    task,
    MachineSettings(**json.loads(machine)),
    run_dir=Path(folder, "run"),
    output=Path(folder, "run-encoder"),
    evaluate=kill_the_driver,
)
"""


@pytest.mark.long
def test_a_killed_driver_goes_on_where_it_was(
    quiet: TrainResult,
    tmp_path: Path,
    tiny_backbone: Path,
    instances_file: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The driver is killed at step 8 of 24, after a checkpoint of step 7. The resumed run keeps its first records."""
    options: dict[str, Any] = BASE | {"checkpoint_every": 7, "evaluate_every": 8}
    settings, machine = split_machine_settings(options)
    paths = map(str, (tiny_backbone, instances_file, tmp_path))
    arguments = [*paths, json.dumps(settings), machine.model_dump_json()]
    driver = subprocess.run([sys.executable, "-c", DRIVER, *arguments], check=False, capture_output=True, text=True)
    assert driver.returncode == -signal.SIGKILL, driver.stderr[-2000:]
    kept = [json.loads(file.read_text()) for file in (tmp_path / "run").rglob("progress.json")]
    before = max(kept, key=lambda progress: progress["step"])
    assert before["step"] == 7 and not (tmp_path / "run-encoder").exists()
    options["evaluate"] = lambda encoder: {}
    resumed = run(tmp_path, tiny_backbone, instances_file, "run", **options)
    assert resumed.history[:8] == before["history"]
    assert "training: continues from step 7 of 24" in capfd.readouterr().err
    assert_same_run(resumed, quiet, tolerance=1e-6)
    again = run(tmp_path, tiny_backbone, instances_file, "run", **options)
    assert again.history == resumed.history


@pytest.mark.long
def test_the_best_encoder_is_kept(
    quiet: TrainResult, tmp_path: Path, tiny_backbone: Path, instances_file: Path
) -> None:
    """The encoder is evaluated before the first step, halfway and at the end, and is best halfway."""

    def best_at_half(encoder: Encoder) -> dict[str, float]:
        calls = tmp_path / "calls"
        calls.write_text((calls.read_text() if calls.exists() else "") + ".")
        return {"ndcg": [-2.0, -1.0, -3.0][len(calls.read_text()) - 1]}

    options = {"evaluate_every": 12, "keep_best": "ndcg", "log_to": "tensorboard"}
    result = run(tmp_path, tiny_backbone, instances_file, evaluate=best_at_half, **options)
    assert [record["ndcg"] for record in result.history if "ndcg" in record] == [-2, -1, -3]
    last, best = (Encoder.load(each.model).encode_items(TEXTS) for each in (quiet, result))
    assert not np.allclose(last, best, atol=1e-4)
    assert list((tmp_path / "run" / "log-tensorboard").glob("events.*"))


def test_without_a_number_of_steps_nothing_is_evaluated(
    ray_cluster: None, tmp_path: Path, tiny_backbone: Path, instances_file: Path
) -> None:
    def evaluate(encoder: Encoder) -> dict[str, float]:
        (tmp_path / "evaluated").touch()
        return {"ndcg": 1.0}

    result = run(tmp_path, tiny_backbone, instances_file, evaluate=evaluate, max_steps=2)
    assert [record["step"] for record in result.history] == [1, 2]
    assert not (tmp_path / "evaluated").exists() and not any("ndcg" in record for record in result.history)


@pytest.mark.long
def test_mlflow_gets_the_records(ray_cluster: None, tmp_path: Path, tiny_backbone: Path, instances_file: Path) -> None:
    from mlflow import MlflowClient

    run(tmp_path, tiny_backbone, instances_file, max_steps=3, log_to="mlflow")
    client = MlflowClient(f"sqlite:///{tmp_path / 'run' / 'log-mlflow' / 'mlflow.db'}")
    (logged,) = client.search_runs([client.get_experiment_by_name("raylevance").experiment_id])
    assert [metric.step for metric in client.get_metric_history(logged.info.run_id, "loss")] == [1, 2, 3]


@pytest.mark.long
def test_a_training_that_continues_goes_on_in_its_run_of_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a server that does not have the run, it begins another one."""
    settings, machine = ContrastiveSettings(batch=2, epochs=1), MachineSettings()
    for step in (1, 2):
        log = MLflow(tmp_path / "log", settings, machine)
        log.write(step, {"loss": 1.0})
        log.close()
    client = log._client
    [run] = client.search_runs([client.get_experiment_by_name("raylevance").experiment_id])
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")] == [1, 2]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    other = MLflow(tmp_path / "log", settings, machine)
    assert other._run != run.info.run_id and "is not on this server" in capsys.readouterr().err


def read_events(file: Path) -> Iterator[Any]:
    """Yield the events of a file of TensorBoard: of each, its length, 4 bytes, itself and 4 bytes."""
    data = file.read_bytes()
    while data:
        size = int.from_bytes(data[:8], "little")
        yield event_pb2.Event.FromString(data[12 : 12 + size])
        data = data[16 + size :]


def test_tensorboard_hides_the_steps_after_the_checkpoint(tmp_path: Path) -> None:
    for start, steps in ((0, (1, 2, 3)), (2, (3, 4)), (0, (1,))):
        log = TensorBoard(tmp_path, start)
        for step in steps:
            log.write(step, {"loss": 10.0 * start + step})
        log.close()
        time.sleep(1.1)  # the file of each process has the second in its name
    events = [event for file in sorted(tmp_path.iterdir()) for event in read_events(file)]
    begun = [event.step for event in events if event.session_log.status == 1]
    assert begun == [1, 3, 1], "from these steps on, what was written before is hidden"


def test_another_runs_folder_is_refused(quiet: TrainResult, tiny_backbone: Path, instances_file: Path) -> None:
    with pytest.raises(RaylevanceError, match="holds a run with other settings or data"):
        run(quiet.model.parent, tiny_backbone, instances_file, max_steps=2)


@pytest.mark.parametrize("options", [{"workers": 3}, {"cpus_per_worker": 9}, {"use_gpu": True}])
def test_more_than_the_cluster_has_is_refused_at_once(
    ray_cluster: None, tmp_path: Path, tiny_backbone: Path, instances_file: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(RaylevanceError, match=r"the cluster has room for [02]; lower machine.workers or machine.cpus"):
        run(tmp_path, tiny_backbone, instances_file, **options)
    assert not (tmp_path / "run").exists()


def test_processors_are_shared_out() -> None:
    nodes = [{"CPU": 8.0}, {"CPU": 8.0, "GPU": 2.0}]
    assert cpus_for_each_worker(MachineSettings(workers=1), nodes) == 8
    assert cpus_for_each_worker(MachineSettings(workers=4), nodes) == 4
    assert cpus_for_each_worker(MachineSettings(workers=2, cpus_per_worker=3, use_gpu=True), nodes) == 3
    assert cpus_for_each_worker(MachineSettings(workers=2), [{"CPU": 8.0}, {"CPU": 4.0}]) == 4


def test_an_evaluation_on_nothing_is_refused(ray_cluster: None) -> None:
    settings = ContrastiveSettings(evaluate_every=5)
    with pytest.raises(RaylevanceError, match=r"stage1\.train\.evaluate_every: this training has nothing to evaluate"):
        check_settings(settings, MachineSettings(), evaluates=False, name="stage1.train.")
    assert check_settings(settings, MachineSettings(), evaluates=True, name="stage1.train.") == 2


def test_another_machine_goes_on_with_a_run(quiet: TrainResult, tiny_backbone: Path, instances_file: Path) -> None:
    """The run is finished, so its checkpoint is read and nothing is trained."""
    options: dict[str, Any] = {"log_every": 5, "batch_tokens": 64, "checkpoint_every": 3}
    again = run(quiet.model.parent, tiny_backbone, instances_file, **options)
    assert again.history == quiet.history


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"loss": "infonce", "accumulate": 2}, "set gradcache_chunk"),
        ({"batch": 4, "accumulate": 5}, "would leave some empty"),
        ({"keep_best": "ndcg"}, "needs evaluate_every"),
        ({"temperature": 0.005}, "greater than or equal to 0.01"),
    ],
)
def test_settings_that_disagree_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ContrastiveSettings(**options)


@pytest.mark.long
@pytest.mark.parametrize("options", [{}, {"log_every": 100, "checkpoint_every": 3}])
def test_a_diverged_loss_is_one_line_and_no_checkpoint(
    ray_cluster: None, tmp_path: Path, tiny_backbone: Path, instances_file: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(RaylevanceError, match=r"the (loss|gradient) is nan at step") as caught:
        run(tmp_path, tiny_backbone, instances_file, learning_rate=1e38, max_failures=0, **options)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "run").rglob("progress.json"))


def test_a_resumed_run_goes_on_with_the_losses_since_the_last_record(tmp_path: Path) -> None:
    steps = [(torch.tensor(0.1 * number + 0.03), 7) for number in range(1, 9)]
    whole = window_of(steps)
    before = window_of(steps[:5])
    (tmp_path / "progress.json").write_text(json.dumps(asdict(Progress(5, None, [], before.losses(), before.examples))))
    read = Progress.read(tmp_path)
    resumed = window_of(steps[5:], LossWindow(read.losses, read.examples))
    assert resumed.mean_loss() == whole.mean_loss()


def window_of(steps: list[tuple[torch.Tensor, int]], window: LossWindow | None = None) -> LossWindow:
    window = window or LossWindow()
    for loss, examples in steps:
        window.add(loss, examples, pairs=1)
    return window
