"""Random changes that a single pixel does not have: noise that is smooth, and small changes of place."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks import SampleNoise
from lightning_adv.attacks.budget import Budget, as_float
from lightning_adv.detectors.mutation import Mutation
from lightning_adv.errors import InputError

__all__ = ["AffineMutation", "SmoothMutation"]


class SmoothMutation(Mutation):
    """The image plus normal noise on a coarse grid, interpolated between its nodes (cut to [0, 1]).

    A network averages independent noise of pixels away; smooth noise of the same length reaches it, so labels of
    images near the decision boundary change under much less of it.

    Args:
        std: standard deviation at a node, in pixel units of [0, 1]; between the nodes it is up to a half less.
        cell: pixels from node to node.

    Raises:
        InputError: a deviation that is not positive, a cell below 1.

    Example:
        >>> from lightning_adv.detectors.mutation import mutation_noise
        >>> noise = mutation_noise(0, torch.arange(2), torch.zeros(2, dtype=torch.int64))
        >>> SmoothMutation(0.1, cell=3)(torch.rand(2, 1, 8, 8), noise).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, std: Budget = 0.05, cell: int = 3) -> None:
        self.std, self.cell = as_float("std", std), cell
        if self.std <= 0:
            raise InputError(f"std must be positive, got {std}")
        if cell < 1:
            raise InputError(f"cell must be at least 1 pixel, got {cell}")

    def __call__(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """One mutation of each image [P, C, H, W]."""
        count, channels, *size = x.shape
        nodes = noise.normal(x.new_empty(count, channels, *(math.ceil(side / self.cell) for side in size)))
        return (x + self.std * F.interpolate(nodes, size=size, mode="bilinear")).clamp(0, 1)


class AffineMutation(Mutation):
    """The image shifted, turned and scaled a little; zeros come in at its border.

    Args:
        shift: largest, as a share of the image's side.
        degrees: largest turn to either side.
        scale: largest change of size to either side, as a share.

    Raises:
        InputError: a negative number, a scale of 1 or more, nothing that changes.

    Example:
        >>> from lightning_adv.detectors.mutation import mutation_noise
        >>> noise = mutation_noise(0, torch.arange(2), torch.zeros(2, dtype=torch.int64))
        >>> AffineMutation(shift=0.1)(torch.rand(2, 1, 8, 8), noise).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, shift: float = 0.05, degrees: float = 10.0, scale: float = 0.1) -> None:
        if min(shift, degrees, scale) < 0 or scale >= 1 or not max(shift, degrees, scale) > 0:
            raise InputError(
                "AffineMutation needs shift, degrees and scale that are not negative and not all 0, scale below 1, "
                f"got {shift}, {degrees} and {scale}"
            )
        self.shift, self.degrees, self.scale = shift, degrees, scale

    def __call__(self, x: Tensor, noise: SampleNoise) -> Tensor:
        """One mutation of each image [P, C, H, W]."""
        turn, size, right, down = (2 * noise.uniform(x.new_empty(len(x), 4)) - 1).T[:, :, None, None]
        angle, factor = math.radians(self.degrees) * turn, 1 + self.scale * size
        cos, sin = factor * angle.cos(), factor * angle.sin()
        height, width = x.shape[2:]
        rows, columns = _centres(height, x)[:, None], _centres(width, x)
        ratio = height / width  # a side is 2 long in the grid's units, whatever its pixels
        # Written out, not a product of matrices, whose rounding may depend on how many images there are.
        across = cos * columns - ratio * sin * rows + 2 * self.shift * right
        along = sin / ratio * columns + cos * rows + 2 * self.shift * down
        return F.grid_sample(x, torch.stack([across, along], dim=3), align_corners=False).clamp(0, 1)


def _centres(pixels: int, like: Tensor) -> Tensor:
    """[pixels] places of the pixels' middles on a side from -1 to 1."""
    return (2 * torch.arange(pixels, dtype=like.dtype, device=like.device) + 1) / pixels - 1
