"""Checkpoints, from which a run continues as if it had not stopped, as safetensors and JSON files.

The batches, the learning rate and the random numbers of a step depend on the seed and the step only. A checkpoint
therefore holds the weights, AdamW's moments of the trained parameters, the step, and what has been logged.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from raylevance.training.optimizer import trainable
from raylevance.training.task import TaskReplica

MODEL = "model"
TENSORS = "training.safetensors"
PROGRESS = "progress.json"
EXTRA = "extra/"
"""Prefix of tensors of the replica that are not part of its model."""


@dataclass
class Progress:
    """How far a run has come.

    - `step`: number of optimiser steps done.
    - `best`: highest value of the `keep_best` metric so far.
    - `history`: one record for each logged step.
    - `losses`, `examples`: loss of each step since the latest record, and the number of examples of those steps.
    """

    step: int = 0
    best: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    examples: int = 0

    @classmethod
    def read(cls, folder: Path) -> "Progress":
        """Read the progress of the checkpoint in `folder`."""
        return cls(**json.loads((folder / PROGRESS).read_text(encoding="utf-8")))


def save_checkpoint(folder: Path, replica: TaskReplica, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Write a checkpoint to `folder`."""
    replica.model.save(folder / MODEL)
    tensors = {
        f"{EXTRA}{name}": tensor for name, tensor in replica.state_dict().items() if not name.startswith("model.")
    }
    for name, parameter in trainable(replica).items():
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key}/{name}"] = value
    safetensors.torch.save_file(tensors, folder / TENSORS)
    (folder / PROGRESS).write_text(json.dumps(asdict(progress)), encoding="utf-8")


def load_checkpoint(folder: Path, replica: TaskReplica, optimizer: torch.optim.Optimizer) -> Progress:
    """Restore `replica` and `optimizer` from the checkpoint in `folder`, and return its progress.

    The model itself is not restored: open the replica with `folder / MODEL`.
    """
    tensors = safetensors.torch.load_file(folder / TENSORS)
    extra = {name.removeprefix(EXTRA): value for name, value in tensors.items() if name.startswith(EXTRA)}
    replica.load_state_dict(extra, strict=False)
    for name, parameter in trainable(replica).items():
        moments = {key: tensors[f"{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in moments.items()}
    return Progress.read(folder)


def save_folder(target: Path, write: Callable[[Path], object]) -> None:
    """Replace the folder `target` by one that `write` fills elsewhere, so that no reader sees it half written."""
    draft = target.with_name(f".{target.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    write(draft)
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
