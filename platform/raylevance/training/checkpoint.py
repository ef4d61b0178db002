"""A checkpoint: everything that makes the next step what it would have been. Safetensors and JSON.

The batches, the learning rate and the random numbers of a step are functions of the seed and the step, so the state is
the weights, AdamW's moments (of what learns), the step and what has been logged.
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
from raylevance.training.task import Trainee

MODEL = "model"
TENSORS = "training.safetensors"
PROGRESS = "progress.json"
EXTRA = "extra/"


@dataclass
class Progress:
    """`step`: optimiser steps done. `history`: a record a logged step. `best`: the highest `keep_best` value so far.

    `losses`, `examples`: of the steps since the last record.
    """

    step: int = 0
    best: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    examples: int = 0

    @classmethod
    def read(cls, folder: Path) -> "Progress":
        return cls(**json.loads((folder / PROGRESS).read_text(encoding="utf-8")))


def save_checkpoint(folder: Path, trainee: Trainee, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    trainee.model.save(folder / MODEL)
    tensors = {
        f"{EXTRA}{name}": tensor for name, tensor in trainee.state_dict().items() if not name.startswith("model.")
    }
    for name, parameter in trainable(trainee).items():
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key}/{name}"] = value
    safetensors.torch.save_file(tensors, folder / TENSORS)
    (folder / PROGRESS).write_text(json.dumps(asdict(progress)), encoding="utf-8")


def load_checkpoint(folder: Path, trainee: Trainee, optimizer: torch.optim.Optimizer) -> Progress:
    """Put back what `save_checkpoint` kept, but for the model, which is loaded from `folder / MODEL` beforehand."""
    tensors = safetensors.torch.load_file(folder / TENSORS)
    extra = {name.removeprefix(EXTRA): value for name, value in tensors.items() if name.startswith(EXTRA)}
    trainee.load_state_dict(extra, strict=False)
    for name, parameter in trainable(trainee).items():
        moments = {key: tensors[f"{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in moments.items()}
    return Progress.read(folder)


def save_folder(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a folder beside `target`, then put it in its place: no reader sees half of it."""
    draft = target.with_name(f".{target.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    write(draft)
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
