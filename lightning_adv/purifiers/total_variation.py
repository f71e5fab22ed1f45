"""Total variance minimisation (Guo et al., 2018): keep a random half of the pixels, smooth the rest.

min_u  sum_p |grad u|_p  +  1/(2 weight) sum_p m_p (u_p - x_p)^2,    m_p ~ Bernoulli(1 - dropout)
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks import SampleNoise
from lightning_adv.errors import InputError
from lightning_adv.purifiers.gradients import recomputed
from lightning_adv.purifiers.purifier import Purifier
from lightning_adv.purifiers.split_bregman import iterated, minimised

__all__ = ["TotalVariation"]

PENALTY = 0.2
"""Of the split gradient, as a share of 1 / weight: the fastest of those tried on photographs and digits."""

STEPS_TOGETHER = 10
"""Whose intermediate values are kept at a time in a backward pass."""

PIXELS_TOGETHER = 2**16
"""Most values in one piece of a batch without a gradient: more would leave the caches of a CPU."""


class TotalVariation(Purifier):
    """Random pixels are dropped and the image of least total variation near the others is taken, all images at once.

    The total variation is isotropic and of each channel by itself. Its exact gradient costs the memory of ten steps.

    Args:
        dropout: probability that a value (of one pixel and channel) is dropped.
        weight: of the total variation; larger is smoother.
        steps: of the split Bregman iteration; 30 come within a grey level (mean) of the minimiser.
        seed: of the dropped pixels.

    Raises:
        InputError: a value out of range; at the call, an image of fewer than 2 x 2 pixels.

    Example:
        >>> TotalVariation(dropout=0)(torch.full((1, 1, 4, 4), 0.5)).flatten()[:2]
        tensor([0.5000, 0.5000])
    """

    def __init__(self, dropout: float = 0.5, weight: float = 0.03, steps: int = 30, seed: int = 0) -> None:
        super().__init__(seed)
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must lie in [0, 1), got {dropout}")
        if not 0 < weight < float("inf"):
            raise InputError(f"weight must be positive and finite, got {weight}")
        if steps < 1:
            raise InputError(f"steps must be at least 1, got {steps}")
        self.dropout, self.weight, self.steps = dropout, weight, steps

    @property
    def randomised(self) -> bool:
        """Unless no pixel is dropped."""
        return self.dropout > 0

    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """The minimiser u."""
        if min(x.shape[2:]) < 2:
            raise InputError(f"total variation needs images of at least 2 x 2 pixels, got {tuple(x.shape[2:])}")
        kept = (noise.uniform(x) >= self.dropout).to(x.dtype)
        start, fidelity, penalty = _filled(x, kept), kept / self.weight, PENALTY / self.weight
        if x.requires_grad and torch.is_grad_enabled():
            return self._with_graph(start, x, fidelity, penalty)
        size = max(1, PIXELS_TOGETHER // x[0].numel())
        parts = zip(start.split(size), x.split(size), fidelity.split(size), strict=True)
        return torch.cat([minimised(*part, self.steps, penalty) for part in parts])

    def _with_graph(self, start: Tensor, x: Tensor, fidelity: Tensor, penalty: float) -> Tensor:
        state = torch.stack([start, torch.zeros_like(x), torch.zeros_like(x)])  # u, b_x, b_y
        for done in range(0, self.steps, STEPS_TOGETHER):
            steps = min(STEPS_TOGETHER, self.steps - done)
            state = recomputed(partial(iterated, steps=steps, penalty=penalty), state, x, fidelity)
        return state[0]


def _filled(x: Tensor, kept: Tensor) -> Tensor:
    """Where to start: dropped pixels take the mean of those that were kept in the 5 x 5 around them."""
    mean = F.avg_pool2d(kept * x, 5, 1, 2) / F.avg_pool2d(kept, 5, 1, 2).clamp_min(1e-6)
    return torch.where(kept > 0, x, mean)
