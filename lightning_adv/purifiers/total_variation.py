"""Total variance minimisation (Guo et al., 2018): keep a random half of the pixels, smooth the rest.

min_u  sum_p |grad u|_p  +  1/(2 weight) sum_p m_p (u_p - x_p)^2,    m_p ~ Bernoulli(1 - dropout)
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks import SampleNoise
from lightning_adv.errors import InputError, at_least_one
from lightning_adv.purifiers.gradients import MEMORY, fitting, in_parts, recomputed
from lightning_adv.purifiers.purifier import Purifier
from lightning_adv.purifiers.split_bregman import iterated, minimised

__all__ = ["TotalVariation"]

PENALTY = 0.2
"""Of the split gradient, as a share of 1 / weight: the fastest of those tried on photographs and digits."""

STEPS_TOGETHER = 10
"""Whose intermediate values are kept at a time in a backward pass."""

KEPT_A_STEP, KEPT_BESIDE, KEPT_A_STATE = 5, 26, 3
"""Numbers that a backward pass keeps for each number of an image: a step, around the steps, a state between them."""

PIXELS_TOGETHER = 2**16
"""Most values in one piece of a batch without a gradient: more would leave the caches of a CPU."""


class TotalVariation(Purifier):
    """Random pixels are dropped and the image of least total variation near the others is taken, all images at once.

    The total variation is isotropic and of each channel by itself. Its exact gradient costs the memory of ten steps of
    as many images as ``memory`` allows: one of 3 x 224 x 224 pixels takes some 50 MiB, on a CPU some 270 with what the
    heap does not find again, and an adaptive attacker who averages over 8 draws has eight of each. Parts that do not
    fit together are computed again in the backward pass.

    Args:
        dropout: probability that a value (of one pixel and channel) is dropped.
        weight: of the total variation; larger is smoother.
        steps: of the split Bregman iteration; 30 come within a grey level (mean) of the minimiser.
        seed: of the dropped pixels.
        memory: MiB that the graph of the exact gradient may take; of one image at least.

    Raises:
        InputError: a value out of range; at the call, an image of fewer than 2 x 2 pixels.

    Example:
        >>> TotalVariation(dropout=0)(torch.full((1, 1, 4, 4), 0.5)).flatten()[:2]
        tensor([0.5000, 0.5000])
    """

    def __init__(
        self, dropout: float = 0.5, weight: float = 0.03, steps: int = 30, seed: int = 0, memory: float = MEMORY
    ) -> None:
        super().__init__(seed)
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must lie in [0, 1), got {dropout}")
        if not 0 < weight < float("inf"):
            raise InputError(f"weight must be positive and finite, got {weight}")
        at_least_one(steps=steps)
        if not 0 < memory < float("inf"):
            raise InputError(f"memory must be a positive number of MiB, got {memory}")
        self.dropout, self.weight, self.steps, self.memory = dropout, weight, steps, memory

    @property
    def randomised(self) -> bool:
        """Unless no pixel is dropped."""
        return self.dropout > 0

    def purify(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """The minimiser u."""
        if min(x.shape[2:]) < 2:
            raise InputError(f"total variation needs images of at least 2 x 2 pixels, got {tuple(x.shape[2:])}")
        kept = noise.uniform(x) >= self.dropout
        if x.requires_grad and torch.is_grad_enabled():
            return in_parts(self._with_graph, fitting(x, self._kept(), self.memory), x, kept)
        kept = kept.to(x.dtype)
        start, fidelity = _filled(x, kept), kept / self.weight
        size = max(1, PIXELS_TOGETHER // x[0].numel())
        parts = zip(start.split(size), x.split(size), fidelity.split(size), strict=True)
        return torch.cat([minimised(*part, self.steps, PENALTY / self.weight) for part in parts])

    def _with_graph(self, x: Tensor, kept: Tensor) -> Tensor:
        kept = kept.to(x.dtype)
        fidelity, penalty = kept / self.weight, PENALTY / self.weight
        state = torch.stack([_filled(x, kept), torch.zeros_like(x), torch.zeros_like(x)])  # u, b_x, b_y
        for done in range(0, self.steps, STEPS_TOGETHER):
            steps = min(STEPS_TOGETHER, self.steps - done)
            state = recomputed(partial(iterated, steps=steps, penalty=penalty), state, x, fidelity)
        return state[0]

    def _kept(self) -> float:
        """Numbers that a backward pass keeps for each number of an image."""
        at_once = min(self.steps, STEPS_TOGETHER)
        states = -(-self.steps // STEPS_TOGETHER)
        return KEPT_A_STEP * at_once + KEPT_BESIDE + KEPT_A_STATE * states


def _filled(x: Tensor, kept: Tensor) -> Tensor:
    """Where to start: dropped pixels take the mean of those that were kept in the 5 x 5 around them."""
    mean = F.avg_pool2d(kept * x, 5, 1, 2) / F.avg_pool2d(kept, 5, 1, 2).clamp_min(1e-6)
    return torch.where(kept > 0, x, mean)
