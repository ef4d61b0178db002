"""The learned temperature of a softmax over cosines."""

import math

import torch
from torch import nn

START = 0.07
LARGEST_SCALE = 100.0


class Temperature(nn.Module):
    """Learns log(1/tau); calling it gives the scale 1/tau.

    Source: CLIP (Radford et al. 2021, arXiv 2103.00020), 2.5: start 0.07, the scale held at 100 or below.
    """

    def __init__(self, start: float = START) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / start)))

    def forward(self) -> torch.Tensor:
        """The scale, a scalar. The parameter is clamped, not the result: that would stop its gradient for good."""
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(LARGEST_SCALE))
        return self.log_scale.exp()
