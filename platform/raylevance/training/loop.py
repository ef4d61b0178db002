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
from raylevance.models.encoder import prepare_encoders
from raylevance.models.precision import forward_dtype
from raylevance.training.checkpoint import MODEL, Progress, load_checkpoint, save_checkpoint, save_folder
from raylevance.training.collective import sum_gradients
from raylevance.training.log import Log, open_logs
from raylevance.training.optimizer import build_optimizer, set_rate, trainable
from raylevance.training.settings import MachineSettings, TrainSettings
from raylevance.training.task import Task, WorkerContext
from raylevance.training.token_file import Ints

Evaluate = Callable[[Any], dict[str, float]]
"""A function that returns the metrics of a model by name."""
BEST = "best"


@dataclass(frozen=True)
class TrainingRun:
    """A training run, as the driver sends it to each worker.

    `run_dir` is an absolute path on storage that all nodes see.
    """

    task: Task
    machine: MachineSettings
    run_dir: Path
    evaluate: Evaluate | None
    seed: int


def train(run: TrainingRun) -> None:
    """Train from the newest checkpoint, or from the start if there is none, to the end."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        worker = Worker(run, None)
    else:
        with checkpoint.as_directory() as folder:
            worker = Worker(run, Path(folder))
    worker.train()


class Worker:
    """The loop of one worker. Replicas start equal and stay equal, since each applies the same summed gradient."""

    def __init__(self, run: TrainingRun, checkpoint: Path | None) -> None:
        ray_context = ray.train.get_context()
        self.run, self.settings, self.machine = run, run.task.settings, run.machine
        self.rank = ray_context.get_world_rank()
        device = ray.train.torch.get_device()
        context = WorkerContext(
            run_dir=run.run_dir,
            seed=run.seed,
            rank=self.rank,
            world_size=ray_context.get_world_size(),
            autocast_dtype=forward_dtype(self.settings.precision, device),
            batch_tokens=run.machine.batch_tokens,
        )
        self.replica = run.task.open(checkpoint / MODEL if checkpoint else None, context).to(device).train()
        prepare_encoders(self.replica, context.autocast_dtype)
        self.parameters = list(trainable(self.replica).values())
        self.optimizer = build_optimizer(self.replica, self.settings)
        self.progress = load_checkpoint(checkpoint, self.replica, self.optimizer) if checkpoint else Progress()
        self.total = total_steps(self.settings, self.replica.steps_per_epoch)

    def train(self) -> None:
        """Train to the last step."""
        logs = self._open_logs() if self.rank == 0 else []
        if self.rank == 0 and self.progress.step == 0 and self.run.evaluate:
            self.progress.history.append({"step": 0, **self._evaluate()})
        window = LossWindow(self.progress.losses, self.progress.examples)
        while self.progress.step < self.total:
            rows, loss = self._step(self.progress.step)
            window.add(loss, len(rows), self.replica.pairs(rows))
            self.progress.step += 1
            evaluating = self._due(self.settings.evaluate_every)
            recording = evaluating or self._due(self.machine.log_every)
            if recording and self.rank == 0:
                self._record(window, evaluating, logs)
            if self._due(self.machine.checkpoint_every):
                self._report(LossWindow() if recording else window)
            if recording:
                window = LossWindow()
        for log in logs:
            log.close()

    def _open_logs(self) -> list[Log]:
        return open_logs(self.settings, self.machine, self.run.run_dir, self.total, self.progress.step)

    def _due(self, every: int | None) -> bool:
        """Return whether what is done every so many steps, or only once for None, is due now. All is due at the end."""
        return self.progress.step == self.total or bool(every and self.progress.step % every == 0)

    def _step(self, step: int) -> tuple[Ints, torch.Tensor]:
        """Take one optimiser step, and return the examples of all workers and the sum of their losses."""
        torch.manual_seed(int(np.random.SeedSequence([self.run.seed, step, self.rank]).generate_state(1)[0]))
        self.optimizer.zero_grad()
        loss = sum_gradients(self.parameters, self.replica.backward(step))
        self.norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        set_rate(self.optimizer, step, self.total, self.settings.warmup_ratio)
        self.optimizer.step()
        return self.replica.rows(step), loss

    def _evaluate(self) -> dict[str, float]:
        """Return the metrics of the model, and save it to the run's folder if it is the best so far."""
        if self.run.evaluate is None:
            return {}
        self.replica.eval()
        metrics = {name: float(value) for name, value in self.run.evaluate(self.replica.model).items()}
        self.replica.train()
        name = self.settings.keep_best
        if name is None:
            return metrics
        if name not in metrics:
            raise RaylevanceError(
                f"keep_best={name}: the evaluation has no such metric; {nearest(name, list(metrics))}"
            )
        if self.progress.best is None or metrics[name] > self.progress.best:
            self.progress.best = metrics[name]
            save_folder(self.run.run_dir / BEST, self.replica.model.save)
        return metrics

    def _record(self, window: "LossWindow", evaluating: bool, logs: list[Log]) -> None:
        step = self.progress.step
        record = {
            "loss": window.mean_loss(),
            **{name: float(value) for name, value in self.replica.logged().items()},
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "pairs_per_second": window.pairs_per_second(),
        }
        self._check_finite("loss", record["loss"])
        if evaluating:
            record |= self._evaluate()
        self.progress.history.append({"step": step, **record})
        for log in logs:
            log.write(step, record)

    def _check_finite(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            raise RaylevanceError(
                f"the {name} is {value} at step {self.progress.step}: lower learning_rate, or set precision=fp32"
            )

    def _report(self, window: "LossWindow") -> None:
        """Report a checkpoint to Ray Train. Every rank takes part, and rank 0 writes it.

        `window` holds the steps since the latest record.
        Raises `RaylevanceError` if the loss or the gradient is not finite, so that no run resumes from such weights.
        """
        self.progress.losses, self.progress.examples = window.losses(), window.examples
        self._check_finite("loss", sum(self.progress.losses))
        self._check_finite("gradient", float(self.norm))
        metrics = {"step": self.progress.step}
        if self.rank != 0:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            save_checkpoint(Path(folder), self.replica, self.optimizer, self.progress)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


class LossWindow:
    """The losses of the steps since the latest record.

    They stay tensors until they are read, since reading one waits for the GPU.
    """

    def __init__(self, losses: Sequence[float] = (), examples: int = 0) -> None:
        """Start with the `losses` and the number of `examples` of such steps from before a restart."""
        self._before = list(losses)
        self._losses: list[torch.Tensor] = []
        self.examples, self._pairs = examples, 0
        self._start = time.perf_counter()

    def add(self, loss: torch.Tensor, examples: int, pairs: int) -> None:
        """Add a step: the sum of its losses, and its numbers of examples and of query-item pairs."""
        self._losses.append(loss)
        self.examples += examples
        self._pairs += pairs

    def mean_loss(self) -> float:
        """Return the mean loss per example."""
        return sum(self.losses()) / self.examples

    def losses(self) -> list[float]:
        """Return the loss of each step, summed over its examples."""
        return self._before + (torch.stack(self._losses).tolist() if self._losses else [])

    def pairs_per_second(self) -> float:
        """Return the query-item pairs trained on per second."""
        return self._pairs / (time.perf_counter() - self._start)


def total_steps(settings: TrainSettings, steps_per_epoch: int) -> int:
    """Return the number of steps of a run."""
    steps = settings.epochs * steps_per_epoch
    return min(steps, settings.max_steps or steps)
