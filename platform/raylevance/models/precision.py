"""The number format that a device computes best in."""

import os

import torch

from raylevance.errors import RaylevanceError

VARIABLE = "RAYLEVANCE_PRECISION"


def autocast_dtype(device: torch.device | str) -> torch.dtype | None:
    """bfloat16 where the processor computes in it (CUDA, AVX512-BF16, AMX), None (float32) elsewhere.

    Without such instructions bf16 is emulated, and slower than float32. `RAYLEVANCE_PRECISION=fp32` in the environment
    gives float32 everywhere: machines of both kinds then agree. Raises `RaylevanceError` for another value than auto.
    """
    if asked_precision() == "fp32":
        return None
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    capabilities = torch.cpu.get_capabilities()
    return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else None


def asked_precision() -> str:
    """auto, or fp32 where the environment says so. Raises `RaylevanceError` for another value."""
    asked = os.environ.get(VARIABLE, "auto")
    if asked not in ("auto", "fp32"):
        raise RaylevanceError(f"{VARIABLE}={asked}: expected auto or fp32")
    return asked


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """Autocast to `dtype`; None computes in float32."""
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)
