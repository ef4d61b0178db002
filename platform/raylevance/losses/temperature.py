"""The learned temperature of a softmax over cosines."""

import math

import torch
from torch import nn

INITIAL_TEMPERATURE = 0.07
MAX_SCALE = 100.0
MIN_TEMPERATURE = 1 / MAX_SCALE


class Temperature(nn.Module):
    """A learned temperature tau. The parameter is log(1/tau), and calling the module returns the scale 1/tau.

    Source: CLIP (Radford et al. 2021, arXiv 2103.00020), section 2.5: tau starts at 0.07, and the scale stays at or
    below 100.
    """

    def __init__(self, initial: float = INITIAL_TEMPERATURE) -> None:
        """Start at the temperature `initial`. Raises `ValueError` if it is below the least one, 0.01."""
        super().__init__()
        if initial < MIN_TEMPERATURE:
            raise ValueError(f"a temperature of {initial}: expected at least {MIN_TEMPERATURE}")
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / initial)))

    def forward(self) -> torch.Tensor:
        """Return the scale 1/tau, a scalar."""
        # Clamping the result instead of the parameter would give a gradient of 0 from then on.
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(MAX_SCALE))
        return self.log_scale.exp()
