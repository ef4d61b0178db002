"""The momentum encoder: a slow copy of the encoder, which makes the keys."""

import copy
from typing import Any, Self

import torch
from torch import nn

from raylevance.models.encoder import Encoder


class MomentumEncoder(nn.Module):
    """`encoder`: the copy, without gradients or dropout.

    Source: MoCo (He et al. 2020, arXiv 1911.05722), eq. 2.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.register_state_dict_post_hook(_name_shared_tensors_once)  # type: ignore[no-untyped-call]
        self.eval()

    @torch.no_grad()
    def follow(self, encoder: Encoder, momentum: float) -> None:
        """theta_k <- m theta_k + (1 - m) theta_q; equal weights stay equal to the bit."""
        for slow, fast in zip(self.encoder.parameters(), encoder.parameters(), strict=True):
            slow.lerp_(fast, 1 - momentum)

    def train(self, mode: bool = True) -> Self:
        """Keys are made without dropout, whatever the mode of what surrounds it."""
        return super().train(False)


def _name_shared_tensors_once(module: nn.Module, state: dict[str, Any], prefix: str, metadata: object) -> None:
    """Safetensors refuses two names for a tensor, which a tied encoder has; loading needs one of them."""
    seen: set[int] = set()
    for name in [name for name in state if name.startswith(prefix)]:
        if state[name].data_ptr() in seen:
            del state[name]
        else:
            seen.add(state[name].data_ptr())
