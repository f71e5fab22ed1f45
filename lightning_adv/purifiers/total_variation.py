"""Total variance minimisation (Guo et al., 2018): keep a random half of the pixels, smooth the rest.

    min_u  sum_p |grad u|_p  +  1/(2 weight) sum_p m_p (u_p - x_p)^2,    m_p ~ Bernoulli(1 - dropout)

by the split Bregman iteration (Goldstein and Osher, 2009) with d for the gradient of u:

    d = shrink(grad u + b, 1 / penalty),   b = b + grad u - d,
    (m / weight + penalty grad^T grad) u = m x / weight + penalty grad^T (d - b)    by one red-black sweep
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks import SampleNoise
from lightning_adv.errors import InputError
from lightning_adv.purifiers.gradients import recomputed
from lightning_adv.purifiers.purifier import Purifier

__all__ = ["TotalVariation"]

PENALTY = 0.25
"""Of d = grad u, as a share of 1 / weight: the fastest of those tried on photographs and digits."""

RELAXATION = 1.3
"""Of the sweep."""

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
        steps: of the split Bregman iteration; 50 come within a grey level (mean) of the minimiser.
        seed: of the dropped pixels.

    Raises:
        InputError: a value out of range; at the call, an image of fewer than 2 x 2 pixels.

    Example:
        >>> TotalVariation(dropout=0)(torch.full((1, 1, 4, 4), 0.5)).flatten()[:2]
        tensor([0.5000, 0.5000])
    """

    def __init__(self, dropout: float = 0.5, weight: float = 0.03, steps: int = 50, seed: int = 0) -> None:
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
        if x.requires_grad and torch.is_grad_enabled():
            return self._minimised(x, kept)
        size = max(1, PIXELS_TOGETHER // x[0].numel())
        return torch.cat([self._minimised(*part) for part in zip(x.split(size), kept.split(size), strict=True)])

    def _minimised(self, x: Tensor, kept: Tensor) -> Tensor:
        fidelity = kept / self.weight
        penalty = PENALTY / self.weight
        state = torch.stack([_filled(x, kept), torch.zeros_like(x), torch.zeros_like(x)])  # u, b_x, b_y
        for done in range(0, self.steps, STEPS_TOGETHER):
            steps = min(STEPS_TOGETHER, self.steps - done)
            state = recomputed(partial(_iterated, steps=steps, penalty=penalty), state, x, fidelity)
        return state[0]


def _iterated(state: Tensor, x: Tensor, fidelity: Tensor, steps: int, penalty: float) -> Tensor:
    """State (u, b_x, b_y) [3, N, C, H, W] after some steps."""
    u, b_x, b_y = state
    pull = fidelity * x
    sweep = [colour * RELAXATION / (fidelity + penalty * _degree(x)) for colour in _checkerboard(x)]
    for _ in range(steps):
        g_x, g_y = _gradient(u)
        t_x, t_y = g_x + b_x, g_y + b_y
        # 1e-12 keeps the square root differentiable in flat areas
        shrink = (1 - (1 / penalty) * (t_x * t_x + t_y * t_y + 1e-12).rsqrt()).clamp_min(0)
        d_x, d_y = t_x * shrink, t_y * shrink
        b_x, b_y = t_x - d_x, t_y - d_y
        goal = pull + penalty * _adjoint(d_x - b_x, d_y - b_y)
        for colour in sweep:
            u = u + colour * (goal - fidelity * u - penalty * _adjoint(*_gradient(u)))
    return torch.stack([u, b_x, b_y])


def _gradient(u: Tensor) -> tuple[Tensor, Tensor]:
    """Forward differences along width and height, 0 at the far edges."""
    return F.pad(u[..., 1:] - u[..., :-1], (0, 1)), F.pad(u[..., 1:, :] - u[..., :-1, :], (0, 0, 0, 1))


def _adjoint(p_x: Tensor, p_y: Tensor) -> Tensor:
    """grad^T p; p is 0 at the far edges."""
    return F.pad(p_x, (1, 0))[..., :-1] - p_x + F.pad(p_y, (0, 0, 1, 0))[..., :-1, :] - p_y


def _degree(x: Tensor) -> Tensor:
    """[1, 1, H, W] number of neighbours of each pixel: the diagonal of grad^T grad."""
    cross = x.new_tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]]).view(1, 1, 3, 3)
    return F.conv2d(torch.ones_like(x[:1, :1]), cross, padding=1)


def _checkerboard(x: Tensor) -> tuple[Tensor, Tensor]:
    """[H, W], 1 on the pixels of either colour."""
    places = (torch.arange(size, device=x.device) for size in x.shape[2:])
    red = (sum(torch.meshgrid(*places, indexing="ij")) % 2).to(x.dtype)
    return red, 1 - red


def _filled(x: Tensor, kept: Tensor) -> Tensor:
    """Where to start: dropped pixels take the mean of those that were kept in the 5 x 5 around them."""
    mean = F.avg_pool2d(kept * x, 5, 1, 2) / F.avg_pool2d(kept, 5, 1, 2).clamp_min(1e-6)
    return torch.where(kept > 0, x, mean)
