"""The momentum encoder, a slowly following copy of the encoder that makes the keys."""

import copy
from typing import Any, Self

import torch
from torch import nn

from raylevance.models.encoder import Encoder


class MomentumEncoder(nn.Module):
    """A copy of an encoder, `encoder`, that has no gradients and no dropout.

    Source: MoCo (He et al. 2020, arXiv 1911.05722), eq. 2.
    """

    def __init__(self, encoder: Encoder) -> None:
        """Copy `encoder`."""
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.register_state_dict_post_hook(_name_shared_tensors_once)  # type: ignore[no-untyped-call]
        self.eval()

    @torch.no_grad()
    def follow(self, encoder: Encoder, momentum: float) -> None:
        """Move the weights towards those of `encoder`: theta_k <- m theta_k + (1 - m) theta_q.

        Weights that are equal stay equal to the bit.
        """
        for slow, fast in zip(self.encoder.parameters(), encoder.parameters(), strict=True):
            slow.lerp_(fast, 1 - momentum)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode whatever `mode` is, since keys are made without dropout."""
        return super().train(False)


def _name_shared_tensors_once(module: nn.Module, state: dict[str, Any], prefix: str, metadata: object) -> None:
    """Keep one name of each tensor: safetensors refuses two, which a tied encoder has, and loading needs only one."""
    seen: set[int] = set()
    for name in [name for name in state if name.startswith(prefix)]:
        if state[name].data_ptr() in seen:
            del state[name]
        else:
            seen.add(state[name].data_ptr())
