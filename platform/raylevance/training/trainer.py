"""Train a task on a Ray cluster: check it, prepare its data, run the loop under Ray Train, and save the model."""

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.cloudpickle
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

from raylevance.cluster import alive_nodes, count_room, run_in_thread
from raylevance.errors import RaylevanceError
from raylevance.training.checkpoint import MODEL, Progress, save_folder
from raylevance.training.log import check_log_package, training_progress
from raylevance.training.loop import BEST, Evaluate, TrainingRun
from raylevance.training.settings import MachineSettings, TrainSettings
from raylevance.training.task import Task
from raylevance.training.worker import train_worker

COLLECTIVE_TIMEOUT_S = 1800
"""Longest time that workers wait while rank 0 evaluates. The death of a worker is noticed at once."""
RUN = "run.json"


@dataclass(frozen=True)
class TrainResult:
    """The outcome of a training run.

    - `history`: one record for each logged step, with the step, the loss per example, what the task logs,
      learning_rate, pairs_per_second and, where it was evaluated, the metrics. The record of step 0 has metrics only.
    - `model`: folder of the trained model.
    - `steps`: optimiser steps of the whole run, those before a restart included.
    - `seconds`: time that this call took.
    """

    history: list[dict[str, Any]]
    model: Path
    steps: int
    seconds: float


def train(
    task: Task,
    machine: MachineSettings,
    *,
    run_dir: Path,
    output: Path,
    evaluate: Evaluate | None = None,
    seed: int = 0,
) -> TrainResult:
    """Train `task` and save its model to the folder `output`.

    `run_dir` holds the prepared data and the checkpoints, and must be on storage that all nodes see. After a crash of a
    worker or of this process, the same call resumes from the newest checkpoint; `machine` may differ.
    `evaluate` is called with the model on rank 0 and returns metrics; it must be picklable. It is not called where the
    settings have `evaluate_every=None`.

    Raises `RaylevanceError`, before any work, when

    - the cluster has no room for the workers,
    - the data or the model can't be read,
    - `run_dir` holds a run with other settings or data.
    """
    start = time.perf_counter()
    run_dir = run_dir.absolute()
    cpus = check_settings(task.settings, machine, evaluates=evaluate is not None)
    task.check()
    _claim(run_dir, task, seed)
    task.prepare(run_dir)
    evaluate = evaluate if task.settings.evaluate_every else None
    run = TrainingRun(task=task, machine=machine, run_dir=run_dir, evaluate=evaluate, seed=seed)
    with _fit(run, cpus).as_directory() as folder:
        progress = Progress.read(Path(folder))
        trained = run_dir / BEST if task.settings.keep_best else Path(folder) / MODEL
        output.parent.mkdir(parents=True, exist_ok=True)
        save_folder(output, lambda draft: shutil.copytree(trained, draft))
    return TrainResult(progress.history, output, progress.step, time.perf_counter() - start)


def check_settings(settings: TrainSettings, machine: MachineSettings, *, evaluates: bool, name: str = "") -> int:
    """Return the processors of each worker on the connected cluster.

    `evaluates` says whether the training has something to evaluate on. `name` is the dotted prefix of `settings` in
    error messages, such as "stage1.train.".

    Raises `RaylevanceError` when

    - the settings ask for evaluations and there is nothing to evaluate on,
    - the package behind `log_to` is not installed,
    - the cluster has no room for the workers.
    """
    if settings.evaluate_every and not evaluates:
        raise RaylevanceError(
            f"{name}evaluate_every: this training has nothing to evaluate on; leave it and keep_best unset"
        )
    check_log_package(machine)
    return cpus_for_each_worker(machine, alive_nodes())


def cpus_for_each_worker(machine: MachineSettings, nodes: list[dict[str, float]], trainings: int = 1) -> int:
    """Return the processors of each worker, given the resources of each node.

    These are `machine.cpus_per_worker`, or the largest number with which the workers of `trainings` trainings fit on
    the nodes at once. Where not even one processor each fits, it is the largest number for as many as do.

    Raises `RaylevanceError` when the cluster has no room for one training: Ray Train would wait for more nodes forever.
    """
    most = int(max((node.get("CPU", 0) for node in nodes), default=0))
    cpus = machine.cpus_per_worker
    if cpus is None:
        trainings = max(1, min(trainings, trainings_at_once(machine, nodes, 1)))
        fitting = (count for count in range(most, 1, -1) if trainings_at_once(machine, nodes, count) >= trainings)
        cpus = next(fitting, 1)
    if not trainings_at_once(machine, nodes, cpus):
        needed = f"{cpus} CPU" + (" and a GPU" if machine.use_gpu else "")
        room = count_room(nodes, cpus=cpus, gpus=int(machine.use_gpu))
        raise RaylevanceError(
            f"machine.workers={machine.workers} with {needed} each: the cluster has room for {room}; "
            "lower machine.workers or machine.cpus_per_worker"
        )
    return cpus


def trainings_at_once(machine: MachineSettings, nodes: list[dict[str, float]], cpus: int) -> int:
    """Return how many trainings fit on the nodes at the same time, when each of their workers has `cpus` processors."""
    return count_room(nodes, cpus=cpus, gpus=int(machine.use_gpu)) // machine.workers


def _claim(run_dir: Path, task: Task, seed: int) -> None:
    """Note in `run_dir` what is trained there, and refuse to resume from the checkpoints of another run."""
    described = {**task.describe(), "settings": task.settings.model_dump(), "seed": seed}
    file = run_dir / RUN
    if file.exists():
        if json.loads(file.read_text(encoding="utf-8")) != described:
            raise RaylevanceError(f"{run_dir}: holds a run with other settings or data; give a new folder or delete it")
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    draft = run_dir / f".{RUN}.draft"
    draft.write_text(json.dumps(described), encoding="utf-8")
    draft.replace(file)


def _fit(run: TrainingRun, cpus: int) -> ray.train.Checkpoint:
    machine = run.machine
    # By default Ray Train looks every 2 s whether its workers have ended.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"run": ray.cloudpickle.dumps(run)},
        torch_config=TorchConfig(timeout_s=COLLECTIVE_TIMEOUT_S),
        scaling_config=ray.train.ScalingConfig(
            num_workers=machine.workers,
            use_gpu=machine.use_gpu,
            resources_per_worker={"CPU": cpus, **({"GPU": 1} if machine.use_gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name="checkpoints",
            storage_path=str(run.run_dir),
            failure_config=ray.train.FailureConfig(max_failures=machine.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        with training_progress(run.run_dir):
            checkpoint: ray.train.Checkpoint | None = run_in_thread(trainer.fit).checkpoint
    except ray.train.WorkerGroupError as error:
        for failure in error.worker_failures.values():
            cause = getattr(failure, "_base_exc", failure)
            if isinstance(cause, RaylevanceError):
                raise cause from None
        raise
    assert checkpoint is not None
    return checkpoint
