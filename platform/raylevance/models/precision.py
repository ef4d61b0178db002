"""Choose the number format that a device computes in."""

import os
from typing import Literal

import torch
from torch import nn

from raylevance.errors import RaylevanceError

PRECISION_VARIABLE = "RAYLEVANCE_PRECISION"


def autocast_dtype(device: torch.device | str) -> torch.dtype | None:
    """Return bfloat16 if the device has instructions for it (CUDA, AVX512-BF16, AMX), else None for float32.

    Without such instructions, bfloat16 is emulated and slower than float32. `RAYLEVANCE_PRECISION=fp32` in the
    environment chooses float32 on every machine, so that machines of both kinds give the same results.

    Raises `RaylevanceError` if the variable has a value other than auto and fp32.
    """
    if requested_precision() == "fp32":
        return None
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    capabilities = torch.cpu.get_capabilities()
    return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else None


def forward_dtype(precision: Literal["auto", "fp32", "bf16"], device: torch.device | str) -> torch.dtype | None:
    """Return the number format of a forward pass in training, None for float32; `auto` is that of `autocast_dtype`."""
    return {"auto": autocast_dtype(device), "fp32": None, "bf16": torch.bfloat16}[precision]


def requested_precision() -> str:
    """Return the value of `RAYLEVANCE_PRECISION`: auto, which is the default, or fp32.

    Raises `RaylevanceError` for any other value.
    """
    requested = os.environ.get(PRECISION_VARIABLE, "auto")
    if requested not in ("auto", "fp32"):
        raise RaylevanceError(f"{PRECISION_VARIABLE}={requested}: expected auto or fp32")
    return requested


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """Return a context that computes in `dtype`, or in float32 if it is None."""
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def prepare_for_inference(module: nn.Module) -> None:
    """Put `module` in evaluation mode, and cast the weights of its linear layers to the format of `autocast_dtype`.

    Autocast would cast them at each forward pass, which takes half the time of encoding one query. The results are the
    same. After this the module must not be trained or saved.

    Raises `RaylevanceError` as `autocast_dtype` does.
    """
    module.eval()
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.requires_grad_(False).to(autocast_dtype(layer.weight.device))
