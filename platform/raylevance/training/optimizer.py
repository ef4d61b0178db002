"""AdamW with linear warm-up and decay."""

from itertools import chain

import torch

from raylevance.models.encoder import Encoder
from raylevance.training.objectives import Objective
from raylevance.training.settings import TrainSettings


def trainable(encoder: Encoder, objective: Objective) -> dict[str, torch.nn.Parameter]:
    """Every parameter that learns, by a name that stays the same from run to run."""
    named = chain(encoder.named_parameters(prefix="encoder"), objective.named_parameters(prefix="objective"))
    return {name: parameter for name, parameter in named if parameter.requires_grad}


def build_optimizer(parameters: dict[str, torch.nn.Parameter], settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW; biases and norms are not decayed, and the objective's parameters have a rate of their own.

    A log temperature moves by about its rate a step: at the encoder's it would stay where it starts (our choice).
    """
    encoder = {name: parameter for name, parameter in parameters.items() if name.startswith("encoder.")}
    groups = [
        {"params": [p for p in encoder.values() if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in encoder.values() if p.ndim <= 1], "weight_decay": 0.0},
        {
            "params": [p for name, p in parameters.items() if name not in encoder],
            "weight_decay": 0.0,
            "lr": settings.temperature_learning_rate,
        },
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.learning_rate, fused=True)
    for group in optimizer.param_groups:
        group["peak"] = group["lr"]
    return optimizer


def set_rate(optimizer: torch.optim.Optimizer, step: int, total: int, warmup_ratio: float) -> None:
    """The rates of `step` (0-based) of `total`: up to the peak over the warm-up's steps, then linearly down to 0."""
    warmup = round(total * warmup_ratio)
    factor = (step + 1) / warmup if step < warmup else (total - step) / max(1, total - warmup)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
