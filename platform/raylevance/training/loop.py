"""The loop that each Ray Train worker runs."""

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch

from raylevance.errors import RaylevanceError, nearest
from raylevance.models.precision import autocast_dtype
from raylevance.training.checkpoint import MODEL, Progress, load_checkpoint, save_checkpoint, save_folder
from raylevance.training.collective import sum_gradients
from raylevance.training.log import Log, open_logs
from raylevance.training.optimizer import build_optimizer, set_rate, trainable
from raylevance.training.settings import TrainSettings
from raylevance.training.task import Place, Task
from raylevance.training.token_file import Ints

Evaluate = Callable[[Any], dict[str, float]]
"""Metrics of a trainee's model."""
BEST = "best"


@dataclass(frozen=True)
class Run:
    """What a worker is told. `folder` is absolute, on storage that all nodes see."""

    task: Task
    folder: Path
    evaluate: Evaluate | None
    seed: int


def train(run: Run) -> None:
    """Train from the newest checkpoint, or from the start, to the end."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        worker = Worker(run, None)
    else:
        with checkpoint.as_directory() as folder:
            worker = Worker(run, Path(folder))
    worker.train()


class Worker:
    """One replica. Replicas start equal, and stay so: each applies the same summed gradient."""

    def __init__(self, run: Run, checkpoint: Path | None) -> None:
        context = ray.train.get_context()
        self.run, self.settings, self.rank = run, run.task.settings, context.get_world_rank()
        device = ray.train.torch.get_device()
        dtype = {"auto": autocast_dtype(device), "fp32": None, "bf16": torch.bfloat16}[self.settings.precision]
        place = Place(run.folder, run.seed, self.rank, context.get_world_size(), dtype)
        self.trainee = run.task.open(checkpoint / MODEL if checkpoint else None, place).to(device).train()
        self.parameters = list(trainable(self.trainee).values())
        self.optimizer = build_optimizer(self.trainee, self.settings)
        self.progress = load_checkpoint(checkpoint, self.trainee, self.optimizer) if checkpoint else Progress()
        self.total = total_steps(self.settings, self.trainee.steps_per_epoch)

    def train(self) -> None:
        logs = open_logs(self.settings, self.run.folder, self.total) if self.rank == 0 else []
        if self.rank == 0 and self.progress.step == 0 and self.run.evaluate:
            self.progress.history.append({"step": 0, **self._evaluate()})
        window = _Window(self.progress.losses, self.progress.examples)
        while self.progress.step < self.total:
            rows, loss = self._step(self.progress.step)
            window.add(loss, len(rows), self.trainee.pairs(rows))
            self.progress.step += 1
            evaluating = self._due(self.settings.evaluate_every)
            recording = evaluating or self._due(self.settings.log_every)
            if recording and self.rank == 0:
                self._record(window, evaluating, logs)
            if self._due(self.settings.checkpoint_every):
                self._report(_Window() if recording else window)
            if recording:
                window = _Window()
        for log in logs:
            log.close()

    def _due(self, every: int | None) -> bool:
        """Whether something done each `every` steps (None: once) is done after this step; everything is at the end."""
        return self.progress.step == self.total or bool(every and self.progress.step % every == 0)

    def _step(self, step: int) -> tuple[Ints, torch.Tensor]:
        """One optimiser step; returns the examples of the global batch and the sum of their losses."""
        torch.manual_seed(int(np.random.SeedSequence([self.run.seed, step, self.rank]).generate_state(1)[0]))
        self.optimizer.zero_grad()
        loss = sum_gradients(self.parameters, self.trainee.backward(step))
        self.norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        set_rate(self.optimizer, step, self.total, self.settings.warmup_ratio)
        self.optimizer.step()
        return self.trainee.rows(step), loss

    def _evaluate(self) -> dict[str, float]:
        """The metrics of the model as it is; the best one so far is kept in the run's folder."""
        if self.run.evaluate is None:
            return {}
        self.trainee.eval()
        metrics = {name: float(value) for name, value in self.run.evaluate(self.trainee.model).items()}
        self.trainee.train()
        name = self.settings.keep_best
        if name is None:
            return metrics
        if name not in metrics:
            raise RaylevanceError(f"keep_best={name}: evaluation gives no such metric; {nearest(name, list(metrics))}")
        if self.progress.best is None or metrics[name] > self.progress.best:
            self.progress.best = metrics[name]
            save_folder(self.run.folder / BEST, self.trainee.model.save)
        return metrics

    def _record(self, window: "_Window", evaluating: bool, logs: list[Log]) -> None:
        step = self.progress.step
        record = {
            "loss": window.mean_loss(),
            **{name: float(value) for name, value in self.trainee.logged().items()},
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "pairs_per_second": window.pairs_per_second(),
        }
        self._check_finite("loss", record["loss"])
        if evaluating:
            record |= self._evaluate()
        self.progress.history.append({"step": step, **record})
        for log in logs:
            log.write(step, record)

    def _check_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise RaylevanceError(
                f"the {what} is {value} at step {self.progress.step}: lower learning_rate, or set precision=fp32"
            )

    def _report(self, window: "_Window") -> None:
        """Hand a checkpoint to Ray Train; every rank takes part, rank 0 writes it. `window`: steps not recorded yet.

        Raises `RaylevanceError` instead of keeping weights that are no numbers: a run would go on from them.
        """
        self.progress.losses, self.progress.examples = window.losses(), window.examples
        self._check_finite("loss", sum(self.progress.losses))
        self._check_finite("gradient", float(self.norm))
        metrics = {"step": self.progress.step}
        if self.rank != 0:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            save_checkpoint(Path(folder), self.trainee, self.optimizer, self.progress)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


class _Window:
    """The steps since the last record. Losses stay tensors until they are read: reading one waits for the GPU.

    `losses`, `examples`: of such steps before a resumed run.
    """

    def __init__(self, losses: Sequence[float] = (), examples: int = 0) -> None:
        self._before = list(losses)
        self._losses: list[torch.Tensor] = []
        self.examples, self._pairs = examples, 0
        self._start = time.perf_counter()

    def add(self, loss: torch.Tensor, examples: int, pairs: int) -> None:
        self._losses.append(loss)
        self.examples += examples
        self._pairs += pairs

    def mean_loss(self) -> float:
        """Loss an example."""
        return sum(self.losses()) / self.examples

    def losses(self) -> list[float]:
        """Of each step, the sum over its examples."""
        return self._before + (torch.stack(self._losses).tolist() if self._losses else [])

    def pairs_per_second(self) -> float:
        return self._pairs / (time.perf_counter() - self._start)


def total_steps(settings: TrainSettings, steps_per_epoch: int) -> int:
    steps = settings.epochs * steps_per_epoch
    return min(steps, settings.max_steps or steps)
