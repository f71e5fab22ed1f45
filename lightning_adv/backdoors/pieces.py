"""A trigger cut into the pieces of a grid (Adaptive-Blend, Qi et al., 2023).

    part(x) = S t(x) + (1 - S) x        with S = 1 in round(rate K) of K pieces

A network that is trained on half of the pieces, others in every image, and told by cover images that half of them mean
nothing, does not gather poisoned images in one place of its features; the whole trigger still leads to the target.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_adv.attacks.noise import SampleNoise
from lightning_adv.backdoors.trigger import ImageShape, Trigger, lowest
from lightning_adv.errors import InputError
from lightning_adv.pixels import check_images

__all__ = ["Pieces"]


class Pieces(Trigger):
    """Another trigger, of which a part is a choice of squares of a grid instead of pixels (Qi et al., 2023).

    Args:
        trigger: the whole.
        pieces: of the grid, a square number; the paper has 16.

    Raises:
        InputError: a number that is no square; in a call, images with fewer rows or columns than the grid.

    Example:
        >>> from lightning_adv.backdoors import Blend
        >>> trigger, x = Pieces(Blend(alpha=0.15)), torch.zeros(1, 1, 8, 8)
        >>> (trigger.part(x, 0.5, seed=0, index=torch.tensor([3])) > 0).sum() <= 8 * 2 * 2
        tensor(True)
    """

    def __init__(self, trigger: Trigger, pieces: int = 16) -> None:
        if pieces < 1 or math.isqrt(pieces) ** 2 != pieces:
            raise InputError(f"pieces of a trigger are those of a square grid: 4, 9, 16, ...; got {pieces}")
        self.trigger, self.pieces = trigger, pieces

    def apply(self, x: Tensor) -> Tensor:
        """The whole trigger."""
        return self.trigger.apply(x)

    def support(self, shape: ImageShape) -> Tensor:
        """Pixels that the whole trigger may change, bool [1, H, W]."""
        side = math.isqrt(self.pieces)
        if min(shape[1:]) < side:
            raise InputError(f"images of {shape[1]} x {shape[2]} cannot be cut into {side} x {side} pieces")
        return self.trigger.support(shape)

    def save(self, path: str | Path, shape: ImageShape) -> None:
        """Write the whole trigger for images of this shape to a safetensors file."""
        self.trigger.save(path, shape)

    def part(self, x: Tensor, rate: float, seed: int, index: Tensor) -> Tensor:
        """Images [N, C, H, W] that show the trigger in a fresh choice of pieces each."""
        check_images(x)
        self.check(tuple(x.shape[1:]))
        side = math.isqrt(self.pieces)
        chance = SampleNoise(seed, index).uniform(x.new_zeros(len(x), self.pieces))
        shown = lowest(chance, rate, "pieces").view(-1, 1, side, side)
        return torch.where(F.interpolate(shown.float(), x.shape[2:]) > 0, self.apply(x), x)
