"""AdamW with linear warm-up and decay."""

import torch

from raylevance.training.settings import TrainSettings
from raylevance.training.task import Trainee


def trainable(trainee: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Every parameter that learns, by a name that stays the same from run to run."""
    return {name: parameter for name, parameter in trainee.named_parameters() if parameter.requires_grad}


def build_optimizer(trainee: Trainee, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW; biases and norms are not decayed, and what only training has learns at a rate of its own.

    A log temperature moves by about its rate a step: at the model's it would stay where it starts (our choice).
    """
    parameters = trainable(trainee)
    model = {name: parameter for name, parameter in parameters.items() if name.startswith("model.")}
    groups = [
        {"params": [p for p in model.values() if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in model.values() if p.ndim <= 1], "weight_decay": 0.0},
        {
            "params": [p for name, p in parameters.items() if name not in model],
            "weight_decay": 0.0,
            "lr": trainee.extra_rate,
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
