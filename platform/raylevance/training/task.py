"""The thing that the training loop trains: a task, which the driver describes, and its replica on each worker."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import nn

from raylevance.training.epoch_plan import StepPlan
from raylevance.training.settings import TrainSettings
from raylevance.training.token_file import Ints, RowKind, write_tokens

S = TypeVar("S", bound=TrainSettings)

TOKENS = "tokens.arrow"


@dataclass(frozen=True)
class WorkerContext:
    """Facts about the run, and about the worker that a replica is on.

    - `run_dir`: folder of the run, on storage that all nodes see.
    - `seed`: seed of the run.
    - `rank`, `world_size`: number of this worker (0-based), and of all workers.
    - `autocast_dtype`: number format of the forward pass, None for float32.
    - `batch_tokens`: tokens of one forward and backward pass, None for the model's default.
    """

    run_dir: Path
    seed: int
    rank: int = 0
    world_size: int = 1
    autocast_dtype: torch.dtype | None = None
    batch_tokens: int | None = None

    def share(self, rows: Ints) -> Ints:
        """Return this worker's share of `rows` [n], the rows of a step on all workers."""
        return rows[self.rank :: self.world_size]


class TaskReplica(nn.Module):
    """The copy of a task that one worker trains.

    A subclass implements `backward`, which computes the gradient of a step. Modules that it registers besides `model`,
    such as a learned temperature, are trained and kept in checkpoints, but are not part of the trained model.

    - `model`: the module that is evaluated and saved; it has `save(folder)` and `device`.
    - `plan`: the rows of each step.
    - `context`: the run and the worker.
    - `parameter_groups`: learning rates of parameters whose name in the replica starts with a prefix, such as
      `{"model.head.": 1e-3}`; the longest matching prefix counts. The others learn at the rate of the settings.
    """

    model: Any
    parameter_groups: Mapping[str, float] = {}

    def __init__(self, model: nn.Module, plan: StepPlan, context: WorkerContext) -> None:
        super().__init__()
        self.model, self.plan, self.context = model, plan, context

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps of one pass over the data."""
        return self.plan.steps_per_epoch

    @property
    def batch_tokens(self) -> int:
        """Tokens of one forward and backward pass, padding included."""
        return self.context.batch_tokens or int(self.model.default_batch_tokens)

    def rows(self, step: int) -> Ints:
        """Return the examples of `step` (0-based) on all workers."""
        return self.plan.rows(step)

    def pairs(self, rows: Ints) -> int:
        """Return the number of query-item pairs that the examples `rows` train on: one each, unless overridden."""
        return len(rows)

    @abstractmethod
    def backward(self, step: int) -> torch.Tensor:
        """Add the gradient of this worker's share of `step` to the parameters.

        Returns the loss of the share as a scalar, summed over its examples.
        """

    def zero_loss(self) -> torch.Tensor:
        """Return a scalar 0 on the device of the model, to which the losses of a step are added."""
        return torch.zeros((), device=self.model.device)

    def logged(self) -> dict[str, torch.Tensor]:
        """Return scalars of the latest step to log with the loss, by name."""
        return {}


class Task(Protocol):
    """A model to train and the data to train it on, pickled to workers that have another working directory."""

    @property
    def settings(self) -> TrainSettings:
        """Settings that decide the result."""

    def check(self) -> None:
        """Raise `RaylevanceError` if the model can't be read, before any work is done."""

    def describe(self) -> dict[str, Any]:
        """Return what decides the result besides the settings and the seed, as JSON."""

    def prepare(self, run_dir: Path) -> None:
        """Check the data and write it to `run_dir` as the workers read it, unless that is done already."""

    def open(self, model: Path | None, context: WorkerContext) -> TaskReplica:
        """Return a replica whose model is loaded from the folder `model` of a checkpoint.

        None loads the model that the task starts from.
        """


@dataclass
class TextTask(ABC, Generic[S]):
    """A task that trains the model at `model` on the rows of text in `data`, which are tokenised once.

    A subclass states the `row_kind` of its data and implements `open`. It may add fields; those other than the settings
    are part of what `describe` returns.

    - `model`: folder or Hugging Face id of the model that training starts from.
    - `data`: Parquet file or folder with the columns of `row_kind`; other columns are ignored.
    - `settings`: settings that decide the result.
    """

    model: Path
    data: Path
    settings: S
    row_kind: ClassVar[RowKind]

    def __post_init__(self) -> None:
        self.model = absolute_if_local(self.model)

    def check(self) -> None:
        """Raise `RaylevanceError` if the tokenizer of the model can't be loaded."""
        self.row_kind.load_tokenizer(str(self.model))

    def describe(self) -> dict[str, Any]:
        """Return the model and the data by their paths, and any field that a subclass adds, as strings."""
        return {field.name: str(getattr(self, field.name)) for field in fields(self) if field.name != "settings"}

    def prepare(self, run_dir: Path) -> None:
        """Tokenise the data. Raises `RaylevanceError` as `write_tokens` does."""
        write_tokens(self.data, self.model, run_dir / TOKENS, self.row_kind)

    @abstractmethod
    def open(self, model: Path | None, context: WorkerContext) -> TaskReplica:
        """Return a replica of the task, as `Task.open` does."""


def absolute_if_local(model: Path) -> Path:
    """Return the absolute path of a folder, for processes with another working directory, or a hub id as it is."""
    return model.absolute() if model.exists() else model
