"""Train a task on a Ray cluster: check, prepare the data, run the loop under Ray Train, save the model."""

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.cloudpickle
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

from raylevance.errors import RaylevanceError
from raylevance.training.checkpoint import MODEL, Progress, save_folder
from raylevance.training.log import check_log_package, progress_bar
from raylevance.training.loop import BEST, Evaluate, Run
from raylevance.training.settings import TrainSettings
from raylevance.training.task import Task
from raylevance.training.worker import train_worker

COLLECTIVE_TIMEOUT_S = 1800
"""A worker that dies is noticed at once; this bounds how long the others wait while rank 0 evaluates."""
RUN = "run.json"
NOT_PART_OF_THE_RESULT = {
    "workers",
    "cpus_per_worker",
    "use_gpu",
    "max_failures",
    "checkpoint_every",
    "log_every",
    "log_to",
}


@dataclass(frozen=True)
class TrainResult:
    """`history`: a record a logged step: step, loss an example, what the task logs, learning_rate, pairs_per_second,
    metrics (alone at step 0).

    `model`: the folder of the trained model. `steps` in all; `seconds` spent by this call.
    """

    history: list[dict[str, Any]]
    model: Path
    steps: int
    seconds: float


def train(task: Task, *, run_dir: Path, output: Path, evaluate: Evaluate | None = None, seed: int = 0) -> TrainResult:
    """Train the task and save its model to the folder `output`.

    `run_dir` holds the data as the workers read it and the checkpoints, on storage that all nodes see: the same call
    after a crash, of a worker or of this process, goes on from the newest. `evaluate` gets the model on rank 0 and
    returns metrics; it must pickle.
    Raises `RaylevanceError` before any work for a cluster too small, bad data, an unreadable model, or a `run_dir` of
    another run.
    """
    start = time.perf_counter()
    run_dir = run_dir.absolute()
    cpus = check_settings(task.settings, evaluates=evaluate is not None)
    task.check()
    _claim(run_dir, task, seed)
    task.prepare(run_dir)
    with _fit(Run(task, run_dir, evaluate, seed), cpus).as_directory() as folder:
        progress = Progress.read(Path(folder))
        trained = run_dir / BEST if task.settings.keep_best else Path(folder) / MODEL
        output.parent.mkdir(parents=True, exist_ok=True)
        save_folder(output, lambda draft: shutil.copytree(trained, draft))
    return TrainResult(progress.history, output, progress.step, time.perf_counter() - start)


def check_settings(settings: TrainSettings, *, evaluates: bool, name: str = "") -> int:
    """Processors of one worker on the cluster at hand. `name`: of the settings, as messages put it before theirs.

    Raises `RaylevanceError` where the workers do not fit, the package behind `log_to` is missing, or an evaluation is
    asked of a training that has none.
    """
    if settings.evaluate_every and not evaluates:
        raise RaylevanceError(
            f"{name}evaluate_every: this training has nothing to evaluate on; leave it and keep_best unset"
        )
    check_log_package(settings)
    return cpus_for_each_worker(settings, [node["Resources"] for node in ray.nodes() if node["Alive"]], name)


def cpus_for_each_worker(settings: TrainSettings, nodes: list[dict[str, float]], name: str = "") -> int:
    """Processors of one worker, given the resources of each node.

    Raises `RaylevanceError` where the workers do not fit: Ray Train would wait for more nodes for ever.
    """
    available = [int(node.get("CPU", 0)) for node in nodes]
    cpus = settings.cpus_per_worker or max(1, sum(available) // settings.workers)
    if settings.cpus_per_worker is None:
        cpus = max(1, min(cpus, max(available, default=1)))
    fits = sum(count // cpus for count in available)
    if settings.use_gpu:
        fits = sum(min(count // cpus, int(node.get("GPU", 0))) for count, node in zip(available, nodes, strict=True))
    if fits < settings.workers:
        wanted = f"{cpus} CPU" + (" and a GPU" if settings.use_gpu else "")
        raise RaylevanceError(
            f"{name}workers={settings.workers} with {wanted} each: the cluster has room for {fits}; "
            "lower workers or cpus_per_worker"
        )
    return cpus


def _claim(run_dir: Path, task: Task, seed: int) -> None:
    """Note in `run_dir` what it trains; refuse to go on with the checkpoints of another run."""
    settings = task.settings.model_dump(exclude=NOT_PART_OF_THE_RESULT)
    described = {**task.describe(), "settings": settings, "seed": seed}
    file = run_dir / RUN
    if file.exists():
        if json.loads(file.read_text(encoding="utf-8")) != described:
            raise RaylevanceError(f"{run_dir}: holds a run with other settings or data; give a new folder or delete it")
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    draft = run_dir / f".{RUN}.draft"
    draft.write_text(json.dumps(described), encoding="utf-8")
    draft.replace(file)


def _fit(run: Run, cpus: int) -> ray.train.Checkpoint:
    settings = run.task.settings
    # By default Ray Train looks every 2 s whether its workers have ended.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"run": ray.cloudpickle.dumps(run)},
        torch_config=TorchConfig(timeout_s=COLLECTIVE_TIMEOUT_S),
        scaling_config=ray.train.ScalingConfig(
            num_workers=settings.workers,
            use_gpu=settings.use_gpu,
            resources_per_worker={"CPU": cpus, **({"GPU": 1} if settings.use_gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name="checkpoints",
            storage_path=str(run.folder),
            failure_config=ray.train.FailureConfig(max_failures=settings.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        with progress_bar(run.folder):
            checkpoint: ray.train.Checkpoint | None = trainer.fit().checkpoint
    except ray.train.WorkerGroupError as error:
        for failure in error.worker_failures.values():
            cause = getattr(failure, "_base_exc", failure)
            if isinstance(cause, RaylevanceError):
                raise cause from None
        raise
    assert checkpoint is not None
    return checkpoint
