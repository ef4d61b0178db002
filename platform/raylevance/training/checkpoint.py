"""A checkpoint: everything that makes the next step what it would have been. Safetensors and JSON.

The batches, the learning rate and the random numbers of a step are functions of the seed and the step, so the state is
the weights, AdamW's moments, the step and what has been logged.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from raylevance.models.encoder import Encoder
from raylevance.training.objectives import Objective

ENCODER = "encoder"
TENSORS = "training.safetensors"
PROGRESS = "progress.json"


@dataclass
class Progress:
    """`step`: optimiser steps done. `history`: a record a logged step. `best`: the highest `keep_best` value so far."""

    step: int = 0
    best: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> "Progress":
        return cls(**json.loads((folder / PROGRESS).read_text(encoding="utf-8")))


def save_checkpoint(
    folder: Path,
    encoder: Encoder,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    parameters: dict[str, torch.nn.Parameter],
    progress: Progress,
) -> None:
    encoder.save(folder / ENCODER)
    tensors = {f"objective/{name}": tensor for name, tensor in objective.state_dict().items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key}/{name}"] = value
    safetensors.torch.save_file(tensors, folder / TENSORS)
    (folder / PROGRESS).write_text(json.dumps(asdict(progress)), encoding="utf-8")


def load_checkpoint(
    folder: Path,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    parameters: dict[str, torch.nn.Parameter],
) -> Progress:
    """Put back what `save_checkpoint` kept, but for the encoder, which is loaded from `folder / ENCODER` beforehand."""
    tensors = safetensors.torch.load_file(folder / TENSORS)
    prefix = "objective/"
    state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    objective.load_state_dict(state)
    for name, parameter in parameters.items():
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
