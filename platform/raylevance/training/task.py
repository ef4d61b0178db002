"""What the loop trains: a task, told by the driver, and a trainee, which is the task's replica on each worker."""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from raylevance.training.settings import TrainSettings
from raylevance.training.token_file import Ints


@dataclass(frozen=True)
class Place:
    """Where a trainee works: `folder` of the run, `rank` of `world` workers. `dtype`: of autocast, None for float32."""

    folder: Path
    seed: int
    rank: int
    world: int
    dtype: torch.dtype | None


class Trainee(nn.Module):
    """A replica of what is trained.

    `model` is evaluated and kept: a module with `save(folder)` and `device`. What else is registered, such as a learned
    temperature, only training has; it learns at the rate `extra_rate`.
    """

    model: Any
    extra_rate: float = 0.0
    steps_per_epoch: int

    @abstractmethod
    def rows(self, step: int) -> Ints:
        """The examples of `step` (0-based) on all workers."""

    @abstractmethod
    def backward(self, step: int) -> torch.Tensor:
        """Add the gradient of this worker's share of `step`; returns its loss [], a sum over its examples."""

    @abstractmethod
    def pairs(self, rows: Ints) -> int:
        """Query-item pairs that the examples `rows` train on."""

    def logged(self) -> dict[str, torch.Tensor]:
        """Scalars worth a place in the log."""
        return {}


class Task(Protocol):
    """What is trained, on what. It is pickled to the workers, which have another working directory."""

    @property
    def settings(self) -> TrainSettings: ...

    def check(self) -> None:
        """Raises `RaylevanceError` for a model that can't be read, before any work."""

    def describe(self) -> dict[str, Any]:
        """What decides the result besides settings and seed, as JSON."""

    def prepare(self, folder: Path) -> None:
        """Check the data and write it as the workers read it to the run's `folder`; nothing where that is done."""

    def open(self, model: Path | None, place: Place) -> Trainee:
        """A trainee of the `model` that one saved to a checkpoint, None: of the one that the task starts from."""


def located(model: Path) -> Path:
    """A folder by its absolute path, for processes that work elsewhere; a hub id as it is."""
    return model.absolute() if model.exists() else model
