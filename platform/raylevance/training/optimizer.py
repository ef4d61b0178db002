"""AdamW with parameter groups, linear warm-up and linear decay."""

from collections.abc import Iterable, Mapping

import torch

from raylevance.training.settings import TrainSettings
from raylevance.training.task import TaskReplica


def trainable(replica: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that are trained, by names that stay the same from run to run."""
    return {name: parameter for name, parameter in replica.named_parameters() if parameter.requires_grad}


def build_optimizer(replica: TaskReplica, settings: TrainSettings) -> torch.optim.AdamW:
    """Build AdamW for the trained parameters of `replica`, each at the learning rate of its parameter group.

    Parameters outside `replica.parameter_groups` learn at `settings.learning_rate`. Biases and the parameters of
    normalisation layers, which have one dimension, and scalars are not decayed.

    Raises `ValueError` if no parameter, trained or frozen, starts with a prefix of `replica.parameter_groups`.
    """
    rates = {"": settings.learning_rate, **replica.parameter_groups}
    _check_prefixes(replica.parameter_groups, [name for name, _ in replica.named_parameters()])
    parameters = trainable(replica)
    prefix_of = {name: _longest_prefix(name, rates) for name in parameters}
    groups = []
    for prefix, rate in rates.items():
        own = [parameter for name, parameter in parameters.items() if prefix_of[name] == prefix]
        groups += [
            {"params": [p for p in own if p.ndim > 1], "weight_decay": settings.weight_decay, "lr": rate},
            {"params": [p for p in own if p.ndim <= 1], "weight_decay": 0.0, "lr": rate},
        ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.learning_rate, fused=True)
    for group in optimizer.param_groups:
        group["peak"] = group["lr"]
    return optimizer


def _check_prefixes(groups: Mapping[str, float], names: list[str]) -> None:
    for prefix in groups:
        if not any(name.startswith(prefix) for name in names):
            tops = ", ".join(dict.fromkeys(name.split(".")[0] + "." for name in names))
            raise ValueError(f"parameter_groups: no parameter starts with {prefix!r}; their names start with {tops}")


def _longest_prefix(name: str, prefixes: Iterable[str]) -> str:
    return max((prefix for prefix in prefixes if name.startswith(prefix)), key=len)


def set_rate(optimizer: torch.optim.Optimizer, step: int, total: int, warmup_ratio: float) -> None:
    """Set the learning rates of `step` (0-based) of `total`.

    Each rate rises linearly to its peak over the first `warmup_ratio` of the steps, then falls linearly to 0.
    """
    warmup = round(total * warmup_ratio)
    factor = (step + 1) / warmup if step < warmup else (total - step) / max(1, total - warmup)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
